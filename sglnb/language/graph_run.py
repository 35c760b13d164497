"""Executing a trace: every step goes to its state's queue at once, and the steps that need a
result of another state wait there for it. Nothing else waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import RequestAborted
from .errors import BranchError, GenerationError
from .images import for_api, parts, placeholder
from .ir import SglAwait, SglExpr
from .operation import Operation
from .placeholders import TracedValue, filled, placeholders
from .state import ProgramState
from .trace_graph import Trace
from .trace_node import Node
from .trace_state import TraceState

if TYPE_CHECKING:
    from .executor import StreamExecutor


class GraphRun:
    """One execution of a complete trace whose arguments are all given.

    Args:
        state: an empty state, for the program's own.
    """

    def __init__(self, trace: Trace, state: ProgramState):
        self.trace = trace
        self.run = state.stream_executor.run
        self._states = {0: state}
        self._lost: dict[int, GenerationError] = {}
        """Branches of a state that had failed before the fork."""
        self._ops: dict[int, Operation] = {}
        """The operation of each step."""

    def start(self) -> None:
        """Queue all steps. Does not wait."""
        for node in self.trace.nodes:
            self._ops[node.id] = self._fork(node) if node.kind == "fork" else self._queue(node)
        for index, state in self._states.items():
            if index:
                state.stream_executor.end()

    def result(self) -> Any:
        """What the body returned, waited for if the model writes it."""
        value = self.trace.ret_value
        if type(value) is TraceState:
            index = value.stream_executor.index
            if index in self._lost:
                raise self._lost[index].again()
            return self._state(index)
        for waited in placeholders(value):
            op = self._ops[waited._node.id]
            op.owner.wait(lambda op=op: op.done)
            if op.error is not None:
                raise op.error.again()
        return filled(value, self._value)

    # -- states ----------------------------------------------------------------------------

    def _state(self, index: int) -> ProgramState:
        """A state, made when its first step comes."""
        if index not in self._states:
            traced = self.trace.states[index]
            defaults = {**self.run.defaults, **traced.options}
            executor = self.run.new_executor(defaults, label=traced.program)
            self._states[index] = ProgramState(executor)
        return self._states[index]

    def _fork(self, node: Node) -> Operation:
        try:
            children = self._executor(node).fork(len(node.children))
        except GenerationError as error:
            self._lost.update(dict.fromkeys(node.children, error))
            return self._settled(node, error)
        self._states.update(zip(node.children, map(ProgramState, children), strict=True))
        return self._settled(node)

    def _queue(self, node: Node) -> Operation:
        try:
            return self._executor(node).submit(self._expr(node))[0]
        except GenerationError as error:  # the others go on, as branches do
            return self._settled(node, error)

    def _executor(self, node: Node) -> StreamExecutor:
        if node.state in self._lost:
            raise self._lost[node.state]
        return self._state(node.state).stream_executor

    def _settled(self, node: Node, error: GenerationError | None = None) -> Operation:
        """An operation that nobody has to wait for."""
        op = Operation(node.expr, self._states[0].stream_executor, self.run.stops)
        op.done, op.error = True, error
        return op

    # -- steps -----------------------------------------------------------------------------

    def _expr(self, node: Node) -> SglExpr:
        """What the step's state is told to do."""
        match node.kind:
            case "use":
                return self._await(node, self._append)
            case "set" if node.sources:
                return self._await(node, self._set, node.name)
            case "read":
                return self._await(node, _read)
            case "join":
                return self._await(node, self._join)
        return node.expr

    def _await(
        self,
        node: Node,
        act: Callable[[Node, StreamExecutor, Operation], None],
        name: str | None = None,
    ) -> SglAwait:
        waits = [self._ops[source.id] for source in node.sources]
        return SglAwait(name, waits, partial(act, node), f"{node.kind} of {node.name!r}")

    def _value(self, value: TracedValue) -> Any:
        op = self._ops[value._node.id]
        if op.error is not None:
            raise op.error.again()
        return op.value if value._part == "value" else op.meta_info

    def _append(self, node: Node, ex: StreamExecutor, op: Operation) -> None:
        value = self._value(node.expr)
        if not isinstance(value, str):
            raise TypeError(f"cannot append {type(value).__name__} {value!r:.60}")
        ex.append(value)

    def _set(self, node: Node, ex: StreamExecutor, op: Operation) -> None:
        if not node.children:
            value = filled(node.expr.value, self._value)
            with ex.lock:
                ex.store(op, value)
            return
        makers = [maker and self._ops[maker.id] for maker in node.expr.meta_info]
        metas = [op.meta_info if op else None for op in makers]
        known = metas if any(meta is not None for meta in metas) else None
        with ex.lock:
            ex.store(op, [op.value if op else None for op in makers], known)

    def _join(self, node: Node, ex: StreamExecutor, op: Operation) -> None:
        ends = [self._ops[end.id] for end in node.sources]
        if node.name == "concate_and_append":
            for end in ends:
                if end.error is None:
                    _append_parts(ex, end.value)
        errors = [end.error for end in ends]
        for error in errors:
            if isinstance(error, RequestAborted):
                raise error.again()
        if node.expr == "raise" and any(error is not None for error in errors):
            raise BranchError(errors)


def _read(node: Node, ex: StreamExecutor, op: Operation) -> None:
    """Keep the text, the messages, or what a branch has added, as they are now."""
    if node.name == "text":
        op.value = ex.text_
    elif node.name == "messages":
        op.value = [for_api(message) for message in ex.messages_]
    else:
        op.value = parts(ex.text_, ex.images, ex.fork_start_text_pos)


def _append_parts(ex: StreamExecutor, pieces: list[Any]) -> None:
    for piece in pieces:
        if isinstance(piece, str):
            ex.append(piece)
        else:
            ex.append_image(piece, placeholder(ex.run.backend))
