"""Whatever a model that knows nothing writes under a constraint is valid, kind by kind.

The judge is never ours: ``re``, jsonschema, pydantic, lark's own parser, Python's parser, and the
signature of the function that is called. (mypy judges expressions in test_typed_expressions.py,
calls in :func:`test_mypy_reads_every_call`.)
"""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dice
import lark
import pydantic
import pytest
import typed_scope
from constraint_tools import regexes
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schema_tools import schemas
from test_json_schema import LAYOUTS, valid
from test_json_schema_types import Movie, Newer, Pair, Person, Point
from test_tools import TOOLS, binds
from test_typed_expressions import GOALS, SCOPE
from typed_tools import mypy, walks

from sglnb.errors import ConstraintError
from sglnb.language.calls import Call, CallForm
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.tools import ToolSet
from sglnb.runtime.constraints.types import for_pydantic

Case = tuple[dict[str, Any], Callable[[str], Any]]
"""A constraint, and who says whether a text of it is valid: by a false value, or by raising."""

GRAMMARS = [
    """start: sum
    sum: product (("+"|"-") product)*
    product: part (("*"|"/") part)*
    part: NUMBER | "(" sum ")" | NAME "(" sum ("," sum)* ")"
    NUMBER: /[0-9]+/
    NAME: /[a-z]{3,8}/""",
    """start: item
    item: ATOM | "(" (item (" " item)*)? ")"
    ATOM: /[a-zé]+/ | /"[^"\\n]*"/""",
    """start: "<" TAG ">" (start | TEXT)? "</" TAG ">"
    TAG: "a" | "b" | "it"
    TEXT: /[^<>]{1,30}/""",
    """start: pair ("&" pair)~0..3
    pair: KEY "=" VALUE?
    KEY: /[a-z_]{1,6}/
    VALUE: /[0-9]{1,4}|[A-Z][a-z]*/""",
]

TYPES = [
    *(int, float, bool, str, date, list[int], dict[str, float], tuple[int, str], int | str | None),
    *(Point, Pair, Movie, Newer, Person),
]


def of_regex(regex: str) -> Case:
    return {"regex": regex}, lambda text: re.fullmatch(regex, text)


def of_choices(choices: list[str]) -> Case:
    return {"choices": choices}, lambda text: text in choices


def of_schema(schema: Any, layout: str) -> Case:
    return (
        {"json_schema": schema, "whitespace": layout},
        lambda text: valid(schema, json.loads(text)),
    )


def of_type(kind: Any, as_schema: bool) -> Case:
    adapter = pydantic.TypeAdapter(for_pydantic(kind))

    def judge(text: str) -> bool:
        adapter.validate_json(text)
        return True

    return {
        "json_schema" if as_schema and kind not in (int, float, bool, str) else "type": kind
    }, judge


def of_grammar(grammar: str) -> Case:
    parser = lark.Lark(grammar, parser="earley", lexer="dynamic_complete")
    return {"grammar": grammar}, parser.parse


def of_tools(tools: list[Any], style: str, when: str | None, most: int) -> Case:
    form = CallForm(ToolSet(tools, style, when, most))

    def judge(text: str) -> bool:
        calls = form.read(text, None)
        for call in calls if isinstance(calls, list) else [calls]:
            assert isinstance(call, Call)
            binds(call)
        return True

    return {"tools": tools, "tool_style": style, "when": when, "max_calls": most}, judge


def of_expression(kind: Any) -> Case:
    return (
        {"expression": kind, "scope": SCOPE},
        lambda text: isinstance(ast.parse(text.strip(), mode="eval"), ast.Expression),
    )


_tools = st.lists(st.sampled_from(TOOLS), min_size=1, unique=True)
_when = st.sampled_from([None, "<tool_call>", "<|im_start|>"])
KINDS = {
    "regex": regexes.map(of_regex),
    "choices": st.lists(st.text(max_size=12), min_size=1, max_size=9).map(of_choices),
    "json_schema": st.builds(of_schema, schemas, st.sampled_from(list(LAYOUTS))),
    "type": st.builds(of_type, st.sampled_from(TYPES), st.booleans()),
    "grammar": st.sampled_from(GRAMMARS).map(of_grammar),
    "json calls": st.builds(of_tools, _tools, st.just("json"), _when, st.integers(1, 3)),
    "python calls": st.builds(of_tools, _tools, st.just("python"), _when, st.integers(1, 3)),
    "expression": st.sampled_from(list(GOALS.values())).map(of_expression),
}


