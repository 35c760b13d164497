"""Python types as JSON schemas, and finished texts as values of them, through pydantic."""

from __future__ import annotations

import functools
import json
import operator
import sys
import types
import typing
from typing import Any

import typing_extensions
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import SchemaError

from sglnb.errors import ConstraintError


def schema_of(kind: Any, name: str = "type") -> str:
    """The JSON schema of the texts that are a ``kind``, as JSON.

    Objects take only the keys that the type has. Keys with a default may be left out.

    Args:
        kind: int, float, bool, str, date, datetime, list[...], dict[...], tuple, Union, Optional,
            Literal, an enum, a dataclass, a TypedDict, a pydantic model, and these inside one
            another: whatever pydantic has a schema for.
        name: the argument it came from, for errors.

    Raises:
        ConstraintError: there is no JSON for this type.
    """
    try:
        return _known_schema(kind, name)
    except TypeError:  # not hashable, such as Annotated with a list in it
        return _schema_text(kind, name)


def _schema_text(kind: Any, name: str) -> str:
    return json.dumps(_closed(_schema(kind, name)), ensure_ascii=False)


_known_schema = functools.lru_cache(maxsize=128)(_schema_text)


def read_json(kind: Any, text: str) -> Any:
    """``text`` as a value of ``kind``.

    Raises:
        ConstraintError: it is none.
    """
    try:
        return _adapter(kind, "type").validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f".{key}" for key in first["loc"])
        raise ConstraintError(
            f"{text[:200]!r} is no {type_name(kind)}: {first['msg']}{' at ' * bool(where)}{where}"
        ) from None


def read_value(kind: Any, value: Any) -> Any:
    """``value`` as one of ``kind``.

    Raises:
        ValidationError: (pydantic's) it is none.
    """
    is_class = isinstance(kind, type) and not _arguments(kind) and not typing.is_typeddict(kind)
    if is_class and isinstance(value, kind):
        return value  # also of a class that pydantic knows nothing of
    return _adapter(kind, "type").validate_python(value)


def type_name(kind: Any) -> str:
    """``list[int]``, ``Person``."""
    if isinstance(kind, type) and not _arguments(kind):
        return kind.__name__
    return str(kind).replace("typing.", "").replace("__main__.", "")


_LARGE = 1e15
"""Bound of a Decimal without one: pydantic reads no number that is too large for a float."""


class _Schemas(GenerateJsonSchema):
    """pydantic's schemas, where they let through only what is a value of the type."""

    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        """A number; pydantic would take any string, too, and look at it later."""
        number = super().decimal_schema(schema)["anyOf"][0]
        low = {} if "exclusiveMinimum" in number else {"minimum": -_LARGE}
        high = {} if "exclusiveMaximum" in number else {"maximum": _LARGE}
        return {**low, **high, **number}


def _schema(kind: Any, name: str) -> dict[str, Any]:
    try:
        return _adapter(kind, name).json_schema(schema_generator=_Schemas)
    except PydanticUserError as error:
        raise ConstraintError(
            f"{name}: {type_name(kind)} has no JSON: {_first_line(error)}"
        ) from None


def _adapter(kind: Any, name: str) -> TypeAdapter:
    try:
        return _cached_adapter(kind)
    except TypeError:  # not hashable
        pass
    except PydanticUserError as error:
        raise ConstraintError(
            f"{name}: {type_name(kind)} has no JSON: {_first_line(error)}"
        ) from None
    except SchemaError as error:
        why = " ".join(str(error).replace("^", "").split())
        raise ConstraintError(f"{name}: {type_name(kind)} has no JSON: {why}") from None
    except NameError as error:
        raise ConstraintError(
            f"{name}: {type_name(kind)} refers to what is not there: {error}"
        ) from None
    try:
        return TypeAdapter(for_pydantic(kind))
    except TypeError as error:
        raise ConstraintError(f"{name}: expected a type, got {kind!r:.80}: {error}") from None


@functools.lru_cache(maxsize=128)
def _cached_adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(for_pydantic(kind))


def _closed(root: dict[str, Any]) -> dict[str, Any]:
    """A copy of a type's schema whose objects take no other keys, and always have the key by
    which a union tells them apart, also where it has a default."""
    tags: dict[str, set[str]] = {}

    def copy(value: Any) -> Any:
        if isinstance(value, list):
            return [copy(v) for v in value]
        if not isinstance(value, dict):
            return value
        out = {k: v if k in ("default", "const", "enum") else copy(v) for k, v in value.items()}
        if str(out.get("format", "")).endswith("path"):
            del out["format"]  # any text may be one
        if out.get("type") == "object" and isinstance(out.get("properties"), dict):
            out.setdefault("additionalProperties", False)
        if isinstance(out.get("oneOf"), list) and isinstance(out.get("discriminator"), dict):
            for ref in out["discriminator"].get("mapping", {}).values():
                tags.setdefault(ref, set()).add(out["discriminator"]["propertyName"])
        return out

    out = copy(root)
    for ref, names in tags.items():
        tagged = out.get("$defs", {}).get(ref.removeprefix("#/$defs/"), {})
        tagged["required"] = list(dict.fromkeys([*tagged.get("required", ()), *sorted(names)]))
    return out


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].split(". Set `")[0]


def _arguments(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind)


def for_pydantic(kind: Any) -> Any:
    """``kind`` with each TypedDict of ``typing`` as one that pydantic takes: before Python 3.12
    that is only ``typing_extensions``' own."""
    if sys.version_info >= (3, 12):
        return kind
    if typing.is_typeddict(kind):
        if type(kind).__module__ != "typing":
            return kind
        hints = typing.get_type_hints(kind, include_extras=True)
        fields = {key: _field(kind, key, hint) for key, hint in hints.items()}
        return typing_extensions.TypedDict(kind.__name__, fields)
    arguments = _arguments(kind)
    converted = tuple(
        for_pydantic(a) if typing.is_typeddict(a) or _arguments(a) else a for a in arguments
    )
    if converted == arguments:
        return kind
    if isinstance(kind, types.UnionType):
        return functools.reduce(operator.or_, converted)
    if typing.get_origin(kind) is typing.Annotated:
        return typing.Annotated[(converted[0], *arguments[1:])]
    return kind.copy_with(converted) if hasattr(kind, "copy_with") else kind.__origin__[converted]


def _field(kind: Any, key: str, hint: Any) -> Any:
    """One key of a TypedDict. What its hint says goes first: where annotations are kept as text,
    ``__required_keys__`` does not know of it."""
    required = key in kind.__required_keys__
    if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
        required = typing.get_origin(hint) is typing.Required
        (hint,) = _arguments(hint)
    wrap = typing_extensions.Required if required else typing_extensions.NotRequired
    return wrap[for_pydantic(hint)]
