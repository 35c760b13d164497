"""Expressions that a model has written, with their type and a way to compute them."""

from __future__ import annotations

from typing import Any

from ..errors import ConstraintError
from ..runtime.constraints.expressions import ExpressionSpec
from ..runtime.constraints.grammar import matches
from ..runtime.constraints.types import type_name
from .evaluate import Evaluator, names, parse
from .values import cut


class Expression:
    """A Python expression over the names of a scope.

    Attributes:
        source: its text.
        type: the type that it has whatever the values are.
        names: the variables that it uses, sorted.
    """

    def __init__(self, source: str, spec: ExpressionSpec):
        self.source, self.type = source, spec.type
        self._spec, self._tree = spec, parse(source)
        self.names = tuple(sorted(names(self._tree) & spec.variables.keys()))

    def evaluate(self, **values: Any) -> Any:
        """The value of the expression.

        Args:
            values: by name those of the variables that it uses (others are let be). Functions
                are those of the scope.

        Raises:
            ValueError: the value of a variable is missing, or there is no such variable.
            Exception: what an operation or a function raises (a division by zero).
        """
        spec = self._spec
        missing = [name for name in self.names if name not in values]
        unknown = [name for name in values if name not in spec.variables]
        if missing or unknown:
            wrong = f"{missing[0]} is missing" if missing else f"there is no variable {unknown[0]}"
            raise ValueError(f"evaluate: {wrong}; {self.source!r} uses {', '.join(self.names)}")
        scope = {**spec.classes, **spec.functions, **values}
        return Evaluator(scope, lambda f, *args, **kwargs: f(*args, **kwargs)).visit(self._tree)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Expression) and (self.source, self.type) == (
            other.source,
            other.type,
        )

    def __hash__(self) -> int:
        return hash(self.source)

    def __str__(self) -> str:
        return self.source

    def __repr__(self) -> str:
        return f"Expression({self.source!r}, {type_name(self.type)})"


class ExpressionForm:
    """The text of ``gen(expression=...)``."""

    ends: tuple[str, ...] = ("\n",)
    """Nothing closes an expression; a line break ends it."""

    def __init__(self, spec: ExpressionSpec):
        self.spec = spec

    def read(self, text: Any, meta_info: Any) -> Any:
        source = text.removesuffix("\n")
        if not matches(self.spec.grammar, source):
            told = f"no expression of {self.spec.source}: {text[:200]!r}"
            raise ConstraintError(f"{told}{cut(meta_info)}")
        return Expression(source, self.spec)
