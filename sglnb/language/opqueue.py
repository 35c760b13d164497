"""The queue of one state, driven by completions.

No thread belongs to a state. Whoever appends an operation to an idle state executes it; a
generation parks the queue, and its completion goes on with it: cheap operations at once, on
the engine's thread, the rest on the backend's dispatcher.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import RequestAborted
from .checkpoints import NOTHING, START, Checkpoint, checkpoint
from .errors import STOPPED, GenerationError, failure_kind, one_line, stop_kind
from .images import check_images
from .ir import (
    SglExpr,
    SglExprList,
    SglFork,
    SglRoleBegin,
    SglRoleEnd,
    SglSeparateReasoning,
    SglVarScopeBegin,
    as_expr,
    flatten,
)
from .operation import (
    BOOKKEEPING,
    HEAVY,
    NEEDS_NO_CHECK,
    Operation,
    check_separations,
    role_after,
    sort_after_stop,
)
from .perform import PERFORM
from .variables import VariableTable
from .waiting import Waitable

if TYPE_CHECKING:
    from .run import ProgramRun


class OperationQueue(Waitable):
    """Operations in order, what happens when one fails or is stopped, and who is told.

    Args:
        run: the run that the state belongs to.
        waiting: True for a branch, which starts when its parent comes to the fork.

    Attributes:
        lock: guards everything of the state. cond: told when operations are done.
        error_: why the state failed or was stopped, None when it is well.
    """

    # What a state begins with belongs to the class: with more than 30 attributes of its own a
    # state would be twice as slow to make, see :mod:`.layout`.
    cur_role: str | None = None
    scopes: Mapping[str, int] = NOTHING
    """Open variable scopes: where in the text each began. Replaced, never changed."""
    tip: Checkpoint = START
    """The state after the last operation that is done."""
    depth = 0
    """Number of ``with`` blocks that are open."""
    role_is_old = False
    """The open role was begun in the state that this one was taken from."""
    error_: BaseException | None = None
    _current: Operation | None = None
    _declared_role: str | None = None
    """The role that is open at the end of the queue."""
    _ending = _ended = False
    _watchers: tuple[Callable[[], None], ...] = ()

    def __init__(self, run: ProgramRun, *, waiting: bool):
        self.run = run
        self.lock = threading.RLock()
        self.table = VariableTable()
        self._queue: deque[Operation] = deque()
        self._busy = waiting

    @property
    def idle(self) -> bool:
        """Whether everything that was appended is done."""
        return not self._busy

    @property
    def settled(self) -> bool:
        """Whether all that has come of operations so far is in the checkpoints, too."""
        op = self._current
        half_done = op is not None and not op.done and op.error is not None
        return not self.table.writes and not half_done

    @property
    def failed(self) -> bool:
        """Whether the state has failed for good. A stopped state has not: it can go on."""
        return self.error_ is not None and not isinstance(self.error_, STOPPED)

    # -- appending and doing ---------------------------------------------------------------

    def submit(self, value: Any, *, step: bool = True, closing: bool = False) -> list[Operation]:
        """Queue an expression or a text; never waits for a generation.

        Args:
            step: it is a step of its own, see :mod:`.checkpoints`.
            closing: the end of a ``with`` block that raised: do it if possible, else nothing.

        Returns:
            The operations that were queued.

        Raises:
            TypeError: ``value`` cannot be appended. ValueError: a role inside a role, or an
                image for a model that takes none.
            GenerationError: the state has failed before. RequestAborted: the run was stopped.
            GenerationTimeout: the program's time is over.
        """
        expr = as_expr(value)
        exprs = expr.expr_list if type(expr) is SglExprList else [expr]
        plain = NEEDS_NO_CHECK.issuperset(map(type, exprs))
        if not plain:
            exprs = flatten(expr)
            check_images(exprs, self.run.backend)
            check_separations(exprs)
        with self.lock:
            if closing and (self.failed or not self._is_open(exprs)):
                return []
            self._check_open(stopped_too=not closing)
            ops, start = self._enqueue(exprs, step, plain)
            first = self._take() if start else None
        if first is not None:
            self._pump(first)
        return ops

    def _is_open(self, ends: list[SglExpr]) -> bool:
        """Whether the role that ``ends`` close, if any, is open: a stop may have closed it."""
        return all(e.role == self._declared_role for e in ends if isinstance(e, SglRoleEnd))

    def _check_open(self, *, stopped_too: bool = True) -> None:
        if self.error_ is not None and self.failed:
            raise again(self.error_)
        if stopped_too:
            if self.run.stops:
                self.run.check_not_stopped()
            if self.family.problem is not None:
                self.family.check(self)

    def _enqueue(
        self, exprs: list[SglExpr], step: bool, plain: bool = False
    ) -> tuple[list[Operation], bool]:
        """Append to the queue (under ``lock``): the operations, and whether the caller has to
        go on. ``plain``: no expression begins or ends anything or belongs to another."""
        if not plain:
            if self.role_is_old:
                exprs = self._close_old_role(exprs)
            self._declared_role = role_after(exprs, self._declared_role)
        self.error_ = None
        stops, depth, pending = self.run.stops, self.depth, self.table.pending
        ops: list[Operation] = []
        for expr in exprs:
            op = Operation(expr, self, stops, step and not ops, depth)
            if op.variable is not None:
                pending[op.variable] = op
                if type(expr) is SglSeparateReasoning:
                    op.separates(ops[-1])
            ops.append(op)
        self._queue.extend(ops)
        start, self._busy = not self._busy, True
        return ops, start

    def _close_old_role(self, exprs: list[SglExpr]) -> list[SglExpr]:
        """A message that begins inside one that was open where this state was taken from
        another ends that one: no ``with`` block or other statement here would do it."""
        for i, expr in enumerate(exprs):
            if isinstance(expr, SglRoleEnd):
                self.role_is_old = False
                break
            if isinstance(expr, SglRoleBegin):
                self.role_is_old = False
                return [*exprs[:i], SglRoleEnd(self._declared_role), *exprs[i:]]
        return exprs

    def _go_on(self) -> None:
        """Do the queue; whoever calls has set ``_busy``."""
        with self.lock:
            op = self._take()
        self._pump(op)

    def _pump(self, op: Operation | None, on_engine: bool = False) -> None:
        """Do ``op``, which was taken, and what comes after it until the queue is empty or parked.

        Args:
            on_engine: called on the engine's thread: hand over before anything slow.
        """
        parked = False
        try:
            while op is not None:
                done = True
                stopped = op.halted is not None or op.stamp < self.run.stops
                if stopped and not isinstance(op.expr, BOOKKEEPING):
                    self.stop(op, RequestAborted("the run was stopped"))
                else:
                    op.mark = self.tip
                    try:
                        done = PERFORM[type(op.expr)](self, op)
                    except RequestAborted as problem:
                        self.stop(op, problem)
                    except Exception as problem:  # recorded: raised where the variable is read
                        self.fail(op, problem)
                with self.lock:
                    if done:
                        self._settle(op)
                    elif not op.done:
                        op.parked = parked = True
                        return
                    op = self._take(on_engine)
                if self._watchers:
                    self.updated()
            if self._ending:
                self.end()
        except BaseException as interrupt:  # Ctrl-C while the user's thread was in here
            if not parked:
                op = self._current
                if op is not None and not op.done:
                    self.stop(op, RequestAborted(f"interrupted by {type(interrupt).__name__}"))
                    with self.lock:
                        self._settle(op)
                self._go_on()
            raise

    def _take(self, on_engine: bool = False) -> Operation | None:
        """The next operation (under ``lock``); None: nothing left, or handed over to the
        dispatcher."""
        op: Operation | None = None
        if not self._queue:
            self._busy = False
            if self._cond is not None:
                self.tell()
        elif on_engine and isinstance(self._queue[0].expr, HEAVY):
            self.run.dispatcher.post(self._go_on)
        else:
            op = self._queue.popleft()
        self._current = op
        return op

    # -- completions -----------------------------------------------------------------------

    def complete(self, op: Operation) -> None:
        """``op`` is done: go on with the queue if it waits for that. Never blocks."""
        with self.lock:
            parked = self._settle(op)
            following = self._take(on_engine=True) if parked else None
        if self._watchers:
            self.updated()
        if parked:
            self._pump(following, on_engine=True)

    def _settle(self, op: Operation) -> bool:
        """Mark ``op`` done and remember the state as it is after it (under ``lock``); whether the
        queue was parked on it."""
        if op.done:
            return False
        op.done = True
        if op.mark is not None and type(op.expr) is not SglFork:
            expr, table = op.expr, self.table
            self.tip = checkpoint(
                (
                    self.tip,
                    len(self.text_),
                    len(self.messages_),
                    (self.cur_role, self.role_start, self.role_suffix),
                    self.scopes,
                    table.lost,
                    op.first,
                    op.depth,
                    op.variable,
                    expr.name if type(expr) is SglVarScopeBegin else None,
                    table.writes,
                    op.error,
                )
            )
            table.writes = ()
        if self._cond is not None:
            self.tell()
        parked, op.parked = op.parked, False
        return parked

    # -- when it goes wrong ----------------------------------------------------------------

    def fail(self, op: Operation, problem: BaseException) -> None:
        """The state fails for good at ``op``, which the caller completes."""
        error = op.explain(problem, failure_kind(problem))
        with self.lock:
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
        problem = op.halted or problem
        error = op.explain(problem, stop_kind(problem))
        with self.lock:
            kept, dropped = sort_after_stop(self._queue, op.stamp, self.cur_role, self.scopes)
            self._queue = deque(kept)
            if all(o.stamp <= op.stamp for o in kept):  # else the state has gone on already
                self.error_ = self.error_ or error
            self._declared_role = role_after((o.expr for o in kept), self.cur_role)
            self.table.lose(op, error)
        op.abort_requests()
        self._drop(dropped, error)

    def halt(self, problem: BaseException) -> None:
        """Stop what this state is doing, as of ``problem``, and nothing else of its run."""
        with self.lock:
            op = self._current
            for waiting in self._queue:
                waiting.halted = waiting.halted or problem
        if op is not None:
            self.halt_operation(op, problem)

    def halt_operation(self, op: Operation, problem: BaseException) -> None:
        """Stop ``op``, which has begun, as of ``problem``."""
        with self.lock:
            if op.done or op.halted is not None:
                return
            op.halted = problem
            waits_for_engine = isinstance(op.expr, HEAVY)
        op.abort_requests()  # whose end completes it
        if not waits_for_engine:
            self.stop(op, problem)
            self.complete(op)

    def fail_body(self, problem: BaseException) -> None:
        """The program's body raised ``problem``: so does every later use of the state."""
        if isinstance(problem, asyncio.CancelledError):
            problem = RequestAborted("the program was cancelled")
        kind = stop_kind(problem) if isinstance(problem, STOPPED) else failure_kind(problem)
        error = kind(
            f"the program {kind.verb}: {one_line(problem)}",
            name=None,
            where=None,
            cause=problem,
            executor=self,
        )
        with self.lock:
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
            with self.lock:
                self.table.lose(op, error)
                op.done = True
            if isinstance(op.expr, SglFork):
                for child in op.expr.children:
                    child.adopt_failure(error)
        with self.lock:
            self.tell()
        self.updated()

    # -- who is told -----------------------------------------------------------------------

    def watch(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` after every change, on whatever thread; it must be quick."""
        with self.lock:
            self._watchers += (tell,)

    def unwatch(self, tell: Callable[[], None]) -> None:
        """End :meth:`watch`."""
        with self.lock:
            self._watchers = tuple(w for w in self._watchers if w is not tell)

    def updated(self) -> None:
        """Tell those who watch that there is something new."""
        for tell in self._watchers:
            tell()

    def end(self) -> None:
        """Nothing more is expected: tell so once everything queued is done. The state takes
        more all the same."""
        if self._ended:
            return
        with self.lock:
            self._ending = True
            if self._busy or self._ended:
                return
            self._ended = True
        self.on_end()

    def on_end(self) -> None:
        """Everything that was expected is done. Called once."""


def again(error: BaseException) -> BaseException:
    """``error`` to raise once more."""
    return error.again() if isinstance(error, GenerationError) else error
