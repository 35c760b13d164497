"""One run of a program: the states that belong together, stopped and ended together."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from ..errors import EngineError, RequestAborted
from ..events import RunEnded, RunStarted
from .backend import Backend, Dispatcher, as_backend, dispatcher_of, get_default_backend
from .chat_template import template_of
from .errors import one_line
from .executor import StreamExecutor
from .family import Family
from .plan import Plan, PlanWatch
from .waiting import Waitable, wait_until

_current: ContextVar[ProgramRun | None] = ContextVar("sglnb_run", default=None)

_ids = random.Random()  # its own: a program that seeds the shared one would repeat ids


class ProgramRun(Waitable):
    """The common part of the states of one ``%%sgl`` cell, ``run()`` or ``run_batch()``.

    Attributes:
        id: the ``run`` of its events and requests.
        defaults: sampling options that its states start with.
        active: whether the program's body is still going.
        failure: the first error of a state that was still open when the body ended: of one
            that nobody joined or read to its end.
        stops: how often it was stopped; operations queued before the last stop are dropped.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        run_id: str | None = None,
        title: str = "",
        defaults: dict[str, Any] | None = None,
        plan: Plan | None = None,
    ):
        self.lock = threading.RLock()
        self.defaults = dict(defaults or {})
        self.id = run_id or f"{_ids.getrandbits(32):08x}"
        self.backend = backend
        self.title = title
        self.follows = getattr(backend, "needs_program", False)
        """Whether the backend wants to be told of states and gets them with requests."""
        self.template = template_of(backend)
        self.active = True
        self.stops = 0
        self.failure: BaseException | None = None
        self._stopped = self._ended = False
        self._error = ""
        self._outer = current_run()
        self._numbers = itertools.count()
        self._open: set[StreamExecutor] = set()
        self._on_end: list[Callable[[], None]] = []
        backend.events.emit(RunStarted(self.id, title))
        self.watch = PlanWatch(plan, self.id, backend.events.emit) if plan is not None else None
        """Tells what of the program's plan it comes to."""

    @property
    def dispatcher(self) -> Dispatcher:
        """The threads that go on with what must not be done on the engine's."""
        return dispatcher_of(self.backend)

    def new_executor(
        self,
        defaults: dict[str, Any],
        *,
        label: str = "",
        index: int = 0,
        parent: StreamExecutor | None = None,
        family: Family | None = None,
    ) -> StreamExecutor:
        """A new state of this run, without text."""
        sid = f"{self.id}.{next(self._numbers)}"
        executor = StreamExecutor(
            self, sid, defaults, label=label, index=index, parent=parent, family=family
        )
        if self.follows:
            self.backend.state_began(executor)
        with self.lock:
            if self.active:  # later ones are not waited for: the run is about to end
                self._open.add(executor)
        return executor

    # -- stopping and ending ---------------------------------------------------------------

    def check_not_stopped(self) -> None:
        """Raise RequestAborted in a body that goes on after its run was stopped."""
        if self._stopped and self.active:
            raise RequestAborted("the run was stopped")

    def abort(self) -> None:
        """Stop: abort the requests in flight and drop what is queued. Texts and variables so
        far are kept, and once the body has ended the states can go on."""
        self.stops += 1
        self._stopped = True
        with suppress(EngineError):  # a closed engine has ended its requests itself
            self.backend.abort(run=self.id)

    def finish(self, error: BaseException | None = None) -> None:
        """The body is over, with ``error`` or well. Generations may still be going: the run
        ends with the last of them. After an error they are aborted."""
        if not self.active:
            return
        if error is not None:
            self._error = one_line(error)
            self.abort()
        self.active = False
        self.leave()
        with self.lock:
            executors = list(self._open)
        for executor in executors:
            executor.end()
        if not self._ended:
            self._end_if_over()

    def executor_ended(self, executor: StreamExecutor, error: str) -> None:
        """Called once by each executor when all it had to do is done."""
        if self.follows:
            self.backend.state_ended(executor)
        with self.lock:
            self._open.discard(executor)
            if not self.active and self.failure is None:  # else a join or a reader told of it
                self.failure = executor.error_
                self._error = self._error or error
        if not self.active:
            self._end_if_over()

    def _end_if_over(self) -> None:
        with self.lock:
            if self.active or self._open or self._ended:
                return
            self._ended = True
            # Who waits for the end finds this event in the log.
            self.backend.events.emit(RunEnded(self.id, self._error))
            self.tell()
        for call in self._on_end:
            call()

    def when_done(self, call: Callable[[], None]) -> None:
        """``call()`` at the end, on whatever thread, or now; it must be quick and not raise."""
        with self.lock:
            if not self._ended:
                self._on_end.append(call)
                return
        call()

    @property
    def done(self) -> bool:
        """Whether the body and every generation are over."""
        return self._ended

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end (Ctrl-C gets through); False when ``timeout`` seconds passed."""
        return wait_until(self.cond, lambda: self._ended, timeout)

    # -- the enclosing run -----------------------------------------------------------------

    def enter(self) -> None:
        """Make this the run that programs called from here on, in this thread and in copies
        of its context, belong to."""
        _current.set(self)

    def leave(self) -> None:
        """End :meth:`enter`; for a caller that has handed the body to another thread."""
        if _current.get() is self:
            _current.set(self._outer)

    def __repr__(self) -> str:
        how = "running" if self.active else "done" if self._ended else "finishing"
        return f"ProgramRun({self.id}, {self.title or 'untitled'}, {how})"


def current_run() -> ProgramRun | None:
    """The run whose body is being executed here, None outside of programs."""
    run = _current.get()
    return run if run is not None and run.active else None


def run_for(executor: StreamExecutor) -> ProgramRun:
    """The run of a state that is taken from ``executor``: the one that is going on here on the
    same backend, else its own."""
    here = current_run()
    return here if here is not None and here.backend is executor.run.backend else executor.run


def open_run(
    title: str,
    backend: Backend | None,
    run_id: str | None,
    defaults: dict[str, Any],
    plan: Callable[[], Plan | None] = lambda: None,
) -> tuple[ProgramRun, bool]:
    """The run to work in, and whether it is a new one: a program that is called from another
    on the same backend belongs to that one's run. ``plan`` makes the plan of a new one."""
    outer = current_run()
    if backend is not None:
        backend = as_backend(backend)
    if outer is not None and run_id is None and backend in (None, outer.backend):
        return outer, False
    if backend is None:
        backend = outer.backend if outer is not None else get_default_backend()
    run = ProgramRun(backend, run_id=run_id, title=title, defaults=defaults, plan=plan())
    return run, True


OWN_ERRORS = (Exception, asyncio.CancelledError, GeneratorExit)
"""Errors of a program that leave alone the run that it is part of."""


def close_run(
    run: ProgramRun, own: bool, executors: list[StreamExecutor], error: BaseException | None = None
) -> None:
    """The body is over. Ctrl-C stops all of an enclosing run; other errors are its own, and so
    is the cancellation of the task that it was part of."""
    for executor in executors:
        executor.family.over = True
        if isinstance(error, asyncio.CancelledError):
            executor.family.stop(RequestAborted("the program was cancelled"))
    if own:
        run.finish(error)
    elif error is not None and not isinstance(error, OWN_ERRORS):
        run.abort()
    for executor in executors:
        executor.end()
