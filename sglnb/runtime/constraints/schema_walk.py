"""A JSON schema read part by part: what of it can be enforced while a text is written.

llguidance refuses or ignores what it does not know, without saying where it stands; here every
keyword is looked at, so that none is ignored in silence and each has its path.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import llguidance

from sglnb.errors import ConstraintError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FORMATS = _words("date-time time date duration email hostname ipv4 ipv6 uuid uri")
"""Values of ``format`` that are enforced."""

_ENFORCED = _words(
    "type enum const anyOf oneOf allOf $ref properties required additionalProperties "
    "patternProperties minProperties maxProperties items prefixItems additionalItems minItems "
    "maxItems minLength maxLength pattern format minimum maximum exclusiveMinimum "
    "exclusiveMaximum multipleOf"
)
_NOTES = _words(
    "$schema $id id $comment $defs definitions title description default example examples "
    "deprecated readOnly writeOnly contentEncoding contentMediaType contentSchema "
    "discriminator"
)
"""Keywords that say nothing of what is valid."""
_NOT_ENFORCED = _words(
    "not if then else uniqueItems contains minContains maxContains propertyNames dependencies "
    "dependentRequired dependentSchemas unevaluatedItems unevaluatedProperties $dynamicRef "
    "$recursiveRef $anchor $dynamicAnchor $recursiveAnchor $vocabulary"
)
_SINCE = {
    4: _words("not allOf anyOf oneOf minProperties maxProperties multipleOf"),
    6: _words("const contains propertyNames"),
    7: _words("if then else"),
    2019: _words(
        "dependentRequired dependentSchemas minContains maxContains unevaluatedItems "
        "unevaluatedProperties $anchor $recursiveRef"
    ),
    2020: _words("prefixItems $dynamicRef"),
}
"""The draft that brought a keyword; to those before it says nothing."""
_UNTIL = {2019: _words("additionalItems $recursiveRef")}
_DRAFTS = {"draft-03": 3, "draft-04": 4, "draft-06": 6, "draft-07": 7, "2019-09": 2019}
_ONE = ("items", "additionalProperties", "additionalItems")
_LIST = ("items", "prefixItems", "anyOf", "oneOf", "allOf")
_NAMED = ("properties", "patternProperties")


class Part(NamedTuple):
    """A schema inside a schema.

    Attributes:
        pointer: where it stands, as the keys from the root.
        schema: an object, or a boolean.
    """

    pointer: tuple[str, ...]
    schema: Any

    @property
    def path(self) -> str:
        """The place as a JSON path: ``$.properties.tags``."""
        return json_path(self.pointer)


class Problem(NamedTuple):
    """A keyword that cannot be enforced."""

    part: Part
    keyword: str
    why: str

    def __str__(self) -> str:
        return f"{self.keyword} at {self.part.path} {self.why}"


def json_path(pointer: tuple[str, ...]) -> str:
    """``$.properties.tags``; keys that are no plain words in brackets."""
    return "$" + "".join(
        f".{k}" if k.replace("_", "a").replace("$", "a").isalnum() else f"[{k!r}]" for k in pointer
    )


def parts(root: Any) -> Iterator[Part]:
    """Every schema that a text can meet, the root first: also those that a ``$ref`` names, once
    each, but no definition that nothing refers to.

    Raises:
        ConstraintError: a ``$ref`` that leads nowhere, or out of the schema.
    """
    stack, seen = [Part((), root)], set()
    while stack:
        part = stack.pop()
        if part.pointer in seen:
            continue
        seen.add(part.pointer)
        yield part
        if isinstance(part.schema, dict):
            stack.extend(reversed(list(_below(part))))
            if "$ref" in part.schema:
                stack.append(target(root, part))


def _below(part: Part) -> Iterator[Part]:
    for key in part.schema:
        value = part.schema[key]
        if key in _ONE and isinstance(value, (dict, bool)):
            yield Part((*part.pointer, key), value)
        elif key in _LIST and isinstance(value, list):
            for i, schema in enumerate(value):
                yield Part((*part.pointer, key, str(i)), schema)
        elif key in _NAMED and isinstance(value, dict):
            for name, schema in value.items():
                yield Part((*part.pointer, key, name), schema)


def target(root: Any, part: Part) -> Part:
    """What the ``$ref`` of ``part`` names."""
    ref = part.schema["$ref"]
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        raise ConstraintError(
            f"$ref at {part.path}: {ref!r} is outside the schema; copy what it names into $defs "
            'and write "#/$defs/name"'
        )
    at, pointer = root, []
    for key in unquote(ref).split("/")[1:]:
        key = key.replace("~1", "/").replace("~0", "~")
        pointer.append(key)
        try:
            at = at[int(key)] if isinstance(at, list) else at[key]
        except (KeyError, IndexError, TypeError, ValueError):
            raise ConstraintError(f"$ref at {part.path}: there is no {ref!r}") from None
    return Part(tuple(pointer), at)


def reference(pointer: tuple[str, ...]) -> str:
    """The ``$ref`` that names ``pointer``."""
    keys = (k.replace("~", "~0").replace("/", "~1") for k in pointer)
    return "#" + "".join(f"/{quote(k, safe='$~')}" for k in keys)


def problems(root: Any) -> list[Problem]:
    """The keywords of ``root`` that cannot be enforced while the text is written."""
    strangers = _strangers(root)
    return [problem for part in parts(root) for problem in _problems(part, strangers)]


def _strangers(root: Any) -> frozenset[str]:
    """The keywords that the draft of ``root`` does not know, though others do."""
    named = root.get("$schema", "") if isinstance(root, dict) else ""
    draft = next((number for name, number in _DRAFTS.items() if name in named), 2020)
    later = (words for since, words in _SINCE.items() if since > draft)
    gone = (words for until, words in _UNTIL.items() if until < draft)
    return frozenset[str]().union(*later, *gone)


def _problems(part: Part, strangers: frozenset[str]) -> Iterator[Problem]:
    schema = part.schema
    if not isinstance(schema, dict):
        return
    for keyword in schema:
        if keyword in strangers:
            yield Problem(part, keyword, 'says nothing in the draft of the schema (see "$schema")')
        elif keyword in _NOT_ENFORCED:
            yield Problem(part, keyword, "cannot be enforced while the text is written")
        elif keyword == "x-guidance":
            yield Problem(part, keyword, "is not read; use whitespace= and lenient=")
        elif keyword not in _ENFORCED | _NOTES and not keyword.startswith("x-"):
            near = difflib.get_close_matches(keyword, _ENFORCED | _NOT_ENFORCED, 1, 0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield Problem(part, keyword, f"is no keyword of JSON Schema{hint}")
    name = schema.get("format")
    if name is not None and name not in FORMATS:
        why = f"{name!r} is none of {', '.join(sorted(FORMATS))}"
        if not _checkable(name):
            why += ", and no finished text can be checked for it here"
        yield Problem(part, "format", why)
    patterns = [("pattern", schema["pattern"])] if "pattern" in schema else []
    patterns += [("patternProperties", name) for name in schema.get("patternProperties", ())]
    for keyword, pattern in patterns:
        why = _refused(pattern)
        if why:
            yield Problem(part, keyword, f"{pattern!r}: {why}")
    least, certain = schema.get("minProperties", 0), len(set(schema.get("required", ())))
    if least > max(1, certain):  # the model might write one name several times
        yield Problem(part, "minProperties", f"is more than the {certain} properties required")


def _checkable(name: str) -> bool:
    """Whether the jsonschema library knows what a ``format`` asks for: some need packages that are
    not always there."""
    from jsonschema import Draft202012Validator  # slow to import

    return name in Draft202012Validator.FORMAT_CHECKER.checkers


@lru_cache(maxsize=1024)
def _refused(pattern: str) -> str:
    probe = llguidance.LLMatcher.grammar_from_regex(pattern)
    message = llguidance.LLMatcher.validate_grammar(probe)
    return " ".join(message.split("error:")[-1].split("\n   1 |")[0].split())


def without(root: Any, found: list[Problem]) -> Any:
    """A copy of ``root`` without the keywords of ``found``."""
    gone = {(problem.part.pointer, problem.keyword) for problem in found}

    def copy(value: Any, pointer: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [copy(v, (*pointer, str(i))) for i, v in enumerate(value)]
        if not isinstance(value, dict):
            return value
        return {k: copy(v, (*pointer, k)) for k, v in value.items() if (pointer, k) not in gone}

    return copy(root, ())


def endless(root: Any) -> bool:
    """Whether no finite text can satisfy ``root``: an object that requires another like itself.

    The schemas that a ``$ref`` names are taken to have no finite text until one is found, over
    and over (a least fixed point).
    """
    named = {target(root, p).pointer: target(root, p) for p in parts(root) if _has_ref(p)}
    finite: set[tuple[str, ...]] = set()
    grown = True
    while grown:
        grown = False
        for pointer, part in named.items():
            if pointer not in finite and _finite(root, part, finite):
                finite.add(pointer)
                grown = True
    return not _finite(root, Part((), root), finite)


def _has_ref(part: Part) -> bool:
    return isinstance(part.schema, dict) and "$ref" in part.schema


def _finite(root: Any, part: Part, known: set[tuple[str, ...]]) -> bool:
    schema = part.schema
    if not isinstance(schema, dict) or "enum" in schema or "const" in schema:
        return schema is not False
    if _has_ref(part) and target(root, part).pointer not in known:
        return False
    below = {p.pointer[len(part.pointer) :]: p for p in _below(part)}
    ends = {key: _finite(root, p, known) for key, p in below.items() if key[0] in _PARTS}
    if not all(ok for key, ok in ends.items() if key[0] == "allOf"):
        return False
    for one_of in ("anyOf", "oneOf"):
        if schema.get(one_of) and not any(ok for key, ok in ends.items() if key[0] == one_of):
            return False
    kinds = schema.get("type", ["null"])
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if kinds - {"object", "array"}:
        return True
    if "object" in kinds and all(
        ends.get(("properties", name), True) for name in schema.get("required", ())
    ):
        return True
    if "array" not in kinds:
        return False
    least, named = schema.get("minItems", 0), len(schema.get("prefixItems", ()))
    first = (ends.get(("prefixItems", str(i)), True) for i in range(least))
    return all(first) and (least <= named or ends.get(("items",), True))


_PARTS = frozenset(("allOf", "anyOf", "oneOf", "properties", "prefixItems", "items"))
