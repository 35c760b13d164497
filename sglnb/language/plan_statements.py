"""Statements: what happens once, in a loop, or maybe (see :mod:`.plan_reader`)."""

from __future__ import annotations

import ast
import sys
from typing import Any

from .plan_calls import CallsReader, is_method
from .plan_names import ROLES, GroupName, Scope, StateName
from .plan_tips import CODE, code_of

PACKAGES = ("sglnb", "sglang")
LOOPS = (ast.For, ast.AsyncFor, ast.While)


class StatementsReader(CallsReader):
    """Reads blocks of statements."""

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
        if is_method(value) and value.func.attr in ("at", "before"):
            return self.new_state(None) if scope.state(value.func.value) is not None else None
        if scope.primitive(value):
            return value
        return scope.constant(value)

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

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, scope: Scope, depth: int) -> None:
        head = node.test if isinstance(node, ast.While) else node.iter
        self._expression(head, scope, depth)
        title = f"while {code_of(head)}"
        branches: list[tuple[GroupName, StateName]] = []
        if not isinstance(node, ast.While):
            target = code_of(node.target)
            if isinstance(node.target, ast.Tuple):
                target = target.removeprefix("(").removesuffix(")")
            title = f"for {target} in {code_of(head)}"
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
        ways = [(f"if {code_of(node.test)}", node.body)]
        tests, rest = [node.test], node.orelse
        while len(rest) == 1 and isinstance(rest[0], ast.If):
            ways.append((f"elif {code_of(rest[0].test)}", rest[0].body))
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
            title = f"except {code_of(handler.type)}" if handler.type else "except"
            mark = len(self.plan.nodes)
            self.plan.add("if", depth, scope.file, handler, code=title)
            self.block(handler.body, scope, depth + 1)
            self._drop_if_empty(mark)
            ends.append(self._now())
        self._merge(ends)
        self.block(node.finalbody, scope, depth)

    def _with(self, node: ast.With | ast.AsyncWith, scope: Scope, depth: int) -> None:
        closing = []
        for item in node.items:
            call = item.context_expr
            method = call.func.attr if is_method(call) else ""
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
