"""What stands for a text that is not known before the run: an argument that was not given, a
variable that the model will write.

A placeholder can be appended, added to other text, passed on and set as a variable. Whatever
needs its value (a condition, an f-string, a loop over it, a library's function) ends the trace
and is told: a trace never goes on with a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .errors import Where
from .ir import SglExpr, SglExprList, as_expr

if TYPE_CHECKING:
    from .trace_node import Node
    from .tracer import Tracer

active_tracer: ContextVar[Tracer | None] = ContextVar("sglnb_tracer", default=None)
"""The trace that is being made here, None outside of traces."""


def _needs_value(what: str) -> Callable[..., Any]:
    def method(self: Placeholder, *args: Any) -> Any:
        self._need(what)

    return method


class Placeholder(SglExpr):
    """A text without a value yet. It passes for a ``str``, which it will be in the run, and has
    what a str has: every use is an end of the trace. Names of its own are private, for a body
    may ask what there is. Not seen are ``x is y`` and ``type(x)``; Python has no hook for them.
    """

    _type: type = str
    _on = "variable"
    """What a trace that ends here depends on."""

    def _describe(self) -> str:
        raise NotImplementedError

    def _need(self, what: str) -> None:
        """Its value is asked for: the trace ends here. TypeError when there is none."""
        tracer = active_tracer.get()
        if tracer is None:
            raise TypeError(f"{what} {self._describe()}, which has no value")
        message = f"{what} {self._describe()}, whose value is not known before the run"
        tracer.stop(message, on=self._on)

    def __add__(self, other: Any) -> SglExprList:
        return _added([self, other])

    def __radd__(self, other: Any) -> SglExprList:
        return _added([other, self])

    def __format__(self, spec: str) -> str:
        message = (
            f"an f-string uses {self._describe()}, whose value is not known before the run; "
            'write "text " + value'
        )
        tracer = active_tracer.get()
        if tracer is None:
            raise TypeError(message)
        return tracer.stop(message, on=self._on, as_type_error=True)

    def __repr__(self) -> str:
        if active_tracer.get() is not None:
            self._need("repr() of")
        return f"<{self._describe()}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(self._type, name):
            raise AttributeError(f"{self._type.__name__!r} object has no attribute {name!r}")
        self._need(f".{name}() of")

    def __copy__(self) -> Placeholder:
        return self

    def __deepcopy__(self, memo: Any) -> Placeholder:
        return self

    @property
    def __class__(self) -> type:
        return self._type

    __bool__ = _needs_value("a condition on")
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _needs_value("a comparison with")
    __hash__ = _needs_value("a look-up by")
    __len__ = _needs_value("len() of")
    __iter__ = _needs_value("a loop over")
    __contains__ = _needs_value("a search in")
    __getitem__ = _needs_value("an index into")
    __str__ = _needs_value("str() of")
    __reduce_ex__ = _needs_value("pickling")


class SglArgument(Placeholder):
    """A text argument of a program that is traced without it."""

    _on = "argument"

    def __init__(self, name: str, value: Any = None):
        self._name = name
        self._value = value

    def _describe(self) -> str:
        return f"argument {self._name!r}"


class TracedValue(Placeholder):
    """What step ``node`` of a trace will have made.

    Args:
        part: "value"; "meta" for what ``get_meta_info`` tells of it.
        of_type: the type that it will have.
    """

    def __init__(self, node: Node, name: str, *, part: str = "value", of_type: type = str):
        self._node = node
        self._name = name
        self._part = part
        self._type = of_type

    def _describe(self) -> str:
        if self._node.kind == "read":
            return f"the {self._name} of a state"
        name = f"variable {self._name!r}"
        return name if self._part == "value" else f"the meta info of {name}"


class TracedText(Placeholder, SglExprList):
    """Placeholders and text added up: in the run, one text."""

    def __init__(self, expr_list: list[SglExpr]):
        self.expr_list = expr_list

    def _describe(self) -> str:
        first = next(part for part in self.expr_list if is_placeholder(part))
        return f"a text with {first._describe()}"

    @property
    def _on(self) -> str:
        """A variable if there is one: then no argument can help."""
        return max(part._on for part in self.expr_list if is_placeholder(part))


class SglImageArgument(SglExpr):
    """The image that an argument will name."""

    def __init__(self, argument: SglArgument, where: Where):
        self.argument = argument
        self.where = where

    def __repr__(self) -> str:
        return f"Image({self.argument._describe()})"


def is_placeholder(value: Any) -> bool:
    """Whether it truly is one: isinstance() goes by what it passes for."""
    return issubclass(type(value), Placeholder)


def _added(parts: list[Any]) -> SglExprList:
    """The sum, a text itself only if nothing else than text is in it."""
    exprs: list[SglExpr] = []
    for part in parts:
        expr = as_expr(part)
        exprs += expr.expr_list if issubclass(type(expr), SglExprList) else [expr]
    text = all(is_placeholder(part) or isinstance(part, str) for part in parts)
    return TracedText(exprs) if text else SglExprList(exprs)


def placeholders(value: Any) -> Iterator[Placeholder]:
    """Those in ``value``, which is plain data (see :func:`is_plain`)."""
    if issubclass(type(value), TracedText):
        for part in value.expr_list:
            if is_placeholder(part):
                yield part
    elif is_placeholder(value):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from placeholders(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from placeholders(item)


def is_plain(value: Any) -> bool:
    """Whether no placeholder can hide in ``value``: it is one, or plain data."""
    if is_placeholder(value) or value is None:
        return True
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    if type(value) is dict:
        return all(isinstance(k, _ATOMS) for k in value) and all(map(is_plain, value.values()))
    return isinstance(value, _ATOMS)


_ATOMS = (str, int, float, complex, bool, bytes, type(None))


def filled(value: Any, fill: Callable[[Placeholder], Any]) -> Any:
    """``value`` with what ``fill`` gives for each placeholder; itself if there is none."""
    if next(placeholders(value), None) is None:
        return value
    if issubclass(type(value), TracedText):
        return "".join(
            fill(part) if is_placeholder(part) else part.value for part in value.expr_list
        )
    if is_placeholder(value):
        return fill(value)
    if isinstance(value, dict):
        return {k: filled(item, fill) for k, item in value.items()}
    return type(value)(filled(item, fill) for item in value)
