"""What the names in a program's source stand for, as far as that can be seen without running it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

from . import api

ROLES = ("system", "user", "assistant")
PRIMITIVES: dict[Any, str] = {
    getattr(api, name): name
    for name in (
        "gen", "gen_int", "gen_string", "select", "image", "video", "separate_reasoning",
        *ROLES, *(f"{role}_{end}" for role in ROLES for end in ("begin", "end")),
    )
}  # fmt: skip
PLAIN = (str, int, float, bool)
"""Types of values that cannot change under our eyes."""


@dataclass(eq=False)
class StateName:
    """A state of the program, as far as the source has been read.

    Attributes:
        tip: the node that its text ends with; see :attr:`~.plan.PlanNode.prev`.
        role: of the message that is open.
        turned: a message began or ended since.
    """

    tip: int | None
    role: str | None = None
    turned: bool = False

    def turn(self, role: str | None) -> None:
        """A message of ``role`` begins here; None: one ends."""
        self.role, self.turned = role, True


@dataclass(eq=False)
class GroupName(StateName):
    """The branches of a fork of ``source``: ``tip`` and ``role`` are those of a branch that nobody
    named yet."""

    fork: int | None = None
    source: StateName | None = None
    branches: dict[Any, StateName] = field(default_factory=dict)


class Outside:
    """Names of a module or a closure, which others may bind anew: what was found is noted in
    ``looked_up``, so that a plan can be kept for as long as it is still there."""

    def __init__(
        self,
        names: Mapping[str, Any],
        looked_up: list[tuple[Callable[[], Mapping[str, Any]], str, Any]],
        live: Callable[[], Mapping[str, Any]] | None = None,
    ):
        self._names, self._looked_up = names, looked_up
        self._live = live or (lambda: names)
        self._noted: set[str] = set()

    def get(self, name: str) -> Any:
        """What ``name`` stands for now; None: nothing."""
        value = self._names.get(name)
        if name not in self._noted:
            self._noted.add(name)
            self._looked_up.append((self._live, name, value))
        return value


def closure_of(func: Any) -> dict[str, Any]:
    """What a function finds in those around it."""
    cells = zip(func.__code__.co_freevars, func.__closure__ or (), strict=False)
    out = {}
    for name, cell in cells:
        with suppress(ValueError):  # it is empty yet
            out[name] = cell.cell_contents
    return out


@dataclass
class Scope:
    """Where names are looked up: what the source read so far has bound, then ``space``.

    Attributes:
        names: what was bound: states, constants, expressions (syntax trees), functions.
        space: a mapping, or the scope around a function.
        stored: how often the source binds each name: one that is not read yet may be anything.
        tainted: names whose values come from a state, with the variables that they come from.
    """

    file: str
    space: Any
    names: dict[str, Any] = field(default_factory=dict)
    stored: Counter[str] = field(default_factory=Counter)
    tainted: dict[str, list[str]] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """What ``name`` stands for; None: unknown."""
        if name in self.names:
            return self.names[name]
        return None if name in self.stored else self.space.get(name)

    def value(self, node: ast.AST) -> Any:
        """What ``node``, a name or a module's attribute, stands for; None: unknown."""
        if isinstance(node, ast.Name):
            return self.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self.value(node.value)
            if isinstance(base, ModuleType):
                return vars(base).get(node.attr)
        return None

    def state(self, node: ast.AST) -> StateName | None:
        """The state or the group that ``node`` stands for."""
        if isinstance(node, ast.Name):
            found = self.get(node.id)
            return found if isinstance(found, StateName) else None
        if isinstance(node, ast.Subscript):
            group = self.state(node.value)
            if isinstance(group, GroupName):
                return self._branch(group, node.slice)
        return None

    @staticmethod
    def _branch(group: GroupName, index: ast.AST) -> StateName:
        if not isinstance(index, ast.Constant):
            return StateName(None, group.role)  # any of them
        return group.branches.setdefault(index.value, StateName(group.tip, group.role))

    def primitive(self, call: ast.AST) -> str | None:
        """The name of the primitive that ``call`` calls."""
        if not isinstance(call, ast.Call):
            return None
        value = self.value(call.func)
        return PRIMITIVES.get(value) if isinstance(value, FunctionType) else None

    def constant(self, node: ast.AST) -> Any:
        """The value of a literal, or of a name for one; None: not known before the run."""
        if isinstance(node, ast.Constant):
            return node.value
        value = self.value(node) if isinstance(node, ast.Name) else None
        return value if type(value) in PLAIN else None

    def reads(self, node: ast.AST) -> list[str] | None:
        """The variables of states that ``node`` depends on, "" for a state's text; None: none."""
        found: list[str] = []
        for part in ast.walk(node):
            if isinstance(part, ast.Subscript) and self.state(part.value) is not None:
                index = self.constant(part.slice)
                found.append(index if isinstance(index, str) else "")
            elif isinstance(part, ast.Attribute) and self.state(part.value) is not None:
                found.append("")
            elif isinstance(part, ast.Name) and part.id in self.tainted:
                found += self.tainted[part.id]
        return list(dict.fromkeys(found)) if found else None


_NAMED = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs,
    ast.MatchStar,
)  # fmt: skip


def stored_names(body: list[ast.stmt]) -> Counter[str]:
    """How often each name is bound in ``body``, the functions in it included."""
    found: Counter[str] = Counter()
    for node in (part for statement in body for part in ast.walk(statement)):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found[node.id] += 1
        elif isinstance(node, _NAMED) and node.name:
            found[node.name] += 1
        elif isinstance(node, ast.alias):
            found[(node.asname or node.name).partition(".")[0]] += 1
    return found


def function_source(func: Any) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The syntax tree of a Python function, with the line numbers of its file; None where its
    source is not to be had."""
    try:
        lines, first = inspect.getsourcelines(func)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    ast.increment_lineno(tree, first - 1)
    found = tree.body[0] if tree.body else None
    return found if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) else None
