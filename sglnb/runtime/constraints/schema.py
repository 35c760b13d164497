"""From a JSON schema to a grammar: whitespace, exact dates, and what cannot be enforced.

Whitespace is part of the grammar. The default is one space after ``,`` and ``:`` and none
elsewhere, as ``json.dumps`` writes it. JSON with free whitespace leaves a model a choice at every
step, so much less can be written without asking it (8.9 % of the tokens against 21.9 %, measured
on 28 schemas with Llama 3's vocabulary), and small models loop on newlines until the budget is
spent. Separators without spaces ("compact") take the fewest tokens but are rarer in what models
have read.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

import llguidance

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.grammar import HEAD, told
from sglnb.runtime.constraints.schema_check import check_schema
from sglnb.runtime.constraints.schema_walk import (
    Part,
    endless,
    parts,
    problems,
    reference,
    target,
    without,
)

WHITESPACE = {
    "default": {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False},
    "compact": {"item_separator": ",", "key_separator": ":", "whitespace_flexible": False},
    "indent": {
        "item_separator": ",",
        "key_separator": ": ",
        "whitespace_pattern": r"\n(  ){0,20}",
    },
    "free": {
        "item_separator": ",",
        "key_separator": ":",
        "whitespace_pattern": r"[ \t\r\n]{1,24}",
    },
}
"""What may stand between the parts of a text. "indent": a line for each part, indented by an even
number of spaces (how deep is the model's choice); "free": up to 24 characters at each place."""

_YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_FOURTH = "(0[48]|[2468][048]|[13579][26])"
_LEAP = f"([0-9]{{2}}{_FOURTH}|{_FOURTH}00)"
_DATE = f"({_YEAR}-((0[13-9]|1[0-2])-[0-9]{{2}}|02-([01][0-9]|2[0-8]))|{_LEAP}-02-29)"
_EXACT = {
    "date": f"^{_DATE}$",
    "date-time": f"^{_DATE}[Tt][0-9]{{2}}:[0-9]{{2}}:[0-5]",
    "time": "^[0-9]{2}:[0-9]{2}:[0-5]",
}
"""Beside ``format``, which knows the days of a month but no leap years, year 0 or leap seconds:
what is written must be a date for Python too."""

_COUNTED = ("Items", "Length", "Properties")
_COUNTS = frozenset(f"{of}{what}" for of in ("min", "max") for what in _COUNTED)
_NUMBERS = frozenset(("integer", "number"))
_BARE = frozenset(("integer", "number", "boolean", "null"))


class Prepared(NamedTuple):
    """A schema, or a grammar, as llguidance reads it.

    Attributes:
        grammar: Lark, for llguidance.
        warnings: what it does not enforce.
        bare: its texts are numbers that stand alone (true, false and null may be among them).
            Nothing closes a number, so a space or a line break may follow and end the text.
        json: a schema as a part of a larger grammar.
    """

    grammar: str
    warnings: tuple[str, ...] = ()
    bare: bool = False
    json: str = ""


def prepare(source: str, whitespace: str | None, lenient: bool, kind: str) -> Prepared:
    """The grammar of a schema.

    Args:
        source: the schema as JSON.
        whitespace: a key of :data:`WHITESPACE`; None is "default".
        lenient: leave out what cannot be enforced, with a warning.
        kind: what the user wrote, for errors: ``json_schema`` or ``type``.

    Raises:
        ConstraintError: no JSON Schema, nothing can satisfy it, or a keyword of it cannot be
            enforced and ``lenient`` is False; the keyword and its JSON path are named.
    """
    if whitespace is not None and whitespace not in WHITESPACE:
        raise ConstraintError(
            f"whitespace: must be one of {', '.join(WHITESPACE)}, got {whitespace!r}"
        )
    try:
        result = _prepare(source, whitespace or "default", bool(lenient), kind == "json_schema")
    except RecursionError:
        result = "the schema is nested too deep"
    if isinstance(result, str):
        raise ConstraintError(f"{kind}: {result}")
    return result


@lru_cache(maxsize=128)
def _prepare(source: str, whitespace: str, lenient: bool, doubtful: bool) -> Prepared | str:
    """:func:`prepare`, with the error as text, so that it is remembered too. Pydantic's schemas
    are not ``doubtful``: the library that would check them takes long to import."""
    try:
        root = json.loads(source)
        if doubtful:
            check_schema(root)
        root = _in_plain_words(root)
        found = problems(root)
        if found and not lenient:
            return f"{found[0]}; lenient=True leaves it out and checks the finished text"
        never_ends = endless(root)
    except ConstraintError as error:
        return str(error)
    warnings = [str(problem) for problem in found]
    schema = without(root, found)
    options = dict(WHITESPACE[whitespace])
    bare = _is_bare(schema)
    grammar = _grammar(schema, options, bare)
    error = _error(grammar)
    if error:
        blamed = [f"at {part.path}: {why}" for part, why in _blame(schema)] or [error]
        options["lenient"] = True
        grammar = _grammar(schema, options, bare)
        if not lenient or _error(grammar):
            hint = "" if _error(grammar) else "; lenient=True leaves it out and checks the text"
            return blamed[0] + hint
        warnings += [f"not enforced {one}" for one in blamed]
    if never_ends:
        return "no text can satisfy it: it requires itself, with no way out"
    return Prepared(grammar, tuple(warnings), bare, _json(schema, options))


def _grammar(schema: Any, options: dict[str, Any], bare: bool) -> str:
    end = "\nEND: /[ \\n]/" if bare else ""
    return f"{HEAD}start: json {'END?' if bare else ''}\njson: {_json(schema, options)}{end}\n"


def _json(schema: Any, options: dict[str, Any]) -> str:
    if schema is True:
        schema = {}
    if isinstance(schema, dict):
        schema = {**_with_exact_dates(schema), "x-guidance": options}
    return f"%json {json.dumps(schema, ensure_ascii=False)}"


def _in_plain_words(root: Any) -> Any:
    """A copy that says the same in what can be enforced: counts as ``2`` where they are ``2.0``;
    ``propertyNames`` with a list of names, as ``dict[SomeEnum, int]`` has it, as ``properties``.
    """
    copy = json.loads(json.dumps(root))
    for part in list(parts(copy)):
        inner = part.schema
        if not isinstance(inner, dict):
            continue
        for key in _COUNTS & inner.keys():
            if isinstance(inner[key], float) and inner[key].is_integer():
                inner[key] = int(inner[key])
        names = inner.get("propertyNames")
        if isinstance(names, dict) and "$ref" in names:
            names = target(copy, Part((*part.pointer, "propertyNames"), names)).schema
        if isinstance(names, dict) and {"properties", "patternProperties"}.isdisjoint(inner):
            listed = names.get("enum", [names["const"]] if "const" in names else None)
            if listed and all(isinstance(name, str) for name in listed):
                del inner["propertyNames"]
                inner["properties"] = dict.fromkeys(listed, inner.get("additionalProperties", {}))
                inner["additionalProperties"] = False
    return copy


def _with_exact_dates(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy in which dates exist in the calendar."""
    copy = json.loads(json.dumps(schema))
    for part in parts(copy):
        inner = part.schema
        if isinstance(inner, dict) and inner.get("format") in _EXACT:
            inner.setdefault("pattern", _EXACT[inner["format"]])
    return copy


def _error(grammar: str) -> str:
    return told(llguidance.LLMatcher.validate_grammar(grammar))


def _blame(root: Any) -> list[tuple[Part, str]]:
    """The innermost parts that do not compile by themselves, and why."""
    moved = _moved(root)
    out: list[tuple[Part, str]] = []
    for part in reversed(list(parts(root))):
        ref = reference(("x-root", *part.pointer))
        if part.schema is False and part.pointer:
            continue  # what may not be there; that is for the schema around it to say
        why = _error(_grammar({"x-root": moved, "$ref": ref}, {}, False))
        inside = any(p.pointer[: len(part.pointer)] == part.pointer for p, _ in out)
        if why and not inside and not _refers(root, part, out):
            out.append((part, why))
    return out[::-1]


def _refers(root: Any, part: Part, blamed: list[tuple[Part, str]]) -> bool:
    """Whether what ``part`` refers to is to blame already."""
    pointers = {p.pointer for p, _ in blamed}
    inner = (p for p in parts(root) if p.pointer[: len(part.pointer)] == part.pointer)
    refs = (p for p in inner if isinstance(p.schema, dict) and "$ref" in p.schema)
    return any(target(root, p).pointer in pointers for p in refs)


def _moved(value: Any) -> Any:
    """A copy of the root for a document that holds it under ``x-root``."""
    if isinstance(value, list):
        return [_moved(v) for v in value]
    if not isinstance(value, dict):
        return value
    out = {k: _moved(v) for k, v in value.items()}
    if isinstance(out.get("$ref"), str):
        out["$ref"] = "#/x-root" + out["$ref"][1:]
    return out


def _is_bare(root: Any) -> bool:
    kinds = _kinds(root, Part((), root), frozenset())
    return bool(kinds & _NUMBERS) and kinds <= _BARE


def _kinds(root: Any, part: Part, seen: frozenset[tuple[str, ...]]) -> set[str]:
    """The JSON types of the texts that may satisfy ``part``; "any" where all may."""
    schema = part.schema
    if not isinstance(schema, dict) or part.pointer in seen:
        return {"any"}
    if "const" in schema or "enum" in schema:
        return {_kind_of(v) for v in schema.get("enum", [schema.get("const")])}
    if "type" in schema:
        kinds = schema["type"]
        return {kinds} if isinstance(kinds, str) else set(kinds)
    if "$ref" in schema:
        return _kinds(root, target(root, part), seen | {part.pointer})
    for key in ("anyOf", "oneOf"):
        if key in schema:
            each = (Part((*part.pointer, key, str(i)), s) for i, s in enumerate(schema[key]))
            return {kind for one in each for kind in _kinds(root, one, seen)}
    return {"any"}


def _kind_of(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, (int, float)) else "other"
