"""Python source as a grammar with types: a non-terminal for each type and for each call.

Every sentence of ``value(T)`` is an expression of type ``T``, because each way to write it is one:
a literal, a display of values, a constructor with its arguments, a call whose result fits. How
deep brackets may nest is counted in the symbols, so that no text is too deep for Python to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.literals import Literals
from sglnb.runtime.constraints.python_types import bare, fits
from sglnb.runtime.constraints.rules import Rules, Symbol, text
from sglnb.runtime.constraints.signatures import (
    KEYWORD_ONLY,
    POSITIONAL_ONLY,
    Function,
    Parameter,
    is_name,
)
from sglnb.runtime.constraints.types import type_name


class PythonGrammar:
    """The rules of one grammar; they are made as they are asked for.

    Args:
        functions: what may be called. Several with one name are overloads.
        argument: where they were given, for errors.

    Attributes:
        classes: the classes that texts name, by name.
    """

    cure = "add a tool that returns one"
    depth = 8
    """Brackets inside brackets in one text."""

    def __init__(self, functions: Sequence[Function], argument: str):
        self.functions, self.argument = tuple(functions), argument
        self.rules = Rules()
        self.classes: dict[str, type] = {}
        self.literals = Literals(self)
        self._types: list[Any] = []
        self._todo: list[tuple[Symbol, Any, str]] = []

    def number(self, kind: Any) -> int:
        """A number for each type; not all types can be hashed."""
        for i, known in enumerate(self._types):
            if known is kind or (known == kind and type(known) is type(kind)):
                return i
        self._types.append(kind)
        return len(self._types) - 1

    def type_of(self, symbol: Symbol) -> Any:
        """The type that ``symbol`` is of."""
        return self._types[symbol.of]

    def value(self, kind: Any, depth: int, what: str) -> Symbol:
        """The symbol of the expressions of type ``kind``.

        Args:
            depth: brackets that may open in it.
            what: what needs it, for errors.
        """
        kind = bare(kind)
        symbol = Symbol("value", self.number(kind), depth)
        self.ask(symbol, kind, what)
        return symbol

    def ask(self, symbol: Symbol, kind: Any, what: str) -> None:
        """See that ``symbol`` gets its rules."""
        if symbol not in self.rules:
            self.rules.open(symbol)
            self._todo.append((symbol, kind, what))

    def finish(self) -> set[Symbol]:
        """Make all rules that were asked for; the symbols that can be written."""
        while self._todo:
            self.fill(*self._todo.pop())
        return self.rules.productive()

    def fill(self, symbol: Symbol, kind: Any, what: str) -> None:
        """Make the rules of ``symbol``."""
        self.literals.add(symbol, kind, what)
        self.add_calls(symbol, kind)

    def why_not(self, function: Function, alive: set[Symbol]) -> str:
        """Why no call of ``function`` can be written."""
        for p in function.parameters:
            if p.required and self.value(p.type, self.depth - 1, "") not in alive:
                return (
                    f"{function.name}(): parameter {p.name!r}: nothing makes a "
                    f"{type_name(p.type)}; {self.cure}"
                )
        return f"{function.name}(): its arguments are nested too deep"

    def name_of_class(self, kind: type, what: str) -> str:
        """What texts call a class.

        Raises:
            ConstraintError: nothing, or as something else.
        """
        name = kind.__name__
        if not is_name(name):
            raise ConstraintError(f"{what}: {name!r} is no name that a text can have")
        clash = any(f.name == name and f.function is not kind for f in self.functions)
        if clash or self.classes.setdefault(name, kind) is not kind:
            raise ConstraintError(f"{what}: two things are called {name}; rename one of them")
        return name

    # -- calls ------------------------------------------------------------------------------

    def add_calls(self, symbol: Symbol, kind: Any) -> None:
        """The calls whose result is a ``kind``."""
        if symbol.depth:
            for function in self.functions:
                if fits(function.returns, kind):
                    self.rules.add(symbol, self.call(function, symbol.depth))

    def call(self, function: Function, depth: int) -> Symbol:
        """The symbol of the calls of ``function``."""
        symbol = Symbol("call", (function.name, function.overload), depth)
        if symbol not in self.rules:
            what = f"{self.argument}: {function.name}(): parameter "
            inside = self.arguments(symbol.of, function.parameters, depth, what)
            self.rules.add(symbol, text(f"{function.name}("), inside, text(")"))
        return symbol

    def arguments(
        self, of: Any, parameters: Iterable[Parameter], depth: int, what: str, equals: str = "="
    ) -> Symbol:
        """The symbol of the arguments of a call, in the order of its parameters: some by
        position, the others by name; those with a default may be left out.

        Args:
            of: which call.
            what: for errors; the parameter's name is added.
        """
        add = self.rules.add
        # From the last one on: what may follow once the arguments before were given by position
        # (``places``) or by name, with something before it (``names``) or not (``first``).
        places = names = first = Symbol("end", of, depth)
        add(places)
        for i, p in reversed(list(enumerate(parameters))):
            value = self.value(p.type, depth - 1, f"{what}{p.name!r}")
            at = (of, i)
            place, name, only = (Symbol(label, at, depth) for label in ("place", "name", "first"))
            comma = (text(", "),) if i else ()
            if p.kind is not POSITIONAL_ONLY:
                add(name, text(", "), text(p.name), text(equals), value, names)
                add(only, text(p.name), text(equals), value, names)
            if not p.required:
                add(name, names)
                add(only, first)
            if p.kind is not KEYWORD_ONLY:
                add(place, *comma, value, places)
            for symbol in (place, name, only):
                self.rules.open(symbol)
            add(place, name if i else only)
            places, names, first = place, name, only
        return places
