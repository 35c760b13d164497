"""Values of a type, written out in Python: literals, displays, constructors."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import inspect
import ipaddress
import json
import pathlib
import typing
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.python_types import (
    NONE,
    members,
    typeddict_items,
    unbound,
)
from sglnb.runtime.constraints.rules import Repeat, Symbol, text
from sglnb.runtime.constraints.schema import prepare
from sglnb.runtime.constraints.signatures import KEYWORD_ONLY, Parameter, is_name, read_function
from sglnb.runtime.constraints.types import schema_of, type_name

if TYPE_CHECKING:
    from sglnb.runtime.constraints.python_grammar import PythonGrammar

INT = "/-?(0|[1-9][0-9]{0,19})/"
FLOAT = "/-?(0|[1-9][0-9]{0,15})([.][0-9]{1,16})?(e[-+]?[0-9]{1,2})?/"
"""Numbers without bounds, of a length that Python reads."""

_DECIMAL = r"""/"-?(0|[1-9][0-9]{0,19})([.][0-9]{1,20})?"/"""
_FROM_TEXT = {
    datetime.date: "date.fromisoformat",
    datetime.datetime: "datetime.fromisoformat",
    datetime.time: "time.fromisoformat",
}
"""Classes that read a text by another way than their constructor."""
_OF_TEXT = (
    uuid.UUID,
    pathlib.PurePath,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    pydantic.AnyUrl,
)
"""Classes whose constructor reads a text."""

_LISTS = (list, collections.abc.Sequence, collections.abc.Collection, collections.abc.Iterable)
_DICTS = (dict, collections.abc.Mapping)
_ANY = (str, int, float, bool, NONE, list[Any], dict[str, Any])


class Literals:
    """Adds to the rules of ``grammar`` how values are written out.

    Attributes:
        constructors: whether objects may be made.
        numbers: terminals for int and float without bounds.
    """

    def __init__(self, grammar: PythonGrammar):
        self._grammar, self._rules = grammar, grammar.rules
        self.constructors = True
        self.numbers = {int: INT, float: FLOAT}

    def add(self, symbol: Symbol, kind: Any, what: str) -> None:
        """The ways to write a ``kind`` out, as ways to write ``symbol``.

        Raises:
            ConstraintError: there is no form for it.
        """
        for one in members(kind):
            self._add(symbol, one, what)

    def is_choice(self, kind: Any) -> bool:
        """Whether ``kind`` is one of a few values."""
        return typing.get_origin(kind) is Literal or (
            inspect.isclass(kind) and issubclass(kind, enum.Enum)
        )

    def _add(self, symbol: Symbol, kind: Any, what: str) -> None:
        plain = unbound(kind)
        outer = typing.get_origin(plain) or plain
        if len(members(plain)) > 1:  # bounds around a union are those of its members
            for one in members(plain):
                bounds = typing.get_args(kind)[1:]
                self._add(symbol, one if one is NONE else Annotated[(one, *bounds)], what)
        elif plain in (Any, object):
            for simple in _ANY:
                self._rules.add(symbol, self._grammar.value(simple, symbol.depth, what))
        elif plain in (NONE, bool):
            for word in ("None",) if plain is NONE else ("True", "False"):
                self._rules.add(symbol, text(word))
        elif plain in (int, float, str):
            if kind is plain and plain is not str:
                self._rules.add(symbol, self.numbers[plain])
            else:
                self._rules.add(symbol, prepare_part(schema_of(kind, what), what))
        elif outer is Literal:
            for value in typing.get_args(plain):
                self._rules.add(symbol, text(self._source(value, what)))
        elif typing.is_typeddict(plain):
            self._add_typeddict(symbol, plain, what)
        elif outer in (*_LISTS, *_DICTS, set, tuple):
            self._add_display(symbol, kind, outer, what)
        elif inspect.isclass(plain) and issubclass(plain, enum.Enum):
            for value in plain:
                self._rules.add(symbol, text(self._source(value, what)))
        elif inspect.isclass(plain) and plain.__module__ != "builtins":
            if self.constructors and symbol.depth:
                self._add_object(symbol, kind, plain, what)
        else:
            raise ConstraintError(f"{what}: {type_name(kind)} has no form in Python source")

    def _source(self, value: Any, what: str) -> str:
        if isinstance(value, enum.Enum):
            if not is_name(value.name):
                raise ConstraintError(f"{what}: {value.name!r} is no name that a text can have")
            return f"{self._grammar.name_of_class(type(value), what)}.{value.name}"
        return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)

    def _add_display(self, symbol: Symbol, kind: Any, outer: Any, what: str) -> None:
        if not symbol.depth:
            return
        add, depth = self._rules.add, symbol.depth - 1
        inner = typing.get_args(unbound(kind))
        if outer is tuple and inner and inner[-1] is not Ellipsis:
            parts = [self._grammar.value(one, depth, what) for one in inner]
            listed = [item for part in parts for item in (text(", "), part)][1:]
            add(symbol, text("("), *listed, text(",)" if len(parts) == 1 else ")"))
            return
        if outer in _DICTS:
            key, value = inner or (Any, Any)
            item = Symbol("pair", self._grammar.number(unbound(kind)), symbol.depth)
            key = self._grammar.value(self._hashable(key, what), depth, what)
            add(item, key, text(": "), self._grammar.value(value, depth, what))
        else:
            one = inner[0] if inner else Any
            one = self._hashable(one, what) if outer is set else one
            item = self._grammar.value(one, depth, what)
        opening, closing = {set: "{}", tuple: "()"}.get(outer, "{}" if outer in _DICTS else "[]")
        least, most = self._sizes(kind, what)
        if least == 0 and outer is not set:
            add(symbol, text(opening + closing))
        if outer is tuple and least <= 1 and most != 0:
            add(symbol, text("("), item, text(",)"))
        first = max(least, 2 if outer is tuple else 1)
        if most is None or most >= first:
            more = Repeat((text(", "), item), first - 1, None if most is None else most - 1)
            add(symbol, text(opening), item, more, text(closing))

    def _hashable(self, kind: Any, what: str) -> Any:
        """``kind`` for an item of a set or a key; of Any there are only texts."""
        for one in members(kind):
            plain = unbound(one)
            outer = typing.get_origin(plain) or plain
            if outer is tuple:
                for part in typing.get_args(plain):
                    self._hashable(part, what)
            elif getattr(outer, "__hash__", None) is None or typing.is_typeddict(plain):
                raise ConstraintError(f"{what}: a {type_name(one)} cannot be in a set or a key")
        return str if kind is Any else kind

    def _sizes(self, kind: Any, what: str) -> tuple[int, int | None]:
        """Least and greatest number of items."""
        if typing.get_origin(kind) is not Annotated:
            return 0, None
        schema = json.loads(schema_of(Annotated[(list[Any], *typing.get_args(kind)[1:])], what))
        beyond = schema.keys() - {"type", "items", "minItems", "maxItems", "title", "description"}
        if beyond:
            raise ConstraintError(
                f"{what}: {', '.join(beyond)} cannot be enforced in Python source"
            )
        return schema.get("minItems", 0), schema.get("maxItems")

    def _add_typeddict(self, symbol: Symbol, kind: Any, what: str) -> None:
        if symbol.depth:
            keys = [
                Parameter(text(key), KEYWORD_ONLY, hint, required)
                for key, (hint, required) in typeddict_items(kind).items()
            ]
            of = ("keys", self._grammar.number(kind))
            inside = self._grammar.arguments(of, keys, symbol.depth, f"{what}, key ", ": ")
            self._rules.add(symbol, text("{"), inside, text("}"))

    def _add_object(self, symbol: Symbol, kind: Any, plain: type, what: str) -> None:
        """An object, if there is a way to write one."""
        if has_fields(plain):
            self._grammar.name_of_class(plain, what)
            call = self._grammar.call(read_function(plain, what), symbol.depth)
            self._rules.add(symbol, call)
            return
        if plain in (decimal.Decimal, datetime.timedelta) and kind is not plain:
            raise ConstraintError(f"{what}: bounds of a {plain.__name__} have no form in Python")
        if plain is decimal.Decimal:
            call, inside = plain.__name__, _DECIMAL
        elif plain is datetime.timedelta:
            call, inside = "timedelta", f'"seconds=" {self.numbers[float]}'
        elif plain in _FROM_TEXT or issubclass(plain, _OF_TEXT):
            call = _FROM_TEXT.get(plain, plain.__name__)
            inside = prepare_part(schema_of(kind, what), what)
        else:
            return
        self._grammar.name_of_class(plain, what)
        self._rules.add(symbol, text(f"{call}("), inside, text(")"))


def prepare_part(schema: str, what: str) -> str:
    """A schema as a part of a larger grammar. JSON's numbers and strings are Python's too: no
    escape is written that means another thing there.

    Raises:
        ConstraintError: something of it cannot be enforced.
    """
    try:
        return prepare(schema, None, False, what).json
    except ConstraintError as error:
        raise ConstraintError(str(error).partition("; lenient=True")[0]) from None


def has_fields(kind: type) -> bool:
    """Whether objects of a class are written as its constructor with the fields: dataclasses,
    pydantic models, named tuples."""
    return (
        dataclasses.is_dataclass(kind)
        or issubclass(kind, pydantic.BaseModel)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )
