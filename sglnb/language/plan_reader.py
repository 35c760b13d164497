"""Reads a program's syntax tree into its plan (see :mod:`.plan`)."""

from __future__ import annotations

import ast
import builtins
import sys
from collections import ChainMap
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from .plan import START, Plan, logger
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
from .program import SglFunction

PACKAGES = ("sglnb", "sglang")
CODE = 120
"""Characters of code that a node keeps."""
DEEPEST = 12
RUNS = ("run", "run_batch", "run_async", "run_batch_async")
LOOPS = (ast.For, ast.AsyncFor, ast.While)


def plan_of_cell(
    source: str, file: str, namespace: dict[str, Any], lent: Mapping[str, Any]
) -> Plan | None:
    """The plan of a ``%%sgl`` cell whose state is called ``s``; None where it cannot be made.

    Args:
        source: with the line numbers that its code objects have.
        file: their file name.
        namespace: where it will run.
        lent: names that are put there while it runs.
    """
    return _safely(lambda: _cell(source, file, namespace, lent))


def plan_of_program(program: SglFunction) -> Plan | None:
    """The plan of one program, whatever its arguments."""
    return _safely(lambda: _program(program))


def _safely(make: Callable[[], Plan | None]) -> Plan | None:
    try:
        plan = make()
    except Exception:  # a plan is a picture: without it the program runs all the same
        logger.exception("the plan of a program could not be made")
        return None
    return plan if plan is not None and plan.nodes else None


def _cell(source: str, file: str, namespace: dict[str, Any], lent: Mapping[str, Any]) -> Plan:
    body = ast.parse(source).body
    names = {"s": StateName(START)}
    scope = Scope(file, ChainMap(dict(lent), namespace), names, stored_names(body))
    reader = _Reader(namespace, scope)
    reader.follow(names["s"])
    reader.block(body, scope, 0)
    return reader.plan


def _program(program: SglFunction) -> Plan | None:
    node = function_source(program.func)
    if node is None:
        return None
    reader = _Reader()
    names = {"s": reader.follow(StateName(START))}
    names |= {k: v for k, v in program.bind_arguments.items() if type(v) is str}
    scope = reader.scope_of(program.func, node, names)
    reader.block(node.body, scope, 0)
    return reader.plan


