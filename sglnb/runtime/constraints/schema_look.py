"""A quick look at what should be a JSON Schema, which says "surely" or "perhaps".

The jsonschema library judges by the meta-schema: 0.6 ms for each kB of schema, and over a second
for its import where its extras are installed, as they are beside Jupyter. Nearly all schemas are
plain enough to be told right here; the library is asked about the others, and says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_DIALECTS = frozenset(
    (
        "https://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema#",
        "http://json-schema.org/draft-07/schema",
    )
)
"""The drafts of which all that is said here is true; without ``$schema`` it is the first."""
_REFERENCE = re.compile(r"#(?:[\w./~$!&'()*+,;=:@?-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_ADDRESS = re.compile(r"https?://[\w.-]+(?:/[\w.~/-]*)?", re.ASCII)
_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))

Look = Callable[[Any, list[Any]], bool]
"""Takes a keyword's value, and a list for the schemas in it; says whether the rest is right."""


def is_surely_schema(root: Any) -> bool:
    """Whether ``root`` is a JSON Schema of draft 7, 2019-09 or 2020-12. False: perhaps it is."""
    todo = [root]
    for schema in todo:
        if isinstance(schema, bool):
            continue
        if not isinstance(schema, dict):
            return False
        for keyword, value in schema.items():
            look = _LOOKS.get(keyword)
            if look is not None and not look(value, todo):
                return False
    return True


def _schema(value: Any, inner: list[Any]) -> bool:
    inner.append(value)
    return True


def _schemas(value: Any, inner: list[Any]) -> bool:
    if not isinstance(value, list) or not value:
        return False
    inner += value
    return True


def _named(value: Any, inner: list[Any]) -> bool:
    if not isinstance(value, dict):
        return False
    inner += value.values()
    return True


def _by_pattern(value: Any, inner: list[Any]) -> bool:
    return _named(value, inner) and all(_is_regex(pattern) for pattern in value)


def _is_regex(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except (re.error, RecursionError, OverflowError):
        return False


def _is_type(value: Any) -> bool:
    if isinstance(value, str):
        return value in _TYPES
    return _are_names(value) and bool(value) and _TYPES.issuperset(value)


def _are_names(value: Any) -> bool:
    """Whether it is a list of different strings."""
    return _is_list(value) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_step(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and bool(_REFERENCE.fullmatch(value))


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and bool(_ADDRESS.fullmatch(value))


def _is_dialect(value: Any) -> bool:
    return isinstance(value, str) and value in _DIALECTS


def _unsure(value: Any) -> bool:
    return False


def _only(test: Callable[[Any], bool]) -> Look:
    """A look at a keyword without schemas in it."""
    return lambda value, inner: test(value)


_TESTS: dict[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "enum examples": _is_list,
    "required": _are_names,
    "title description $comment format contentEncoding contentMediaType": _is_text,
    "deprecated readOnly writeOnly uniqueItems": _is_bool,
    "minimum maximum exclusiveMinimum exclusiveMaximum": _is_number,
    "multipleOf": _is_step,
    "minLength maxLength minItems maxItems minProperties maxProperties minContains maxContains":
        _is_count,
    "pattern": _is_regex,
    "$ref": _is_reference,
    "$id": _is_address,
    "$schema": _is_dialect,
    "$anchor $dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor $vocabulary id dependencies"
    " dependentRequired additionalItems": _unsure,
}  # fmt: skip
_INNER: dict[str, Look] = {
    "items additionalProperties not if then else contains propertyNames unevaluatedItems"
    " unevaluatedProperties contentSchema": _schema,
    "allOf anyOf oneOf prefixItems": _schemas,
    "properties $defs definitions dependentSchemas": _named,
    "patternProperties": _by_pattern,
}
_LOOKS: dict[str, Look] = {
    **{word: _only(test) for words, test in _TESTS.items() for word in words.split()},
    **{word: look for words, look in _INNER.items() for word in words.split()},
}
"""By keyword; others (``const``, ``default`` and those that no draft knows) may be anything."""
