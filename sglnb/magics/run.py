"""The run: what a ``%%sgl`` cell gives back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Generator
from html import escape
from typing import Any

from .. import viz
from ..errors import RequestAborted
from ..events import Event
from ..language import ProgramState, finish_run, start_state
from .totals import Totals, rids_of, totals_of

_numbers = itertools.count(1)  # ids are unique in the process: engines share no log, but may

STOP_SECONDS = 10.0
"""How long a stopped run may take to come to rest before it is given up."""


class Run:
    """One run of a ``%%sgl`` cell, while it goes on and after it.

    Attributes:
        id: "run-3"; the ``run`` of its events.
        title: the cell it came from.
        state: the program state; it lives on and can be appended to.
        value: what the last line of the cell evaluated to.
        error: why it failed, None while all is well.
        stopped: whether somebody stopped it; the text so far is kept.
    """

    def __init__(self, backend: Any, *, title: str, defaults: dict[str, Any], view: str):
        self.id = f"run-{next(_numbers)}"
        self.title = title
        self.backend = backend
        self.view = view
        self.value: Any = None
        self.error: BaseException | None = None
        self.stopped = False
        self._began = time.monotonic()
        self._ended: float | None = None
        self._over = threading.Event()
        self._first_event = backend.events.next_seq
        self._events: list[Event] | None = None
        self.state: ProgramState = start_state(backend, run=self.id, title=title, defaults=defaults)
        self._program = self.state.stream_executor.run

    # -- going on --------------------------------------------------------------------------

    def execute(self, body: Callable[[], Any]) -> None:
        """Call ``body`` and wait until all generations of the run are over. What goes wrong
        is kept in :attr:`error`; nothing is raised."""
        try:
            try:
                self.value = body()
                finish_run(self.state)
                self._program.wait()
                self.error = self.state.error()
            except BaseException as error:  # kept; the magic raises it
                self.error = error
                self._halt(error)
        finally:
            self.stopped = self.stopped or isinstance(self.error, KeyboardInterrupt)
            self._ended = time.monotonic()
            self._events = self.backend.events.since(self._first_event)
            self._over.set()

    def _halt(self, error: BaseException) -> None:
        """Abort what is in flight and let the states come to rest."""
        self._program.abort()
        finish_run(self.state, error)
        with contextlib.suppress(KeyboardInterrupt):  # a second one: leave at once
            self._program.wait(STOP_SECONDS)

    def stop(self) -> None:
        """Abort the run's requests. Text and variables so far are kept."""
        if not self.done:
            self.stopped = True
            self._program.abort()

    @property
    def done(self) -> bool:
        """Whether the body and all generations are over."""
        return self._over.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False when ``timeout`` seconds passed before it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._over.is_set():  # in slices, so that Ctrl-C gets through everywhere
            left = 0.1 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            self._over.wait(min(0.1, left))
        return True

    def __await__(self) -> Generator[Any, None, Run]:
        """``await run``: the run once it is over. Raises its error if it failed."""
        return self._finished().__await__()

    async def _finished(self) -> Run:
        while not self.done:
            await asyncio.sleep(0.02)
        if self.error is not None and not self.stopped:
            raise self.error
        return self

    # -- what came out ---------------------------------------------------------------------

    @property
    def text(self) -> str:
        """All text of the state, with what is being generated."""
        return self.state.stream_executor.live_text()

    @property
    def variables(self) -> dict[str, Any]:
        """A copy of the variables that have a value."""
        return dict(self.state.stream_executor.variables)

    def __getitem__(self, name: str) -> Any:
        """The variable ``name``, waited for; as ``run.state[name]``."""
        return self.state[name]

    @property
    def seconds(self) -> float:
        """From the start to the end, or to now."""
        return (self._ended or time.monotonic()) - self._began

    @property
    def status(self) -> str:
        """ "running", "done", "stopped" or "failed"."""
        if not self.done:
            return "running"
        if self.stopped or isinstance(self.error, RequestAborted):
            return "stopped"
        return "failed" if self.error is not None else "done"

    def events(self) -> list[Event]:
        """Everything that happened on the engine from the run's start to its end."""
        if self._events is not None:
            return list(self._events)
        return self.backend.events.since(self._first_event)

    def rids(self) -> set[str]:
        """Ids of its requests."""
        return rids_of(self.events(), self.id)

    def totals(self) -> Totals:
        """Tokens written, read, cached and forced."""
        return totals_of(self.events(), self.id)

    def summary(self) -> str:
        """One line: tokens, cached tokens, forced tokens, seconds."""
        t = self.totals()
        return (
            f"{t.completion_tokens:,} tokens · {t.cached_tokens:,} of {t.prompt_tokens:,} prompt "
            f"tokens cached · {t.forced_tokens:,} forced · {self.seconds:.2f} s"
        )

    # -- pictures --------------------------------------------------------------------------

    def to_html(self) -> str:
        """One self-contained page with the views; needs no network."""
        return viz.to_html(self.events(), self.id)

    def to_text(self) -> str:
        """The views as plain text."""
        return viz.to_text(self.events(), self.id)

    def to_frame(self) -> Any:
        """One row a token, as a pandas DataFrame."""
        return viz.to_frame(self.events(), self.id)

    def __repr__(self) -> str:
        return f"Run({self.id}, {self.status}: {self.summary()})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/plain": repr(self)}
        if not self.done or self.view == "none":
            return bundle
        if self.view == "text":
            return {"text/plain": f"{self.to_text()}\n{self!r}"}
        line = f"{self.status} · {self.summary()}"
        bundle["text/html"] = (
            f"<details><summary>{escape(line)}</summary>"
            f"{viz.static_html(self.events(), self.id)}</details>"
        )
        return bundle
