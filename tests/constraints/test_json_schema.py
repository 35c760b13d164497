"""JSON schemas and types as constraints: what is written is valid, and what is valid can be
written. The judge is the jsonschema library."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_tools import instance, schemas, write

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.schema_check import check_text

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["cat", "category"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}
ADA = '{"name": "Ada é", "age": 36, "kind": "category"}'
NESTED: dict = {}
for _ in range(3000):
    NESTED = {"items": NESTED}
LAYOUTS = {
    "default": lambda v: json.dumps(v, ensure_ascii=False),
    "compact": lambda v: json.dumps(v, ensure_ascii=False, separators=(",", ":")),
    "indent": lambda v: json.dumps(v, ensure_ascii=False, indent=2),
    "free": lambda v: json.dumps(v, ensure_ascii=False, indent="\t"),
}


def valid(schema, value) -> bool:
    kind = jsonschema.Draft202012Validator
    return kind(schema, format_checker=kind.FORMAT_CHECKER).is_valid(value)


def compiled(schema, tokenizer, **options):
    """None where no text can satisfy the schema."""
    try:
        return compile_constraint(json_schema=schema, tokenizer=tokenizer, **options)
    except ConstraintError as error:
        if "Unsatisfiable" not in str(error):
            raise
        return None


@settings(max_examples=60, deadline=None)
@given(schemas, st.integers(0, 2**32), st.sampled_from(list(LAYOUTS)))
def test_what_is_written_is_valid(tiny, schema, seed, layout):
    constraint = compiled(schema, tiny, whitespace=layout)
    if constraint is None:
        return
    rng = random.Random(seed)
    for _ in range(3):
        text = write(constraint.start(), tiny, rng, 100)
        if text is not None:
            assert valid(schema, json.loads(text)), text
            assert constraint.accepts(text)


@settings(max_examples=150, deadline=None)
@given(schemas, st.integers(0, 2**32), st.sampled_from(list(LAYOUTS)))
def test_accepts_what_jsonschema_accepts(tiny, schema, seed, layout):
    constraint = compiled(schema, tiny, whitespace=layout)
    rng = random.Random(seed)
    for wrong in (0, 0, 0.1, 0.3):
        value = instance(schema, rng, wrong)
        text = LAYOUTS[layout](value)
        accepted = constraint is not None and constraint.accepts(text)
        assert accepted == valid(schema, value), text
        assert not accepted or not constraint.accepts(text[:-1] + "\x00")


def test_every_tokenizer_writes_and_reads_it(tokenizer):
    constraint = compile_constraint(json_schema=PERSON, tokenizer=tokenizer)
    assert (constraint.kind, constraint.n_states, constraint.graph()) == ("json_schema", None, None)
    assert constraint.accepts(ADA)
    assert not constraint.accepts(ADA.replace(": ", ":"))
    assert not constraint.accepts(ADA.replace("36", "151"))
    rng = random.Random(4)
    done = [write(constraint.start(), tokenizer, rng, 120, jump=n % 2 == 0) for n in range(8)]
    assert all(valid(PERSON, json.loads(text)) for text in done if text is not None)
    assert sum(text is not None for text in done) >= 4


def test_layouts(tiny):
    value = {"a": [1, {"b": "x"}], "c": {}}
    for name, layout in LAYOUTS.items():
        constraint = compile_constraint(json_schema="{}", whitespace=name, tokenizer=tiny)
        assert [other for other in LAYOUTS if constraint.accepts(LAYOUTS[other](value))] == {
            "default": ["default"],
            "compact": ["compact"],
            "indent": ["indent"],
            "free": ["default", "compact", "indent", "free"],
        }[name]
        assert layout(value)
    free = compile_constraint(json_schema={"type": "array"}, whitespace="free", tokenizer=tiny)
    assert free.accepts("[" + " " * 24 + "]")
    assert not free.accepts("[" + " " * 25 + "]")


def test_dates_are_in_the_calendar(tiny):
    date = compile_constraint(json_schema={"type": "string", "format": "date"}, tokenizer=tiny)
    good = ["2024-02-29", "2000-02-29", "2023-02-28", "0001-01-01", "9999-12-31"]
    bad = ["2023-02-29", "1900-02-29", "0000-01-01", "2024-04-31", "2024-13-01", "2024-1-1"]
    assert [d for d in good + bad if date.accepts(json.dumps(d))] == good
    moment = compile_constraint(
        json_schema={"type": "string", "format": "date-time"}, tokenizer=tiny
    )
    assert moment.accepts('"2024-02-29T10:00:59.5Z"')
    assert not moment.accepts('"2024-02-29T10:00:60Z"')
    assert not moment.accepts('"2023-02-29T10:00:59Z"')
    time = compile_constraint(json_schema={"type": "string", "format": "time"}, tokenizer=tiny)
    assert time.accepts('"10:00:59Z"')
    assert not time.accepts('"22:59:60Z"')


def test_a_number_alone_can_be_ended(tiny):
    """Nothing closes a number, and many models would not end the text after one."""
    number = compile_constraint(type=int, tokenizer=tiny)
    for text in ("12", "-3", "12 ", "12\n"):
        assert number.accepts(text)
    assert not number.accepts("1 2")
    assert not number.accepts("12  ")
    cursor = number.start()
    cursor.advance_many(tiny.encode_plain("12\n"))
    assert cursor.done
    assert not compile_constraint(type=list[int], tokenizer=tiny).accepts("[1]\n")
    assert not compile_constraint(type=bool, tokenizer=tiny).accepts("true\n")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("{", "json_schema: no JSON: Expecting"),
        ([1], r"json_schema: expected a JSON Schema \(a dict, or JSON\), or a type"),
        ("[1]", "a schema is a JSON object, got list"),
        ({"$schema": 3}, r"no JSON Schema at \$.\$schema: 3 is no string"),
        (NESTED, "json_schema: .*nested too deep|limit"),
        ({"type": "foo"}, r"no JSON Schema at \$.type: 'foo'"),
        (
            {"properties": {"tags": {"type": "array", "uniqueItems": True}}},
            r"uniqueItems at \$.properties.tags cannot be enforced.*lenient=True",
        ),
        (
            {"properties": {"a b": {"type": "string", "maxlength": 3}}},
            r"maxlength at \$.properties\['a b'\] is no keyword.*did you mean maxLength",
        ),
        ({"type": "string", "format": "iri"}, r"format at \$ 'iri' is none of date, "),
        ({"pattern": "(?=a)b"}, r"pattern at \$ '\(\?=a\)b': look-around"),
        ({"minProperties": 2}, r"minProperties at \$ is more than the 0 properties required"),
        ({"not": {}}, r"not at \$ cannot be enforced"),
        ({"items": [{}]}, r"no JSON Schema at \$.items: .*it is one of draft 7, which .*draft-07"),
        (
            {"$schema": "http://json-schema.org/draft-04/schema#", "items": {"const": 1}},
            r"const at \$.items says nothing in the draft of the schema",
        ),
        (
            {"prefixItems": [{}], "additionalItems": False},
            r"additionalItems at \$ says nothing in the draft",
        ),
        ({"type": "string", "format": "secret"}, r"no finished text can be checked for it here"),
        (
            {"items": {"oneOf": [{"type": "integer"}, {"type": "number"}]}},
            r"at \$.items: oneOf constraints are not supported; lenient=True",
        ),
        (
            {"allOf": [{"patternProperties": {"^a": {}, "^ab": {}}}]},
            r"at \$.allOf.0: patternProperty.*not disjoint",
        ),
        ({"type": "integer", "minimum": 5, "maximum": 3}, r"Unsatisfiable.*minimum \(5\)"),
        (False, "Unsatisfiable"),
        ({"enum": []}, "Unsatisfiable|no JSON Schema"),
        ({"$ref": "#"}, "no text can satisfy it: it requires itself"),
        (
            {"type": "object", "properties": {"b": {}, "a": {"$ref": "#"}}, "required": ["a"]},
            "no text can satisfy it: it requires itself",
        ),
        ({"$ref": "#/$defs/x"}, r"\$ref at \$: there is no '#/\$defs/x'"),
        ({"$ref": "http://a.b/c"}, r"\$ref at \$: 'http://a.b/c' is outside the schema"),
        ({"type": "string", "x-guidance": {}}, "x-guidance at .* use whitespace="),
    ],
)
def test_what_cannot_be_enforced_is_named(tiny, schema, message):
    for _ in range(2):  # the second time from the cache
        with pytest.raises(ConstraintError, match=message) as caught:
            compile_constraint(json_schema=schema, tokenizer=tiny)
        assert "\n" not in str(caught.value)


def test_recursion_with_a_way_out(tiny):
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}},
                "required": ["v"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    }
    constraint = compile_constraint(json_schema=tree, tokenizer=tiny)
    assert constraint.accepts('{"v": 1, "next": {"v": 2, "next": {"v": 3}}}')
    assert not constraint.accepts('{"v": 1, "next": {"next": {"v": 3}}}')
    either = {"anyOf": [{"type": "array", "items": {"$ref": "#"}, "minItems": 1}, {"const": 1}]}
    assert compile_constraint(json_schema=either, tokenizer=tiny).accepts("[[1], 1]")


def test_definitions_that_nothing_uses_may_hold_anything(tiny):
    schema = {"$defs": {"odd": {"not": {}}}, "type": "null"}
    assert compile_constraint(json_schema=schema, tokenizer=tiny).accepts("null")


def test_lenient_leaves_out_and_checks(tiny):
    schema = {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True},
            "one": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
            "code": {"type": "string", "pattern": "^(?!x)[a-z]$"},
        },
        "required": ["tags"],
        "additionalProperties": False,
    }
    constraint = compile_constraint(json_schema=schema, lenient=True, tokenizer=tiny)
    told = "\n".join(constraint.warnings)
    for place in (
        "uniqueItems at $.properties.tags",
        "at $.properties.one: oneOf",
        "pattern at $.properties.code",
    ):
        assert place in told
    for text, broken in [
        ('{"tags": ["a", "b"]}', None),
        ('{"tags": ["a", "a"]}', r"\$.tags: .*non-unique.*uniqueItems could not be enforced"),
        ('{"tags": [], "one": 3}', r"\$.one: .*valid under each.*oneOf"),
        ('{"tags": [], "code": "x"}', r"\$.code: .*does not match"),
    ]:
        assert constraint.accepts(text)
        if broken is None:
            constraint.check(text)
        else:
            with pytest.raises(ConstraintError, match=broken):
                constraint.check(text)
    assert not constraint.accepts('{"tags": ["c"]}')
    strict = compile_constraint(json_schema=PERSON, lenient=True, tokenizer=tiny)
    assert strict.warnings == ()
    strict.check("not looked at: all of it was enforced")


def test_counts_may_have_a_point(tiny):
    schema = {"type": "array", "minItems": 1.0, "maxItems": 2.0, "items": {"const": 1}}
    constraint = compile_constraint(json_schema=schema, tokenizer=tiny)
    assert [n for n in range(4) if constraint.accepts(json.dumps([1] * n))] == [1, 2]


def test_dependencies_are_found_in_every_draft(tiny):
    for draft in ({}, {"$schema": "http://json-schema.org/draft-07/schema#"}):
        schema = {**draft, "type": "object", "dependencies": {"a": ["b"]}}
        constraint = compile_constraint(json_schema=schema, lenient=True, tokenizer=tiny)
        constraint.check('{"a": 1, "b": 2}')
        with pytest.raises(ConstraintError, match=r"dependency of 'a'.*dependencies could not be"):
            constraint.check('{"a": 1}')


def test_check_text_names_the_place():
    with pytest.raises(ConstraintError, match=r"breaks its schema at \$.age: 'x' is not of type"):
        check_text(json.dumps(PERSON), '{"name": "a", "age": "x", "kind": "cat"}')
    with pytest.raises(ConstraintError, match="the text is no JSON"):
        check_text("{}", '{"a": ')


def test_options_belong_to_schemas(tiny):
    for arguments, message in [
        ({"regex": "a", "whitespace": "free"}, "whitespace: goes with json_schema or type"),
        ({"grammar": 'start: "a"', "lenient": True}, "lenient: goes with"),
        ({"type": int, "whitespace": "wide"}, "whitespace: must be one of default, compact"),
        ({"type": int, "json_schema": {}}, "json_schema and type: give only one"),
    ]:
        with pytest.raises(ConstraintError, match=message):
            compile_constraint(**arguments, tokenizer=tiny)


def test_the_callers_schema_is_left_alone(tiny):
    schema = {"type": "object", "properties": {"d": {"type": "string", "format": "date"}}}
    before = json.dumps(schema)
    first = compile_constraint(json_schema=schema, tokenizer=tiny)
    assert json.dumps(schema) == before
    assert compile_constraint(json_schema=before, tokenizer=tiny) is first
    assert compile_constraint(json_schema=schema, whitespace="free", tokenizer=tiny) is not first


def test_a_schema_that_is_all_enforced_does_not_need_the_slow_library():
    code = """
import sys
sys.modules["jsonschema"] = None  # its import takes over a second
import sglnb
from pathlib import Path
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.tokenizer import Tokenizer
schema = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"],
          "additionalProperties": False}
sglnb.gen("x", json_schema=schema)
file = Path(sglnb.__file__).parent / "assets" / "sgl-tiny" / "tokenizer.json"
tokenizer = Tokenizer.from_file(file, eos_ids=(0,))
constraint = compile_constraint(json_schema=schema, tokenizer=tokenizer)
assert constraint.accepts('{"a": "b"}')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