class _Reader:
    """
    Args:
        namespace: the globals of the code that is read, if that is a cell's.
        top: its scope: what it lends, functions of that namespace find there, too.
    """

    def __init__(self, namespace: dict[str, Any] | None = None, top: Scope | None = None):
        self.plan = Plan()
        self._namespace, self._top = namespace, top
        self._states: list[StateName] = []
        self._inside: list[str] = []  # functions whose bodies are being read

    def follow(self, state: StateName) -> StateName:
        """One more state whose text is followed."""
        self._states.append(state)
        return state

    def new_state(self, tip: int | None, role: str | None = None) -> StateName:
        return self.follow(StateName(tip, role))

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

    # -- statements ------------------------------------------------------------------------

    def block(self, body: list[ast.stmt], scope: Scope, depth: int) -> None:
        for statement in body:
            self._statement(statement, scope, depth)

    def _statement(self, node: ast.stmt, scope: Scope, depth: int) -> None:
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            self._appended(node, scope, depth)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            self._assigned(node, scope, depth)
        elif isinstance(node, LOOPS):
            self._loop(node, scope, depth)
        elif isinstance(node, ast.If):
            self._condition(node, scope, depth)
        elif isinstance(node, ast.Try | ast.TryStar):
            self._tried(node, scope, depth)
        elif isinstance(node, ast.Match):
            cases = [(f"case {ast.unparse(case.pattern)}", case.body) for case in node.cases]
            self._ways(node, node.subject, cases, scope, depth, leave_out=True)
        elif isinstance(node, ast.With | ast.AsyncWith):
            self._with(node, scope, depth)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if scope.stored[node.name] == 1:
                scope.names[node.name] = (node, scope)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self._imported(node, scope)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self._expression(child, scope, depth)

    def _appended(self, node: ast.AugAssign, scope: Scope, depth: int) -> None:
        state = scope.state(node.target)
        if state is None and self._makes_text(node.value, scope):
            state = self.new_state(None)  # a state that came some other way
            if isinstance(node.target, ast.Name):
                scope.names[node.target.id] = state
        if state is None:
            self._expression(node.value, scope, depth)
        elif isinstance(state, GroupName):
            branch = self.new_state(state.tip, state.role)
            self._parts(node.value, branch, scope, depth)
            self._all_branches(state, branch)
        else:
            self._parts(node.value, state, scope, depth)

    @staticmethod
    def _all_branches(group: GroupName, like: StateName) -> None:
        """Each branch of the group went on as ``like`` did."""
        group.tip, group.role = (like.tip if not group.branches else None), like.role
        for branch in group.branches.values():
            branch.tip, branch.role = None, like.role

    @staticmethod
    def _makes_text(node: ast.AST, scope: Scope) -> bool:
        return any(scope.primitive(part) for part in ast.walk(node))

    def _assigned(self, node: ast.Assign | ast.AnnAssign, scope: Scope, depth: int) -> None:
        if node.value is None:
            return
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        name = targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else None
        bound = self._bindable(value, name, scope, depth)
        if bound is None:
            self._expression(value, scope, depth)
        sources = scope.reads(value)
        for target in targets:
            self._bind(target, bound, sources, scope)

    def _bindable(self, value: ast.expr, name: str | None, scope: Scope, depth: int) -> Any:
        """What a name becomes that is set to ``value``, if that is something we follow."""
        state = scope.state(value)
        if state is not None:
            return state
        forked = self._forked(value, name, scope, depth)
        if forked is not None:
            return forked
        if self._runs_program(value, scope):
            self._expression(value, scope, depth)
            return self.new_state(None)
        if _is_method(value) and value.func.attr in ("at", "before"):
            return self.new_state(None) if scope.state(value.func.value) is not None else None
        if scope.primitive(value):
            return value
        return scope.constant(value)

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
            "fork", depth, scope.file, value, name=name, code=_code(value), prev=state.tip,
            role=state.role, size=size if type(size) is int else None,
        )  # fmt: skip
        group = GroupName(fork, state.role, fork=fork, source=state)
        self.follow(group)
        state.tip = fork
        return group

    def _bind(self, target: ast.expr, bound: Any, sources: list[str] | None, scope: Scope) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            for i, each in enumerate(target.elts):
                one = None
                if isinstance(bound, GroupName):
                    one = bound.branches.setdefault(i, self.new_state(bound.tip, bound.role))
                self._bind(each, one, sources, scope)
        elif isinstance(target, ast.Name):
            scope.names.pop(target.id, None)
            once = scope.stored[target.id] == 1
            if isinstance(bound, StateName) or (bound is not None and once):
                scope.names[target.id] = bound
            scope.tainted.pop(target.id, None)
            if sources is not None and not isinstance(bound, StateName):
                scope.tainted[target.id] = sources

    def _imported(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        for alias in node.names:
            name = alias.asname or alias.name
            scope.names.pop(name, None)
            if isinstance(node, ast.Import):
                if alias.name in PACKAGES:
                    scope.names[name] = sys.modules.get(alias.name)
            elif node.module in PACKAGES and node.module in sys.modules:
                scope.names[name] = vars(sys.modules[node.module]).get(alias.name)

    # -- what may or may not happen --------------------------------------------------------

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, scope: Scope, depth: int) -> None:
        head = node.test if isinstance(node, ast.While) else node.iter
        self._expression(head, scope, depth)
        title = f"while {_code(head)}"
        branches: list[tuple[GroupName, StateName]] = []
        if not isinstance(node, ast.While):
            target = _code(node.target)
            if isinstance(node.target, ast.Tuple):
                target = target.removeprefix("(").removesuffix(")")
            title = f"for {target} in {_code(head)}"
            self._bind(node.target, None, scope.reads(head), scope)
            branches = self._branches_of(node.target, node.iter, scope)
        mark = len(self.plan.nodes)
        self.plan.add("loop", depth, scope.file, node, code=title, uses=scope.reads(head) or [])
        before = self._now()
        new = {id(branch) for _, branch in branches}
        for state in self._mentioned(node.body, scope):
            if id(state) not in new:
                state.tip = None  # from before the loop, or from the round before
        self.block(node.body, scope, depth + 1)
        self._merge([before, self._now()])
        for group, branch in branches:
            self._all_branches(group, branch)
            group.tip = None
        self.block(node.orelse, scope, depth)
        self._drop_if_empty(mark)

    def _branches_of(
        self, target: ast.expr, iterable: ast.expr, scope: Scope
    ) -> list[tuple[GroupName, StateName]]:
        """Loop variables that are the branches of a group: over it, ``zip`` or ``enumerate``."""
        group = scope.state(iterable)
        if isinstance(group, GroupName) and isinstance(target, ast.Name):
            tip = None if group.branches else group.tip
            branch = self.new_state(tip, group.role)
            scope.names[target.id] = branch
            return [(group, branch)]
        if not (isinstance(iterable, ast.Call) and isinstance(target, ast.Tuple)):
            return []
        called = iterable.func.id if isinstance(iterable.func, ast.Name) else ""
        sources = {"zip": iterable.args, "enumerate": [None, *iterable.args[:1]]}.get(called, [])
        pairs = zip(target.elts, sources, strict=False)
        found = [self._branches_of(t, i, scope) for t, i in pairs if i is not None]
        return [pair for pairs in found for pair in pairs]

    def _mentioned(self, body: list[ast.stmt], scope: Scope) -> list[StateName]:
        names = {n.id for s in body for n in ast.walk(s) if isinstance(n, ast.Name)}
        states = [v for v in map(scope.get, names) if isinstance(v, StateName)]
        inner = [b for s in states if isinstance(s, GroupName) for b in s.branches.values()]
        return states + inner

    def _condition(self, node: ast.If, scope: Scope, depth: int) -> None:
        ways = [(f"if {_code(node.test)}", node.body)]
        tests, rest = [node.test], node.orelse
        while len(rest) == 1 and isinstance(rest[0], ast.If):
            ways.append((f"elif {_code(rest[0].test)}", rest[0].body))
            tests.append(rest[0].test)
            rest = rest[0].orelse
        if rest:
            ways.append(("else", rest))
        for test in tests:
            self._expression(test, scope, depth)
        self._ways(node, ast.Tuple(tests), ways, scope, depth, leave_out=not rest)

    def _ways(
        self, node: ast.AST, on: ast.AST, ways: list[tuple[str, list[ast.stmt]]], scope: Scope,
        depth: int, *, leave_out: bool,
    ) -> None:  # fmt: skip
        """One of several blocks, or with ``leave_out`` maybe none."""
        uses, before = scope.reads(on) or [], self._now()
        ends = [before] if leave_out else []
        mark, first = len(self.plan.nodes), True
        for title, body in ways:
            self._back_to(before)
            kind = "if" if first else "else"
            own = len(self.plan.nodes)
            at = node if first else body[0]
            self.plan.add(kind, depth, scope.file, at, code=title[:CODE],
                          uses=[] if title == "else" else uses)  # fmt: skip
            self.block(body, scope, depth + 1)
            if not first:
                self._drop_if_empty(own)
            ends.append(self._now())
            first = False
        self._merge(ends)
        self._drop_if_empty(mark)

    def _tried(self, node: ast.Try | ast.TryStar, scope: Scope, depth: int) -> None:
        before = self._now()
        self.block([*node.body, *node.orelse], scope, depth)
        ends = [self._now()]
        for handler in node.handlers:
            self._lose(before)  # it may have come any far
            title = f"except {_code(handler.type)}" if handler.type else "except"
            mark = len(self.plan.nodes)
            self.plan.add("if", depth, scope.file, handler, code=title)
            self.block(handler.body, scope, depth + 1)
            self._drop_if_empty(mark)
            ends.append(self._now())
        self._merge(ends)
        self.block(node.finalbody, scope, depth)

    def _drop_if_empty(self, mark: int) -> None:
        """A loop or a condition that has nothing to do with states is nothing to see."""
        if len(self.plan.nodes) == mark + 1 and not self.plan.more:
            self.plan.nodes.pop()

    def _now(self) -> dict[int, tuple[Any, Any]]:
        return {id(s): (s.tip, s.role) for s in self._states}

    def _back_to(self, then: dict[int, tuple[Any, Any]]) -> None:
        for state in self._states:
            state.tip, state.role = then.get(id(state), (None, None))

    def _lose(self, then: dict[int, tuple[Any, Any]]) -> None:
        for state in self._states:
            if then.get(id(state)) != (state.tip, state.role):
                state.tip = None

    def _merge(self, ends: list[dict[int, tuple[Any, Any]]]) -> None:
        """After one of several ways, whichever it was."""
        for state in self._states:
            tips = {end[id(state)][0] for end in ends if id(state) in end}
            roles = {end[id(state)][1] for end in ends if id(state) in end}
            state.tip = tips.pop() if len(tips) == 1 else None
            state.role = roles.pop() if len(roles) == 1 else None

    def _with(self, node: ast.With | ast.AsyncWith, scope: Scope, depth: int) -> None:
        closing = []
        for item in node.items:
            call = item.context_expr
            method = call.func.attr if _is_method(call) else ""
            state = scope.state(call.func.value) if method else None
            if state is not None and method in ROLES:
                state.turn(method)
                closing.append(state)
            elif state is not None and method == "copy":
                copy = self.new_state(state.tip, state.role)
                if isinstance(item.optional_vars, ast.Name):
                    scope.names[item.optional_vars.id] = copy
            elif state is None:
                self._expression(call, scope, depth)
        self.block(node.body, scope, depth)
        for state in closing:
            state.turn(None)

    # -- expressions -----------------------------------------------------------------------

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
        if _is_method(call):
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
                self.plan.add("join", depth, scope.file, call, of=state.fork, code=_code(call))
                if state.source is not None and (call.args or call.keywords):
                    state.source.tip = None  # by its mode it may append what the branches wrote
        elif name in ROLES and call.args:
            self._message(name, call.args[0], state, scope, depth)
        elif name == "fork":
            self._forked(call, None, scope, depth)
        elif name in ("undo", "load"):
            state.tip = None

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
        title = function.name if function is not None else _code(call.func)
        self.plan.add(
            "call", depth, scope.file, call, name=title, code=_code(call), unread=unread,
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

    # -- what is appended ------------------------------------------------------------------

    def _parts(self, node: ast.expr, state: StateName, scope: Scope, depth: int) -> None:
        """``node`` is appended to ``state``."""
        if isinstance(node, ast.Await):
            node = node.value
        known = scope.constant(node)
        if isinstance(known, str):
            self._add("text", node, state, scope, depth, text=known)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            self._parts(node.left, state, scope, depth)
            self._parts(node.right, state, scope, depth)
        elif isinstance(node, ast.JoinedStr):
            self._f_string(node, state, scope, depth)
        elif isinstance(node, ast.IfExp) and self._makes_text(node, scope):
            self._either(node, state, scope, depth)
        elif scope.primitive(node):
            self._primitive(node, state, scope, depth)
        elif isinstance(node, ast.Name) and isinstance(scope.get(node.id), ast.Call):
            self._primitive(scope.get(node.id), state, scope, depth)
        else:
            self._made(node, state, scope, depth)

    def _made(self, node: ast.expr, state: StateName, scope: Scope, depth: int) -> None:
        """Text that is made as the program runs."""
        holes = [part for part in ast.walk(node) if scope.primitive(part)]
        if holes:  # in an expression of the user's: how often and in which order is not seen
            state.tip = None
            for call in holes:
                self._primitive(call, state, scope, depth)
                state.tip = None
            return
        self._expression(node, scope, depth)
        uses = scope.reads(node) or []
        kind = "use" if isinstance(node, ast.Subscript) and uses and uses[0] else "value"
        name = uses[0] if kind == "use" else None
        self._add(kind, node, state, scope, depth, name=name, code=_code(node), uses=uses)

    def _f_string(self, node: ast.JoinedStr, state: StateName, scope: Scope, depth: int) -> None:
        text, at = "", node
        for part in node.values:
            known = None
            if isinstance(part, ast.Constant):
                known = part.value
            elif part.conversion == -1 and part.format_spec is None:
                known = scope.constant(part.value)
            if known is not None:
                text += str(known)
                continue
            if text:
                self._add("text", at, state, scope, depth, text=text)
                text = ""
            self._made(part.value, state, scope, depth)
        if text:
            self._add("text", at, state, scope, depth, text=text)

    def _either(self, node: ast.IfExp, state: StateName, scope: Scope, depth: int) -> None:
        before, ends = self._now(), []
        uses = scope.reads(node.test) or []
        ways = (("if", f"if {_code(node.test)}", node.body), ("else", "else", node.orelse))
        for kind, title, way in ways:
            self._back_to(before)
            self.plan.add(kind, depth, scope.file, node, code=title, uses=uses)
            self._parts(way, state, scope, depth + 1)
            ends.append(self._now())
        self._merge(ends)

    def _message(
        self, role: str, content: ast.expr | None, state: StateName, scope: Scope, depth: int
    ) -> None:
        state.turn(role)
        if content is not None:
            self._parts(content, state, scope, depth)
        state.turn(None)

    def _primitive(self, call: ast.Call, state: StateName, scope: Scope, depth: int) -> None:
        name = scope.primitive(call)
        role, _, end = name.partition("_")
        if role in ROLES:
            if end:
                state.turn(role if end == "begin" else None)
            else:
                self._message(role, call.args[0] if call.args else None, state, scope, depth)
        elif name in ("image", "video"):
            self._add("image", call, state, scope, depth, code=_code(call))
        elif name == "separate_reasoning":
            self._parts(call.args[0] if call.args else call, state, scope, depth)
        else:
            given = {k.arg: k.value for k in call.keywords}
            named = given.get("name", call.args[0] if call.args else None)
            what = "select" if name == "select" or "choices" in given else "gen"
            known = scope.constant(named) if named is not None else None
            known = known if isinstance(known, str) else None
            unnamed = named is None or (isinstance(named, ast.Constant) and named.value is None)
            code = "" if known is not None or unnamed else _code(named)
            self._add(what, call, state, scope, depth, name=known, code=code)

    def _add(
        self, kind: str, at: ast.AST, state: StateName, scope: Scope, depth: int, **more: Any
    ) -> None:
        if kind == "text" and (not more["text"] or self._goes_on(state, depth, more["text"])):
            return
        state.tip = self.plan.add(
            kind, depth, scope.file, at, prev=state.tip, role=state.role,
            opens=state.turned, **more,
        )  # fmt: skip
        state.turned = False

    def _goes_on(self, state: StateName, depth: int, text: str) -> bool:
        """Whether ``text`` could be added to a constant right before it in the same message."""
        last = self.plan.nodes[-1] if self.plan.nodes else None
        if last is None or last.kind != "text" or last.id != state.tip or state.turned:
            return False
        return last.depth == depth and not self.plan.more and self.plan.extend(last, text)


def _is_method(call: ast.AST) -> bool:
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)


def _is_builtin(func: ast.expr, scope: Scope) -> bool:
    """Whether ``func`` is a function such as ``zip``, which appends nothing."""
    unbound = isinstance(func, ast.Name) and scope.get(func.id) is None
    return unbound and not scope.stored[func.id] and hasattr(builtins, func.id)


def _is_program(target: Any) -> bool:
    if isinstance(target, SglFunction):
        return True
    return isinstance(target, tuple) and any(
        _code(d).rpartition(".")[2].startswith("function") for d in target[0].decorator_list
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


def _code(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= CODE else text[: CODE - 1] + "…"
