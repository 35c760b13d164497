"""Python types as a type checker sees them: which values can stand where."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import types
import typing
from typing import Annotated, Any, Literal, Union

import pydantic
from pydantic.fields import FieldInfo

from sglnb.errors import ConstraintError

NONE = type(None)
_ABSTRACT = {
    collections.abc.Sequence: (list,),
    collections.abc.Collection: (list, set, dict),
    collections.abc.Iterable: (list, set, dict),
    collections.abc.Mapping: (dict,),
}
"""Read-only views and the containers that are such: there a ``list[int]`` is one of floats."""


def bare(kind: Any) -> Any:
    """``kind`` without names for it (``type``, NewType) and without notes; bounds stay."""
    if isinstance(kind, typing.NewType):
        return bare(kind.__supertype__)
    if type(kind).__name__ == "TypeAliasType":
        return bare(kind.__value__)
    if typing.get_origin(kind) is Annotated:
        inner, *notes = typing.get_args(kind)
        if all(_is_note(note) for note in notes):
            return bare(inner)
    return NONE if kind is None else kind


def _is_note(note: Any) -> bool:
    if isinstance(note, FieldInfo):
        return not note.metadata
    return isinstance(note, str)


def unbound(kind: Any) -> Any:
    """``kind`` without bounds either."""
    kind = bare(kind)
    while typing.get_origin(kind) is Annotated:
        kind = bare(typing.get_args(kind)[0])
    return kind


def members(kind: Any) -> list[Any]:
    """The members of a union, inner ones too; any other type is its own only member."""
    kind = bare(kind)
    if typing.get_origin(kind) in (Union, types.UnionType):
        return [m for one in typing.get_args(kind) for m in members(one)]
    return [kind]


def without_none(kind: Any) -> Any | None:
    """``X`` of ``X | None``; None for another type."""
    inner = members(kind)
    if NONE not in inner or len(inner) < 2:
        return None
    return Union[tuple(m for m in inner if m is not NONE)]  # noqa: UP007


def fits(source: Any, target: Any) -> bool:
    """Whether every value of ``source`` can stand where a ``target`` is asked for.

    Less than type checkers allow: a bool is no number here, and nothing but itself is known to
    be within the bounds of an ``Annotated`` type.
    """
    source, target = bare(source), bare(target)
    if source == target or target in (Any, object):
        return True
    if source is Any or typing.get_origin(target) is Annotated:
        return False
    sources, targets = members(source), members(target)
    if len(sources) > 1:
        return all(fits(one, target) for one in sources)
    if len(targets) > 1:
        return any(fits(source, one) for one in targets)
    if typing.get_origin(source) is Annotated:
        return fits(unbound(source), target)
    if typing.get_origin(source) is Literal:
        values = typing.get_args(source)
        if typing.get_origin(target) is Literal:
            allowed = [(type(v), v) for v in typing.get_args(target)]
            return all((type(v), v) in allowed for v in values)
        return all(fits(type(v), target) for v in values)
    if source is int and target is float:
        return True
    if source is bool:
        return False
    outer, wanted = typing.get_origin(source), typing.get_origin(target)
    if outer is not None or wanted is not None:
        return _generic_fits(source, target, outer or source, wanted or target)
    return not typing.is_typeddict(source) and target in getattr(source, "__mro__", ())


def _generic_fits(source: Any, target: Any, outer: Any, wanted: Any) -> bool:
    inner, asked = typing.get_args(source), typing.get_args(target)
    if wanted is tuple and outer is tuple:
        same = Ellipsis not in inner and Ellipsis not in asked and len(inner) == len(asked)
        return same and all(fits(a, b) for a, b in zip(inner, asked, strict=True))
    if outer is wanted:
        return len(inner) >= len(asked) and all(map(_same, inner, asked))
    if outer not in _ABSTRACT.get(wanted, ()) or not inner or not asked:
        return False
    if wanted is collections.abc.Mapping:
        return inner[0] == asked[0] and fits(inner[1], asked[1])
    return fits(inner[0], asked[0])


def _same(inner: Any, asked: Any) -> bool:
    return asked is Any or bare(inner) == bare(asked)


def attributes(kind: Any, what: str) -> dict[str, Any]:
    """The attributes that a class declares: fields, annotations, and properties whose result
    has a type; none that begins with an underscore.

    Raises:
        ConstraintError: an annotation refers to what is not there.
    """
    if not inspect.isclass(kind) or typing.is_typeddict(kind) or kind.__module__ == "builtins":
        return {}
    if issubclass(kind, enum.Enum):
        return {}
    try:
        found = typing.get_type_hints(kind, include_extras=True)
        for name, value in inspect.getmembers(kind, lambda v: isinstance(v, property)):
            hints = typing.get_type_hints(value.fget) if value.fget is not None else {}
            if "return" in hints:
                found[name] = hints["return"]
    except NameError as error:
        raise ConstraintError(
            f"{what}: {kind.__name__} has a type that is not there: {error}"
        ) from None
    if issubclass(kind, pydantic.BaseModel):
        base = dir(pydantic.BaseModel)
        found = {name: hint for name, hint in found.items() if name not in base}
    return {
        name: hint
        for name, hint in found.items()
        if not name.startswith("_")
        and typing.get_origin(hint) is not typing.ClassVar
        and not isinstance(hint, dataclasses.InitVar)
    }


def typeddict_items(kind: Any) -> dict[str, tuple[Any, bool]]:
    """(type, whether it must be there) of each key of a TypedDict."""
    out = {}
    for key, hint in typing.get_type_hints(kind, include_extras=True).items():
        required = key in kind.__required_keys__
        while typing.get_origin(hint) in _MARKS:
            if typing.get_origin(hint) in _REQUIRED:
                required = typing.get_origin(hint) is typing.Required
            (hint,) = typing.get_args(hint)
        out[key] = (hint, required)
    return out


_REQUIRED = (typing.Required, typing.NotRequired)
_MARKS = (*_REQUIRED, getattr(typing, "ReadOnly", typing.Required))
