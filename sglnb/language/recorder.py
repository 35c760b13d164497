"""What the state of a traced program writes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import UnknownVariable, Where
from .ir import (
    SglConstantText,
    SglExpr,
    SglGen,
    SglImage,
    SglRoleBegin,
    SglRoleEnd,
    SglSelect,
    SglSetVariable,
    SglVariable,
    SglVarScopeBegin,
    SglVarScopeEnd,
    as_expr,
    flatten,
)
from .operation import role_after
from .placeholders import (
    SglArgument,
    SglImageArgument,
    TracedValue,
    is_placeholder,
    is_plain,
    placeholders,
)
from .trace_node import Node

if TYPE_CHECKING:
    from .tracer import Tracer


class Recorder:
    """Takes the place of a state's executor and writes down what it is told to do."""

    def __init__(self, tracer: Tracer, index: int, parent: Recorder | None):
        self.tracer = tracer
        self.index = index
        self.last: Node | None = parent.last if parent else None
        self.role: str | None = parent.role if parent else None
        self.values: dict[str, Any] = dict(parent.values) if parent else {}
        self.makers: dict[str, Node] = dict(parent.makers) if parent else {}
        """The steps that made the values."""
        self.own: dict[str, None] = {}
        """Names that were set here, not in the state this one was forked from."""
        self.failed = False
        self.depth = 0

    def __getattr__(self, name: str) -> Any:
        """All else that an executor has is known only in a run."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self.tracer.stop(f"a state's {name.strip('_')} is not known before the run")

    # -- what states call ------------------------------------------------------------------

    def submit(self, value: Any, *, step: bool = True, closing: bool = False) -> None:
        """Write down an expression or a text."""
        if closing:
            return  # the body is on its way out
        self.tracer.check()
        exprs = flatten(as_expr(value))
        self.role = role_after(exprs, self.role)
        where = self.tracer.where()
        for expr in exprs:
            self._record(expr, where)

    def fork(self, size: int) -> list[Recorder]:
        """Write down a fork."""
        tracer = self.tracer
        tracer.check()
        node = tracer.add(self, "fork", where=tracer.where())
        mine = tracer.trace.states[self.index]
        children = [tracer.new_recorder(mine.program, self, i, mine.options) for i in range(size)]
        node.children = tuple(child.index for child in children)
        return children

    def join(self, children: list[Recorder], mode: str, on_error: str) -> None:
        """Write down a join and what it brings."""
        tracer, where = self.tracer, self.tracer.where()
        tracer.check()
        branches = tuple(child.index for child in children)
        if mode == "gather_variable":
            for name in dict.fromkeys(name for child in children for name in child.own):
                mine = [c if name in c.own else None for c in children]
                values = [c.values[name] if c else None for c in mine]
                makers = [c.makers[name] if c else None for c in mine]
                node = tracer.add(
                    self,
                    "set",
                    name=name,
                    sources=tuple(maker for maker in makers if maker),
                    where=where,
                    children=branches,
                    expr=SglSetVariable(name, values, makers),
                )
                self._set(name, values, node)
        else:
            for child in children:
                tracer.add(child, "read", name="branch", where=where)
        ends = tuple(child.last for child in children)
        tracer.add(
            self, "join", name=mode, sources=ends, where=where, children=branches, expr=on_error
        )

    def get_var(self, name: str) -> Any:
        """The placeholder of a variable, or what it was set to."""
        self.tracer.check()
        if name not in self.values:
            known = ", ".join(self.values) or "none yet"
            raise UnknownVariable(f"no variable {name!r} in this state; it has: {known}")
        return self.values[name]

    def get_meta_info(self, name: str) -> Any:
        """A placeholder for what the engine will say."""
        self.get_var(name)
        node = self.makers[name]
        if node.kind == "set" and node.children:
            self.tracer.stop(f"meta info of variable {name!r} is not known before the run")
        if node.kind not in ("gen", "select"):
            return None
        return TracedValue(node, name, part="meta", of_type=dict)

    def read(self, what: str, of_type: type) -> TracedValue:
        """A placeholder for the text or the messages up to here."""
        self.tracer.check()
        node = self.tracer.add(self, "read", name=what, where=self.tracer.where())
        return TracedValue(node, what, of_type=of_type)

    def chain(self) -> list[Node]:
        """All steps that the text of this state comes from, its parents' too."""
        out, node = [], self.last
        while node is not None:
            out.append(node)
            node = node.prev_node
        return [node for node in reversed(out) if node.kind != "fork"]

    def sync(self) -> None:
        """Nothing is under way."""
        self.tracer.check()

    def end(self) -> None:
        """Nothing to let go of."""

    # -- expressions -----------------------------------------------------------------------

    def _record(self, expr: SglExpr, where: Where) -> None:
        kind = _KINDS.get(type(expr))
        if type(expr) is TracedValue:
            self._use(expr, where)
        elif type(expr) is SglVariable:
            self._outside(expr)
        elif kind is None:
            self.tracer.stop(f"{type(expr).__name__} is not something that a trace can follow")
        elif kind == "set":
            if not is_plain(expr.value):
                self.tracer.stop(
                    f"a variable is set to a {type(expr.value).__name__}; "
                    "a trace follows only text, numbers, lists and dicts"
                )
            sources = tuple(dict.fromkeys(p._node for p in self._values(expr.value)))
            node = self._add(kind, expr, where, sources=sources)
            self._set(expr.name, expr.value, node)
        else:
            self._check_constant(expr)
            node = self._add(kind, expr, getattr(expr, "where", None) or where)
            if kind in ("gen", "select", "scope_end") and expr.name is not None:
                self._set(expr.name, TracedValue(node, expr.name), node)

    def _add(self, kind: str, expr: SglExpr, where: Where, **more: Any) -> Node:
        match kind:
            case "argument":
                name = getattr(expr, "argument", expr)._name
            case "role_begin" | "role_end":
                name = expr.role
            case _:
                name = getattr(expr, "name", None)
        text = expr.value if kind == "text" else ""
        return self.tracer.add(self, kind, name=name, text=text, where=where, expr=expr, **more)

    def _set(self, name: str, value: Any, node: Node) -> None:
        self.values[name] = value
        self.makers[name] = node
        self.own[name] = None

    def _use(self, value: TracedValue, where: Where) -> None:
        self._values(value)
        if value._type is not str:
            self.tracer.stop(f"{value._describe()} is appended, which is not text", on=value._on)
        self.tracer.add(
            self, "use", name=value._name, sources=(value._node,), where=where, expr=value
        )

    def _values(self, value: Any) -> list[TracedValue]:
        """The traced values in ``value``, all of this trace."""
        out = [p for p in placeholders(value) if type(p) is TracedValue]
        nodes = self.tracer.trace.nodes
        for p in out:
            if p._node.id >= len(nodes) or nodes[p._node.id] is not p._node:
                self.tracer.stop(f"{p._describe()} belongs to another trace")
        return out

    def _outside(self, expr: SglVariable) -> None:
        source = expr.source.stream_executor
        if type(source) is not Recorder:
            self.tracer.stop(f"variable {expr.name!r} of a state outside of the program")
        value = source.get_var(expr.name)
        self.submit(value if is_placeholder(value) else str(value))

    def _check_constant(self, expr: SglExpr) -> None:
        """End the trace at a ``gen`` whose parameters are not known, or that makes several."""
        given: list[Any] = []
        if type(expr) is SglGen:
            given = [*expr.sampling_params.values(), expr.name]
            options = self.tracer.trace.states[self.index].options
            if {**options, **expr.sampling_params}.get("n", 1) != 1:
                self.tracer.stop("a gen with n > 1 makes a list")
        elif type(expr) is SglSelect:
            given = [expr.choices, expr.name]
        for value in placeholders(given):
            what = f"a parameter of {type(expr).__name__[3:].lower()} is {value._describe()}"
            self.tracer.stop(f"{what}, whose value is not known before the run", on=value._on)


_KINDS: dict[type, str] = {
    SglConstantText: "text",
    SglArgument: "argument",
    SglGen: "gen",
    SglSelect: "select",
    SglImage: "image",
    SglImageArgument: "argument",
    SglRoleBegin: "role_begin",
    SglRoleEnd: "role_end",
    SglVarScopeBegin: "scope_begin",
    SglVarScopeEnd: "scope_end",
    SglSetVariable: "set",
}
