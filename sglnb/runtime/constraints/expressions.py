"""Python expressions whose type is right by construction.

A level of Python's grammar (conditional, or, and, not, comparison, sum, product, sign, power,
primary) times a type is one non-terminal. An operator is a rule from the types of its operands to
that of its result, so a text of the grammar cannot be of another type.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import operators as ops
from sglnb.runtime.constraints.python_grammar import PythonGrammar
from sglnb.runtime.constraints.python_types import (
    attributes,
    bare,
    fits,
    members,
    typeddict_items,
    unbound,
    without_none,
)
from sglnb.runtime.constraints.rules import Symbol, text
from sglnb.runtime.constraints.signatures import UNKNOWN, Function, Same, is_name, read_function
from sglnb.runtime.constraints.types import type_name

_TYPES = 64
"""Types that a scope may lead to."""


class ExpressionSpec:
    """A type, and the names from which an expression of it can be made.

    Args:
        type: of the expression.
        scope: by name the type of a variable, or a function.

    Attributes:
        variables: types of the variables, by name.
        functions: what can be called, by name.
        grammar: of the texts, as Lark for llguidance. A line break may end one.
        source: the same in short.
        classes: the classes that texts name, by name.

    Raises:
        ConstraintError: a name or a function cannot be used, or nothing makes such a type.
    """

    def __init__(self, type: Any, scope: Mapping[str, Any] | None = None):
        self.type = bare(type)
        if typing.get_origin(self.type) is Annotated:
            raise ConstraintError(
                f"expression: the bounds of {type_name(type)} cannot be enforced; give its type"
            )
        self.variables, functions = read_scope(scope)
        self.functions = {f.name: f.function for f in functions}
        named = ", ".join([*self.variables, *self.functions])
        self.source = f"{type_name(self.type)} of {named}" if named else type_name(self.type)
        grammar = ExpressionGrammar(self.variables, functions)
        root = grammar.value(self.type, grammar.depth, "expression")
        alive = grammar.finish()
        if root not in alive:
            raise ConstraintError(f"expression: {grammar.missing(self.type, alive)}")
        self.classes = grammar.classes
        start = [f"start: {grammar.rules.name(root)} END?", "END: /\\n/"]
        self.grammar = grammar.rules.lark(start, [root])

    def __repr__(self) -> str:
        return f"ExpressionSpec({self.source})"


def expression_spec(type: Any, scope: Mapping[str, Any] | None = None) -> ExpressionSpec | None:
    """What these arguments of ``gen`` make; None without a type.

    Raises:
        ConstraintError: as :class:`ExpressionSpec`, or a scope without a type.
    """
    if type is None or isinstance(type, ExpressionSpec):
        if scope is not None:
            raise ConstraintError("scope: goes with expression, the type that is asked for")
        return type
    if scope is not None and not isinstance(scope, Mapping):
        raise ConstraintError(f"scope: expected a dict of names, got {scope!r:.80}")
    given = tuple(scope.items()) if scope else ()
    try:
        key = tuple((name, one if _is_type(one) else Same(one)) for name, one in given)
        return _remembered(type, key)
    except TypeError:  # a type that cannot be hashed, such as Annotated with a list in it
        return ExpressionSpec(type, scope)


@lru_cache(maxsize=64)
def _remembered(type: Any, key: tuple[tuple[str, Any], ...]) -> ExpressionSpec:
    return ExpressionSpec(type, {n: g.it if isinstance(g, Same) else g for n, g in key})


def read_scope(scope: Any) -> tuple[dict[str, Any], list[Function]]:
    """(types of the variables, functions) of a scope."""
    variables: dict[str, Any] = {}
    functions: list[Function] = []
    for name, given in (scope or {}).items():
        if not is_name(name):
            raise ConstraintError(f"scope: {name!r} is no name that an expression can have")
        overloads = ops.builtin(given, name)
        if overloads is not None:
            functions += overloads
        elif _is_type(given):
            variables[name] = bare(given)
        elif callable(given):
            function = read_function(given, "scope", name)
            if function.returns is UNKNOWN:
                raise ConstraintError(f"scope: the result of {name}() has no type; write -> int")
            functions.append(function)
        else:
            raise ConstraintError(
                f"scope: {name!r} is {given!r:.40}; give its type ({type(given).__name__}) here "
                f"and the value to evaluate({name}=...)"
            )
    return variables, functions


def _is_type(given: Any) -> bool:
    return (
        given is None
        or inspect.isclass(given)
        or typing.get_origin(given) is not None
        or isinstance(given, typing.NewType)
        or type(given).__name__ == "TypeAliasType"
    )


def _index(inside: Any) -> tuple[Any, ...]:
    return (text("["), inside, text("]"))


class ExpressionGrammar(PythonGrammar):
    """The rules of expressions over ``variables`` (types by name) and ``functions``."""

    cure = "add a name or a function of that type to the scope"
    depth = 5

    def __init__(self, variables: Mapping[str, Any], functions: list[Function]):
        super().__init__(functions, "scope")
        self.literals.constructors = False
        self.literals.numbers = {
            int: "/0|[1-9][0-9]{0,15}/",
            float: "/(0|[1-9][0-9]{0,15})[.][0-9]{1,15}/",
        }
        self.variables = variables
        self.known = self._reachable()

    def _reachable(self) -> list[Any]:
        """The types of what names, functions, and the parts of their values can give."""
        todo = [*self.variables.values(), *(f.returns for f in self.functions)]
        known: list[Any] = []
        while todo:
            for kind in members(todo.pop(0)):
                if kind not in known:
                    known.append(kind)
                    todo += [part for _, part in self._parts(kind)]
            if len(known) > _TYPES:
                raise ConstraintError(f"scope: its names lead to more than {_TYPES} types")
        return known

    def _parts(self, kind: Any) -> list[tuple[tuple[Any, ...], Any]]:
        """What can be written behind a ``kind``, and the type that comes out."""
        plain = unbound(kind)
        inner = typing.get_args(plain)
        outer = typing.get_origin(plain) or plain
        if typing.is_typeddict(plain):
            items = typeddict_items(plain).items()
            return [(_index(text(text(k))), hint) for k, (hint, required) in items if required]
        if outer is list and inner:
            return [(_index(int), inner[0])]
        if outer is dict and inner:
            return [(_index(inner[0]), inner[1])]
        if outer is tuple and inner:
            if inner[-1] is Ellipsis:
                return [(_index(int), inner[0])]
            return [(_index(text(str(i))), one) for i, one in enumerate(inner)]
        found = attributes(plain, "scope")
        return [((text(f".{name}"),), hint) for name, hint in found.items() if is_name(name)]

    # -- levels -----------------------------------------------------------------------------

    def level(self, label: str, kind: Any, depth: int) -> Symbol:
        """The symbol of one level of expressions of a type."""
        kind = bare(kind)
        symbol = Symbol(label, self.number(kind), depth)
        self.ask(symbol, kind, "expression")
        return symbol

    def fill(self, symbol: Symbol, kind: Any, what: str) -> None:
        """Make the rules of one level."""
        make = getattr(self, f"_{symbol.label}")
        make(symbol, kind, lambda label, one=kind: self.level(label, one, symbol.depth))

    def _value(self, symbol: Symbol, kind: Any, level: Any) -> None:
        add = self.rules.add
        add(symbol, level("either"))
        add(symbol, level("either"), text(" if "), level("either", bool), text(" else "), symbol)
        for name, given in self.variables.items():
            certain = without_none(given)
            if certain is not None and fits(certain, kind) and not fits(given, kind):
                there = (text(name), text(" if "), text(name), text(" is not None"))
                add(symbol, *there, text(" else "), symbol)

    def _either(self, symbol: Symbol, kind: Any, level: Any) -> None:
        add = self.rules.add
        for one in members(kind):
            if one is bool:
                add(symbol, level("both", bool))
                add(symbol, symbol, text(" or "), level("both", bool))
            else:
                add(symbol, level("sum", one))
        if len(members(kind)) > 1:
            add(symbol, level("primary"))

    def _both(self, symbol: Symbol, kind: Any, level: Any) -> None:
        self.rules.add(symbol, level("negation"))
        self.rules.add(symbol, symbol, text(" and "), level("negation"))

    def _negation(self, symbol: Symbol, kind: Any, level: Any) -> None:
        self.rules.add(symbol, text("not "), symbol)
        self.rules.add(symbol, level("primary"))
        self._add_comparisons(symbol, level)

    def _add_comparisons(self, symbol: Symbol, level: Any) -> None:
        def add(left: Symbol, signs: tuple[str, ...], right: Symbol) -> None:
            for sign in signs:
                self.rules.add(symbol, left, text(sign), right)

        if any(kind in ops.NUMBERS for kind in self.known):
            add(level("sum", float), ops.ORDER, level("sum", float))
        for kind in self.known:
            plain = unbound(kind)
            outer, inner = typing.get_origin(plain) or plain, typing.get_args(plain)
            if plain in ops.ORDERED:
                add(level("sum", kind), ops.ORDER, level("sum", kind))
            elif (outer is list and inner) or (outer is dict and inner):
                add(level("sum", inner[0]), (" in ", " not in "), level("primary", kind))
            elif self.literals.is_choice(plain):
                add(level("primary", kind), ops.EQUALITY, level("primary", kind))
            if plain is str:
                add(level("sum", str), (" in ", " not in "), level("sum", str))
        for name, given in self.variables.items():
            if without_none(given) is not None:
                for sign in (" is None", " is not None"):
                    self.rules.add(symbol, text(name), text(sign))

    def _sum(self, symbol: Symbol, kind: Any, level: Any) -> None:
        if kind in ops.NUMBERS:
            self.rules.add(symbol, level("product"))
            for sign in ops.SUMS:
                self.rules.add(symbol, symbol, text(sign), level("product"))
            return
        self.rules.add(symbol, level("primary"))
        if kind is str:
            self.rules.add(symbol, symbol, text(" + "), level("primary"))

    def _product(self, symbol: Symbol, kind: Any, level: Any) -> None:
        self.rules.add(symbol, level("sign"))
        for sign in ops.PRODUCTS[kind]:
            self.rules.add(symbol, symbol, text(sign), level("sign"))

    def _sign(self, symbol: Symbol, kind: Any, level: Any) -> None:
        self.rules.add(symbol, text("-"), level("power"))
        self.rules.add(symbol, level("power"))

    def _power(self, symbol: Symbol, kind: Any, level: Any) -> None:
        self.rules.add(symbol, level("primary"))
        for exponent in ops.POWERS:
            self.rules.add(symbol, level("primary"), text(f" ** {exponent}"))

    def _primary(self, symbol: Symbol, kind: Any, level: Any) -> None:
        self.literals.add(symbol, kind, "expression")
        if kind is float:
            self.literals.add(symbol, int, "expression")
        if symbol.depth:
            inside = self.value(kind, symbol.depth - 1, "expression")
            self.rules.add(symbol, text("("), inside, text(")"))
        self.rules.add(symbol, level("given"))

    def _given(self, symbol: Symbol, kind: Any, level: Any) -> None:
        """What has its type whatever stands around it. ``{"sku": "x"}`` alone does not: only where
        a TypedDict is asked for is it one."""
        for name, given in self.variables.items():
            if fits(given, kind):
                self.rules.add(symbol, text(name))
        self.add_calls(symbol, kind)
        if symbol.depth:
            self._add_methods(symbol, kind, symbol.depth)
        for owner in self.known:
            for behind, part in self._parts(owner):
                if fits(part, kind):
                    self._add_part(symbol, owner, behind, symbol.depth)

    def _add_part(self, symbol: Symbol, owner: Any, behind: tuple[Any, ...], depth: int) -> None:
        index = len(behind) > 1
        if depth or not index:
            items = [
                one if isinstance(one, str) else self.value(one, depth - 1, "expression")
                for one in behind
            ]
            label = "given" if index else "primary"
            self.rules.add(symbol, self.level(label, owner, depth), *items)

    def _add_methods(self, symbol: Symbol, kind: Any, depth: int) -> None:
        if not any(unbound(one) is str for one in self.known):
            return
        for name in ops.STR_METHODS:
            method = ops.method(name)
            if fits(method.returns, kind):
                owner = self.level("primary", str, depth)
                self.rules.add(symbol, owner, self.call(method, depth))

    # -- errors -----------------------------------------------------------------------------

    def missing(self, kind: Any, alive: set[Symbol]) -> str:
        """What is not there to make a ``kind``."""
        for function in self.functions:
            if fits(function.returns, kind):
                return self.why_not(function, alive)
        named = [f"{name} ({type_name(given)})" for name, given in self.variables.items()]
        named += [str(function) for function in self.functions]
        has = f"; there is {', '.join(named)}" if named else ""
        return f"nothing in scope makes a {type_name(kind)}{has}; {self.cure}"
