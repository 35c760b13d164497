"""What a typed expression can be made of, beside its own names: operators, methods, builtins.

The tables are those of Python's own types, as type checkers know them. Each level of
:data:`LEVELS` binds tighter than the one before.
"""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

from sglnb.runtime.constraints.signatures import POSITIONAL_ONLY, Function, Parameter

NUMBERS = (int, float)
ORDERED = (
    str,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
)
"""Types beside numbers that are compared with ``<``, each with its own kind."""
EQUALITY = (" == ", " != ")
ORDER = (*EQUALITY, " < ", " <= ", " > ", " >= ")
SUMS = (" + ", " - ")
PRODUCTS = {int: (" * ", " // ", " % "), float: (" * ", " / ", " // ", " % ")}
POWERS = ("2", "3")
"""Exponents: with these an int stays one, and no result is out of reach."""

STR_METHODS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "count": ((str,), int),
    "endswith": ((str,), bool),
    "find": ((str,), int),
    "isdigit": ((), bool),
    "lower": ((), str),
    "replace": ((str, str), str),
    "split": ((str,), list[str]),
    "startswith": ((str,), bool),
    "strip": ((), str),
    "title": ((), str),
    "upper": ((), str),
}
"""(parameters, result) of the methods of a str."""

_I, _F, _S = int, float, str
_BUILTINS: dict[Any, tuple[tuple[tuple[Any, ...], Any], ...]] = {
    abs: (((_I,), _I), ((_F,), _F)),
    round: (((_F,), _I), ((_I, _I), _I), ((_F, _I), _F)),
    min: (((_I, _I), _I), ((_F, _F), _F), ((_S, _S), _S), ((list[_I],), _I), ((list[_F],), _F)),
    max: (((_I, _I), _I), ((_F, _F), _F), ((_S, _S), _S), ((list[_I],), _I), ((list[_F],), _F)),
    sum: (((list[_I],), _I), ((list[_F],), _F)),
    len: (((_S,), _I), ((list[Any],), _I), ((dict[Any, Any],), _I)),
    any: (((list[bool],), bool),),
    all: (((list[bool],), bool),),
    sorted: (((list[_I],), list[_I]), ((list[_F],), list[_F]), ((list[_S],), list[_S])),
    math.ceil: (((_F,), _I),),
    math.floor: (((_F,), _I),),
    **dict.fromkeys((math.sqrt, math.exp, math.log, math.sin, math.cos, math.tan), (((_F,), _F),)),
}
"""(parameters, result) of functions that have no annotations, one for each overload."""


def builtin(function: Any, name: str) -> list[Function] | None:
    """The overloads of a function of :data:`_BUILTINS`; None for another."""
    try:
        overloads = _BUILTINS.get(function)
    except TypeError:  # not hashable
        return None
    if overloads is None:
        return None
    return [
        Function(name, function, tuple(map(_parameter, range(len(kinds)), kinds)), result, i)
        for i, (kinds, result) in enumerate(overloads)
    ]


def method(name: str) -> Function:
    """A method of a str."""
    kinds, result = STR_METHODS[name]
    parameters = tuple(map(_parameter, range(len(kinds)), kinds))
    return Function(f".{name}", getattr(str, name), parameters, result)


def _parameter(i: int, kind: Any) -> Parameter:
    return Parameter(f"argument {i + 1}", POSITIONAL_ONLY, kind, True)
