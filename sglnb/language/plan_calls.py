"""Calls: of states' methods, of programs, of functions that take a state (see
:mod:`.plan_reader`)."""

from __future__ import annotations

import ast
import builtins
from types import FunctionType
from typing import Any

from .plan import START
from .plan_names import (
    ROLES,
    GroupName,
    Outside,
    Scope,
    StateName,
    closure_of,
    function_source,
    stored_names,
)
from .plan_parts import PartsReader
from .plan_tips import code_of
from .program import SglFunction

DEEPEST = 12
"""Calls inside calls whose bodies are read."""
RUNS = ("run", "run_batch", "run_async", "run_batch_async")


class CallsReader(PartsReader):
    """Reads calls, and the bodies of what is called.

    Args:
        namespace: the globals of the code that is read, if that is a cell's.
        top: its scope: what it lends, functions of that namespace find there, too.
    """

    def __init__(self, namespace: dict[str, Any] | None = None, top: Scope | None = None):
        super().__init__()
        self._namespace, self._top = namespace, top
        self._inside: list[str] = []  # functions whose bodies are being read

    def block(self, body: list[ast.stmt], scope: Scope, depth: int) -> None:
        """Read statements."""
        raise NotImplementedError

    def scope_of(
        self, func: Any, node: Any, names: dict[str, Any], around: Scope | None = None
    ) -> Scope:
        """The scope of a function's body: in ``around``, or where it was defined."""
        stored = stored_names(node.body)
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg) and argument.arg not in names:
                stored[argument.arg] += 1
        names = {k: v for k, v in names.items() if isinstance(v, StateName) or k not in stored}
        if around is not None:
            return Scope(around.file, around, names, stored)
        space = self._top
        if func.__globals__ is not self._namespace:
            space = Outside(func.__globals__, self.plan.looked_up)
        enclosed = closure_of(func)
        if enclosed:
            enclosing = Outside(enclosed, self.plan.looked_up, live=lambda: closure_of(func))
            space = Scope("", space, {name: enclosing.get(name) for name in enclosed})
        return Scope(func.__code__.co_filename, space, names, stored)

    def _expression(self, node: ast.expr, scope: Scope, depth: int) -> None:
        """An expression for its own sake: what its calls do to states."""
        for call in [part for part in ast.walk(node) if isinstance(part, ast.Call)]:
            self._called(call, scope, depth)

    def _called(self, call: ast.Call, scope: Scope, depth: int) -> None:
        if self._runs_program(call, scope):
            method = isinstance(call.func, ast.Attribute) and call.func.attr in RUNS
            program = scope.value(call.func.value if method else call.func)
            own = None if method else self._state_argument(call, scope)
            self._enter(program, call, own, scope, depth)
            return
        if is_method(call):
            state = scope.state(call.func.value)
            if state is not None:
                self._method(call, state, scope, depth)
                return
        if scope.primitive(call) or _is_builtin(call.func, scope):
            return
        given, target = self._state_argument(call, scope), scope.value(call.func)
        if given is None and isinstance(target, tuple):  # a function beside the state it uses
            names = (n.id for n in ast.walk(target[0]) if isinstance(n, ast.Name))
            given = next(filter(None, (scope.state(ast.Name(name)) for name in names)), None)
        if given is not None:
            self._enter(target, call, given, scope, depth)

    def _method(self, call: ast.Call, state: StateName, scope: Scope, depth: int) -> None:
        name = call.func.attr
        if isinstance(state, GroupName):
            if name == "join":
                self.plan.add("join", depth, scope.file, call, of=state.fork, code=code_of(call))
                if state.source is not None and (call.args or call.keywords):
                    state.source.tip = None  # by its mode it may append what the branches wrote
        elif name in ROLES and call.args:
            self._message(name, call.args[0], state, scope, depth)
        elif name == "fork":
            self._forked(call, None, scope, depth)
        elif name in ("undo", "load"):
            state.tip = None

    def _forked(
        self, value: ast.expr, name: str | None, scope: Scope, depth: int
    ) -> GroupName | None:
        if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)):
            return None
        state = scope.state(value.func.value)
        if state is None or isinstance(state, GroupName) or value.func.attr != "fork":
            return None
        size = scope.constant(value.args[0]) if value.args else 1
        fork = self.plan.add(
            "fork", depth, scope.file, value, name=name, code=code_of(value), prev=state.tip,
            role=state.role, size=size if type(size) is int else None,
        )  # fmt: skip
        group = GroupName(fork, state.role, fork=fork, source=state)
        self.follow(group)
        state.tip = fork
        return group

    @staticmethod
    def _runs_program(call: ast.AST, scope: Scope) -> bool:
        """Whether ``call`` is of an SglFunction, with a state of its own or on one given."""
        if not isinstance(call, ast.Call):
            return False
        if isinstance(call.func, ast.Attribute) and call.func.attr in RUNS:
            return _is_program(scope.value(call.func.value))
        return _is_program(scope.value(call.func))

    @staticmethod
    def _state_argument(call: ast.Call, scope: Scope) -> StateName | None:
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        return next(filter(None, map(scope.state, values)), None)

    def _enter(
        self, target: Any, call: ast.Call, state: StateName | None, scope: Scope, depth: int
    ) -> None:
        """A program or a function is called, on ``state`` or with one of its own (None)."""
        function, around = _definition(target)
        unread = function is None or function.name in self._inside or depth > DEEPEST
        title = function.name if function is not None else code_of(call.func)
        self.plan.add(
            "call", depth, scope.file, call, name=title, code=code_of(call), unread=unread,
            prev=state.tip if state is not None else None,
        )  # fmt: skip
        if unread:
            for each in filter(None, (scope.state(a) for a in call.args)):
                each.tip = None
            return
        names = self._arguments(function, call, state, scope)
        if state is None and function.args.args:
            names[function.args.args[0].arg] = self.new_state(START)
        func = target.func if isinstance(target, SglFunction) else target
        inner = self.scope_of(func, function, names, around)
        self._inside.append(function.name)
        self.block(function.body, inner, depth + 1)
        self._inside.pop()

    @staticmethod
    def _arguments(
        function: Any, call: ast.Call, state: StateName | None, scope: Scope
    ) -> dict[str, Any]:
        """Parameters whose arguments we follow. A call with a state of its own has none for it."""
        parameters = [a.arg for a in [*function.args.posonlyargs, *function.args.args]]
        if state is None:
            parameters = parameters[1:]
        given = dict(zip(parameters, call.args, strict=False))
        given |= {k.arg: k.value for k in call.keywords if k.arg is not None}
        stored = stored_names(function.body)
        found = {}
        for name, value in given.items():
            known = scope.state(value)
            known = known if known is not None else scope.constant(value)
            if known is not None and (isinstance(known, StateName) or not stored[name]):
                found[name] = known
        return found


def is_method(call: ast.AST) -> bool:
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)


def _is_builtin(func: ast.expr, scope: Scope) -> bool:
    """Whether ``func`` is a function such as ``zip``, which appends nothing."""
    unbound = isinstance(func, ast.Name) and scope.get(func.id) is None
    return unbound and not scope.stored[func.id] and hasattr(builtins, func.id)


def _is_program(target: Any) -> bool:
    if isinstance(target, SglFunction):
        return True
    return isinstance(target, tuple) and any(
        code_of(d).rpartition(".")[2].startswith("function") for d in target[0].decorator_list
    )


def _definition(target: Any) -> tuple[Any, Scope | None]:
    """(the syntax tree of a function, the scope around it if it is in the same source)."""
    if isinstance(target, tuple):
        return target
    if isinstance(target, SglFunction):
        return function_source(target.func), None
    if isinstance(target, FunctionType):
        return function_source(target), None
    return None, None
