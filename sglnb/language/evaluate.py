"""The value of a Python expression, by walking its tree: no name but those given, nothing else.

The texts come from a grammar, which has fewer forms than this; whatever is not one of these is
refused.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConstraintError

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_UNARY = {ast.USub: operator.neg, ast.Not: operator.not_}


def parse(source: str) -> ast.expr:
    """The tree of an expression.

    Raises:
        ConstraintError: it is none.
    """
    try:
        return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConstraintError(f"no Python expression: {error}: {source[:200]!r}") from None


def names(tree: ast.expr) -> set[str]:
    """The names that an expression uses."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


class Evaluator(ast.NodeVisitor):
    """Values of expressions: ``visit(tree)``. What the operations raise is not caught.

    Args:
        scope: what each name stands for.
        call: makes the value of a call from the callable and its arguments.
    """

    def __init__(self, scope: Mapping[str, Any], call: Callable[..., Any]):
        self._scope, self._call = scope, call

    def generic_visit(self, node: ast.AST) -> Any:
        raise ConstraintError(f"{ast.unparse(node)[:200]!r}: there is no such form here")

    def visit_Constant(self, node: ast.Constant) -> Any:
        return node.value

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id not in self._scope:
            raise ConstraintError(f"{node.id!r} is not in scope")
        return self._scope[node.id]

    def visit_List(self, node: ast.List) -> Any:
        return [self.visit(item) for item in node.elts]

    def visit_Tuple(self, node: ast.Tuple) -> Any:
        return tuple(self.visit(item) for item in node.elts)

    def visit_Set(self, node: ast.Set) -> Any:
        return {self.visit(item) for item in node.elts}

    def visit_Dict(self, node: ast.Dict) -> Any:
        pairs = zip(node.keys, node.values, strict=True)
        return {self.visit(key): self.visit(value) for key, value in pairs}

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        if node.attr.startswith("_"):
            raise ConstraintError(f"{node.attr!r} is not in scope")
        return getattr(self.visit(node.value), node.attr)

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        return self.visit(node.value)[self.visit(node.slice)]

    def visit_Call(self, node: ast.Call) -> Any:
        function = self.visit(node.func)  # first, as Python does: it may fail
        args = [self.visit(one) for one in node.args]
        kwargs = {one.arg: self.visit(one.value) for one in node.keywords}
        return self._call(function, *args, **kwargs)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        return _UNARY[type(node.op)](self.visit(node.operand))

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        return _BINARY[type(node.op)](self.visit(node.left), self.visit(node.right))

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        for one in node.values:
            value = self.visit(one)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value

    def visit_Compare(self, node: ast.Compare) -> Any:
        ((sign, right),) = zip(node.ops, node.comparators, strict=True)
        return _BINARY[type(sign)](self.visit(node.left), self.visit(right))

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        return self.visit(node.body if self.visit(node.test) else node.orelse)
