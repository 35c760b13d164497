"""What a program appends to its states (see :mod:`.plan_reader`)."""

from __future__ import annotations

import ast

from .choices import TRIE
from .plan_names import ROLES, Scope, StateName
from .plan_tips import Tips, code_of


class PartsReader(Tips):
    """Reads an appended expression into nodes: text, holes, values."""

    def _expression(self, node: ast.expr, scope: Scope, depth: int) -> None:
        """An expression for its own sake: what its calls do to states."""
        raise NotImplementedError

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

    @staticmethod
    def _makes_text(node: ast.AST, scope: Scope) -> bool:
        return any(scope.primitive(part) for part in ast.walk(node))

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
        self._add(kind, node, state, scope, depth, name=name, code=code_of(node), uses=uses)

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
        ways = (("if", f"if {code_of(node.test)}", node.body), ("else", "else", node.orelse))
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
            self._add("image", call, state, scope, depth, code=code_of(call))
        elif name == "separate_reasoning":
            self._parts(call.args[0] if call.args else call, state, scope, depth)
        else:
            given = {k.arg: k.value for k in call.keywords}
            named = given.get("name", call.args[0] if call.args else None)
            method = given.get("choices_method")
            scored = "choices" in given and (method is None or scope.constant(method) != TRIE)
            what = "select" if name == "select" or scored else "gen"
            known = scope.constant(named) if named is not None else None
            known = known if isinstance(known, str) else None
            unnamed = named is None or (isinstance(named, ast.Constant) and named.value is None)
            code = "" if known is not None or unnamed else code_of(named)
            self._add(what, call, state, scope, depth, name=known, code=code)
