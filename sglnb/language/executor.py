"""The executor of one state: a queue of operations that completions drive.

No thread belongs to a state. Whoever appends an operation to an idle state executes it; a
generation parks the queue, and its completion goes on with it: cheap operations at once, on
the engine's thread, the rest on the backend's dispatcher.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import RequestAborted
from ..events import StateEnded, StateForked, StateStarted, VariableSet
from .errors import GenerationAborted, GenerationError, UnknownVariable, one_line
from .ir import SglExpr, SglFork, SglRoleEnd, SglSetVariable, as_expr
from .operation import BOOKKEEPING, HEAVY, Operation, flatten, role_after, sort_after_stop
from .perform import perform
from .variables import VariableTable
from .waiting import wait_until

if TYPE_CHECKING:
    from .run import ProgramRun


class StreamExecutor:
    """Text, messages and variables of one state, and the queue that changes them.

    Attributes:
        text_, messages_, variables, meta_info: as far as they have come.
        error_: why the state failed or was stopped, None when it is well.
        cond: guards everything here; notified when operations are done.
    """

    def __init__(
        self,
        run: ProgramRun,
        sid: str,
        defaults: dict[str, Any],
        *,
        label: str = "",
        index: int = 0,
        parent: StreamExecutor | None = None,
    ):
        self.run, self.sid, self.defaults, self.index = run, sid, defaults, index
        self.cond = threading.Condition()
        self.table = VariableTable(self.cond)
        self.text_ = ""
        self.messages_: list[dict[str, Any]] = []
        self.cur_role: str | None = None
        self.role_start = 0
        self.role_suffix = ""
        self.scopes: dict[str, int] = {}
        """Open variable scopes: where in the text each began."""
        self.fork_start_text_pos = 0
        self.prefilled = 0
        """Length of the text that the engine is known to have seen."""
        self.error_: BaseException | None = None
        self.body_thread: threading.Thread | None = None
        """Where the program's body is going on, for ``run(stream=True)``."""
        self._queue: deque[Operation] = deque()
        self._current: Operation | None = None
        self._busy = parent is not None  # a branch starts when its parent comes to the fork
        self._declared_role: str | None = None
        """The role that is open at the end of the queue."""
        self._ending = self._ended = False
        self._watchers: tuple[Callable[[], None], ...] = ()
        if parent is not None:
            self.table.announce(parent.table)
            self._declared_role = parent._declared_role
        parent_id = parent.sid if parent is not None else None
        run.backend.events.emit(
            StateStarted(state=sid, run=run.id, parent=parent_id, index=index, label=label)
        )

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that are there, by name."""
        return self.table.values

    @property
    def meta_info(self) -> dict[str, Any]:
        """What the engine said of each generated variable."""
        return self.table.meta_info

    # -- the queue -------------------------------------------------------------------------

    def submit(self, value: Any, *, closing: bool = False) -> None:
        """Queue an expression or a text; never waits for a generation.

        Args:
            closing: the end of a ``with`` block that raised: do it if possible, else nothing.

        Raises:
            TypeError: ``value`` cannot be appended. ValueError: a role inside a role.
            GenerationError: the state has failed before. RequestAborted: the run was stopped.
        """
        exprs = flatten(as_expr(value))
        with self.cond:
            if closing and (self.failed or not self._is_open(exprs)):
                return
            self._check_open(stopped_too=not closing)
            start = self._enqueue(exprs)
        if start:
            self._pump()

    @property
    def failed(self) -> bool:
        """Whether the state has failed for good. A stopped state has not: it can go on."""
        return self.error_ is not None and not isinstance(self.error_, RequestAborted)

    def _is_open(self, ends: list[SglExpr]) -> bool:
        """Whether the role that ``ends`` close, if any, is open: a stop may have closed it."""
        return all(e.role == self._declared_role for e in ends if isinstance(e, SglRoleEnd))

    def _check_open(self, *, stopped_too: bool = True) -> None:
        if self.failed:
            raise _again(self.error_)
        if stopped_too:
            self.run.check_not_stopped()

    def _enqueue(self, exprs: list[SglExpr]) -> bool:
        """Append to the queue (under ``cond``). True: the caller has to pump."""
        self._declared_role = role_after(exprs, self._declared_role)
        self.error_ = None
        for expr in exprs:
            op = Operation(expr, self, self.run.stops)
            self.table.expect(op)
            self._queue.append(op)
        start, self._busy = not self._busy, True
        return start

    def _pump(self, on_engine: bool = False) -> None:
        """Do the queue until it is empty or parked; whoever calls has set ``_busy``.

        Args:
            on_engine: called on the engine's thread: hand over before anything slow.
        """
        op, parked = None, False
        try:
            while (op := self._next(on_engine)) is not None:
                if op.stamp < self.run.stops and not isinstance(op.expr, BOOKKEEPING):
                    self.stop(op, RequestAborted("the run was stopped"))
                    self._settle(op)
                    continue
                try:
                    perform(self, op)
                except Exception as problem:  # recorded: raised where the variable is read
                    self.fail(op, problem)
                    self._settle(op)
                with self.cond:
                    if not op.done:
                        op.parked = parked = True
                        return
        except BaseException as interrupt:  # Ctrl-C while the user's thread was in here
            if not parked:
                op = self._current
                if op is not None and not op.done:
                    self.stop(op, RequestAborted(f"interrupted by {type(interrupt).__name__}"))
                    self._settle(op)
                self._pump()
            raise

    def _next(self, on_engine: bool) -> Operation | None:
        """Take the next operation; None: nothing left, or handed over to the dispatcher."""
        with self.cond:
            self._current = None
            if self._queue:
                if on_engine and isinstance(self._queue[0].expr, HEAVY):
                    self.run.dispatcher.post(self._pump)
                    return None
                self._current = self._queue.popleft()
                return self._current
            self._busy = False
            ended = self._ending and not self._ended
            self._ended = self._ended or ended
            self.cond.notify_all()
        self.updated()
        if ended:
            self._emit_ended()
        return None

    # -- completions -----------------------------------------------------------------------

    def complete(self, op: Operation) -> None:
        """``op`` is done: go on with the queue if it waits for that. Never blocks."""
        if self._settle(op):
            self._pump(on_engine=True)

    def _settle(self, op: Operation) -> bool:
        """Mark ``op`` done; whether the queue was parked on it."""
        with self.cond:
            if op.done:
                return False
            op.done = True
            parked, op.parked = op.parked, False
            self.cond.notify_all()
        self.updated()
        return parked

    def append(self, text: str) -> None:
        """Append text to the state."""
        with self.cond:
            self.text_ += text

    def store(self, op: Operation, value: Any, meta_info: Any = None, scores: Any = None) -> None:
        """Set the variable that ``op`` makes, if it has a name, and tell so."""
        self.table.store(op, value, meta_info)
        if op.variable is not None:
            self.run.backend.events.emit(
                VariableSet(
                    state=self.sid,
                    run=self.run.id,
                    name=op.variable,
                    text=str(value),
                    choices=scores,
                )
            )

    def fail(self, op: Operation, problem: BaseException) -> None:
        """The state fails for good at ``op``, which the caller completes."""
        error = op.explain(problem, GenerationError)
        with self.cond:
            if not self.failed:
                self.error_ = error
            dropped = list(self._queue)
            self._queue.clear()
            self.table.lose(op, error)
        op.abort_requests()
        self._drop(dropped, error)

    def stop(self, op: Operation, problem: BaseException) -> None:
        """The state is stopped at ``op``, which the caller completes. What was queued after
        it is dropped, except bookkeeping; more can be appended later."""
        error = op.explain(problem, GenerationAborted)
        with self.cond:
            kept, dropped = sort_after_stop(self._queue, op.stamp, self.cur_role, self.scopes)
            self._queue = deque(kept)
            if all(o.stamp <= op.stamp for o in kept):  # else the state has gone on already
                self.error_ = self.error_ or error
            self._declared_role = role_after((o.expr for o in kept), self.cur_role)
            self.table.lose(op, error)
        op.abort_requests()
        self._drop(dropped, error)

    def fail_body(self, problem: BaseException) -> None:
        """The program's body raised ``problem``: so does every later use of the state."""
        kind = GenerationAborted if isinstance(problem, RequestAborted) else GenerationError
        error = kind(
            f"the program failed: {one_line(problem)}", name=None, where=None, cause=problem
        )
        with self.cond:
            if not self.failed:
                self.error_ = problem
            dropped = list(self._queue)
            self._queue.clear()
            current = self._current
        self._drop(dropped, error)
        if current is not None:
            current.abort_requests()

    def _drop(self, dropped: list[Operation], error: GenerationError) -> None:
        """Give up operations that were taken off the queue."""
        for op in dropped:
            with self.cond:
                self.table.lose(op, error)
                op.done = True
            if isinstance(op.expr, SglFork):
                for child in op.expr.children:
                    child.adopt_failure(error)
        with self.cond:
            self.cond.notify_all()
        self.updated()

    # -- branches --------------------------------------------------------------------------

    def fork(self, size: int) -> list[StreamExecutor]:
        """``size`` branches that start where the queue now ends. Does not wait for it."""
        with self.cond:
            self._check_open()
            children = [
                self.run.new_executor(self.defaults, index=i, parent=self) for i in range(size)
            ]
            start = self._enqueue([SglFork(size, children)])
        self.run.backend.events.emit(
            StateForked(run=self.run.id, parent=self.sid, children=[c.sid for c in children])
        )
        if start:
            self._pump()
        return children

    def adopt(self, parent: StreamExecutor) -> None:
        """Start as a copy of ``parent``, whose queue has come to the fork."""
        with parent.cond, self.cond:
            self.table.adopt(parent.table)
            self.text_ = parent.text_
            self.messages_ = list(parent.messages_)
            self.cur_role = parent.cur_role
            self.role_start, self.role_suffix = parent.role_start, parent.role_suffix
            self.scopes = dict(parent.scopes)
            self.prefilled = parent.prefilled
            self.fork_start_text_pos = len(parent.text_)
            self.cond.notify_all()
        self._pump()

    def adopt_failure(self, error: GenerationError) -> None:
        """The parent failed before the fork: this branch never starts."""
        with self.cond:
            self.error_ = error
            dropped = list(self._queue)
            self._queue.clear()
            self.table.adopt_failure(error)
        self._drop(dropped, error)
        self._pump()

    # -- reading ---------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether everything that was appended is done."""
        return not self._busy

    @property
    def body_elsewhere(self) -> bool:
        """Whether the program's body goes on in another thread and may append more."""
        body = self.body_thread
        return body is not None and body is not threading.current_thread()

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait for ``ready()``; Ctrl-C stops the run and is raised again."""
        try:
            wait_until(self.cond, ready)
        except KeyboardInterrupt:
            self.run.abort()
            raise

    def sync(self) -> None:
        """Wait until everything that was appended, and a body in another thread, is done."""
        self.wait(lambda: not self._busy and not self.body_elsewhere)

    def get_var(self, name: str) -> Any:
        """The value of a variable, waited for.

        Raises:
            GenerationError: it could not be made. UnknownVariable: there is none.
        """
        op = self._await_variable(name)
        if op is not None and isinstance(op.expr, SglSetVariable):
            return op.expr.value
        with self.cond:
            if name in self.variables:
                return self.variables[name]
            raise self.missing(name)

    def get_meta_info(self, name: str) -> Any:
        """What the engine said of a generated variable, waited for; None for one that was not
        generated. Raises as :meth:`get_var`."""
        self._await_variable(name)
        with self.cond:
            if name not in self.variables:
                raise self.missing(name)
            return self.meta_info.get(name)

    def _await_variable(self, name: str) -> Operation | None:
        """Wait for the operation that sets ``name``; a plain assignment needs no waiting."""
        self.wait(lambda: self.expects(name) or not self.body_elsewhere)
        op = self.table.pending.get(name)
        if op is None or isinstance(op.expr, SglSetVariable):
            return op
        self.wait(lambda: self.table.pending.get(name) is not op)
        if op.error is not None:
            raise op.error.for_variable(name)
        return None

    def expects(self, name: str) -> bool:
        """Whether a variable is there, on its way, or known not to come."""
        table = self.table
        return name in table.values or name in table.pending or name in table.lost

    def missing(self, name: str) -> BaseException:
        """The error for the reader of a variable that is not there."""
        if name in self.table.lost:
            return self.table.lost[name].for_variable(name)
        if self.error_ is not None:
            return _again(self.error_)
        known = ", ".join(self.variables) or "none yet"
        return UnknownVariable(f"no variable {name!r} in this state; it has: {known}")

    def live_text(self) -> str:
        """All text, with what the generation in flight has so far."""
        with self.cond:
            op = self._current
            return self.text_ + (op.live_text if op is not None and not op.done else "")

    def watch(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` after every change, on whatever thread; it must be quick."""
        with self.cond:
            self._watchers += (tell,)

    def unwatch(self, tell: Callable[[], None]) -> None:
        """End :meth:`watch`."""
        with self.cond:
            self._watchers = tuple(w for w in self._watchers if w is not tell)

    def updated(self) -> None:
        """Tell those who watch that there is something new."""
        for tell in self._watchers:
            tell()

    # -- the end ---------------------------------------------------------------------------

    def end(self) -> None:
        """Nothing more is expected: tell so once everything queued is done. The state takes
        more all the same."""
        with self.cond:
            self._ending = True
            if self._busy or self._ended:
                return
            self._ended = True
        self._emit_ended()

    def _emit_ended(self) -> None:
        error = one_line(self.error_) if self.error_ is not None else ""
        self.run.backend.events.emit(StateEnded(state=self.sid, run=self.run.id, error=error))
        self.run.executor_ended(self, error)


def _again(error: BaseException) -> BaseException:
    """``error`` to raise once more."""
    return error.again() if isinstance(error, GenerationError) else error