def texts(options: dict[str, Any], tokenizer, rng: random.Random, count: int) -> Iterator[str]:
    """Texts by dice; fewer where no text can satisfy the constraint."""
    try:
        constraint = compile_constraint(**options, tokenizer=tokenizer)
    except ConstraintError as error:
        if not re.search(
            "[Uu]nsatisfiable|no text can|can match nothing|matches nothing", str(error)
        ):
            raise
        return
    for _ in range(count):
        for budget in (rng.randint(1, 60), 400):
            ids = dice.write(constraint, tokenizer, rng, budget, jump=rng.random() < 0.5)
            if ids is not None:
                yield tokenizer.decode(ids, special=True)
                break


def judged(kind: str, tokenizer, examples: int) -> int:
    """How many texts were found valid."""
    count = 0

    @settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(KINDS[kind], st.integers(0, 2**32))
    def look(case: Case, seed: int) -> None:
        nonlocal count
        options, judge = case
        for text in texts(options, tokenizer, random.Random(seed), 5):
            assert judge(text), text
            count += 1

    look()
    return count


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_hundred_texts_are_valid(tiny, kind):
    assert judged(kind, tiny, 10) >= 30


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thousands_of_texts_are_valid(tiny):
    counts = {kind: judged(kind, tiny, 150) for kind in KINDS}
    assert sum(counts.values()) >= 5_000, counts


def on_engine(engine, seeds: range) -> int:
    """The same by the engine, in one batch, at a temperature that leaves no trace of its weights:
    all legal tokens are about as likely."""
    cases = [
        *map(of_regex, [r"[a-z ]{3,40}\.", r"(caf|th)é (au lait|noir)+!", r"\w+@\w+\.(com|org)"]),
        of_choices(["yes", "no", "not at all", "é"]),
        *(of_schema(schemas_of, layout) for schemas_of in FIXED for layout in LAYOUTS),
        *(of_type(kind, False) for kind in TYPES),
        *map(of_grammar, GRAMMARS),
        *(of_tools(TOOLS, style, when, 2) for style in ("json", "python")
          for when in (None, "<tool_call>", "<|im_start|>")),
        *map(of_expression, GOALS.values()),
    ]  # fmt: skip
    count = 0
    for seed in seeds:
        rng = random.Random(seed)
        params = [
            {k: v for k, v in options.items() if v is not None}
            | {"temperature": 1e3, "seed": seed, "on_budget": "close", "max_new_tokens": 90,
               "jump_forward": rng.random() < 0.5}
            for options, _ in cases
        ]  # fmt: skip
        results = engine.generate(["Write: "] * len(cases), params)
        engine.check()
        for (_, judge), result in zip(cases, results, strict=True):
            assert result["meta_info"]["constraint_met"], result["text"]
            assert judge(result["text"]), result["text"]
            count += 1
    return count


FIXED = [
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
     "required": ["a", "b"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["red", "green", 3, None]}, "minItems": 2},
    {"type": "string", "format": "date"},
]  # fmt: skip


def test_on_the_engine(engine):
    assert on_engine(engine, range(1)) > 45


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_on_the_engine_for_long(engine):
    assert on_engine(engine, range(20)) > 900


TYPED = [typed_scope.rate, typed_scope.find, typed_scope.pick]


def calls_judged(tokenizer, count: int, folder: Path) -> int:
    """How many calls in Python style mypy found nothing in."""
    constraint = compile_constraint(tools=TYPED, tool_style="python", tokenizer=tokenizer)
    lines = Path(typed_scope.__file__).read_text().splitlines()
    first = len(lines)
    lines += [text.rstrip() for text in walks(constraint, tokenizer, count)]
    found = mypy("\n".join([*lines, "rate(price)"]) + "\n", folder)
    assert found.pop(len(lines) + 1).startswith("Argument 1")  # proof that mypy looks
    assert {lines[at - 1]: message for at, message in found.items()} == {}
    return len(lines) - first


def test_mypy_reads_every_call(tiny, tmp_path):
    assert calls_judged(tiny, 60, tmp_path) >= 50


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_mypy_reads_thousands_of_calls(tiny, tmp_path):
    assert calls_judged(tiny, 2_000, tmp_path) >= 1_900


def test_the_judge_of_calls_is_no_yes_man():
    _, judge = of_tools(TOOLS, "python", None, 1)
    with pytest.raises(ConstraintError):
        judge("now(1)")
