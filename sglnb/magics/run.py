"""The run: what a ``%%sgl`` cell gives back."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from .. import viz
from ..errors import RequestAborted, SglError
from ..events import Event
from ..language import ProgramState, finish_run, finish_run_async, start_state, wait_run
from ..language.plan import Plan
from .command import PANES
from .totals import Totals, rids_of, totals_of

_numbers = itertools.count(1)  # ids are unique in the process: engines share no log, but may


class Run:
    """One run of a ``%%sgl`` cell, while it goes on and after it.

    Attributes:
        id: "run-3"; the ``run`` of its events.
        title: the cell it came from.
        state: the program state; it lives on and can be appended to.
        value: what the last line of the cell evaluated to.
        error: why it failed, None while all is well.
        stopped: whether it was cut short by Ctrl-C or :meth:`stop`; the text so far is kept.
    """

    state: ProgramState

    def __init__(self, backend: Any, *, title: str, view: str):
        self.id = f"run-{next(_numbers)}"
        self.title = title
        self.backend = backend
        self.view = view
        self.value: Any = None
        self.error: BaseException | None = None
        self.stopped = False
        self.place: Any = None
        """Where its live view is displayed (a ``DisplayHandle``), None when it has none."""
        self._began = time.monotonic()
        self._ended: float | None = None
        self._over = threading.Event()
        self._events: list[Event] | None = None

    # -- going on --------------------------------------------------------------------------

    def begin(self, defaults: dict[str, Any], plan: Plan | None = None) -> None:
        """Make the state. Programs called from here on, in this context, belong to the run.

        Args:
            defaults: sampling parameters of every gen that does not say otherwise.
            plan: what the cell's source says that it will do.
        """
        self.state = start_state(
            self.backend, run=self.id, title=self.title, defaults=defaults, plan=plan
        )

    def execute(
        self, body: Callable[[], Any], explain: Callable[[BaseException], BaseException]
    ) -> None:
        """Call ``body`` and wait until all generations of the run are over. Nothing is raised:
        what goes wrong is kept in :attr:`error`, as ``explain`` tells it."""
        try:
            self.value = body()
            finish_run(self.state)
            wait_run(self.state)
            self.error = self.state.stream_executor.run.failure
        except BaseException as error:  # kept; the magic raises it
            self.error = error
            finish_run(self.state, error)
        self._end(explain)

    async def execute_async(
        self,
        body: Callable[[], Coroutine[Any, Any, Any]],
        explain: Callable[[BaseException], BaseException],
    ) -> None:
        """:meth:`execute` as part of the running task. When it is cancelled the run is stopped,
        and the cancellation is kept, too."""
        try:
            self.value = await body()
            await finish_run_async(self.state)
            self.error = self.state.stream_executor.run.failure
        except BaseException as error:  # kept; the magic raises it
            self.error = error
            await finish_run_async(self.state, error)
        self._end(explain)

    def _end(self, explain: Callable[[BaseException], BaseException]) -> None:
        try:
            self._ended = time.monotonic()
            self.stopped = _was_stopped(self.error)
            if self.error is not None:
                self.error = explain(self.error)
            self._events = viz.run_events(self.backend.events.since(), self.id)
        finally:
            self._over.set()

    def stop(self) -> None:
        """Abort the run's requests. Text and variables so far are kept."""
        if not self.done:
            self.state.abort()

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
        return self.state.variables

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
        if self.stopped:
            return "stopped"
        return "failed" if self.error is not None else "done"

    def events(self) -> list[Event]:
        """What happened in the run and in the cache meanwhile, from its start to its end (or
        to now). The first event is the cache as it was before."""
        if self._events is not None:
            return list(self._events)
        return viz.run_events(self.backend.events.since(), self.id)

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

    @property
    def panes(self) -> str:
        """The panes of its interactive views, as :class:`sglnb.viz.RunView` takes them."""
        if self.view == "all":
            return ",".join(PANES)
        return "auto" if self.view in ("text", "none") else self.view

    def to_html(self) -> str:
        """One self-contained page with the views; needs no network."""
        return viz.to_html(self.events(), self.id, panes=self.panes)

    def to_text(self) -> str:
        """The views as plain text."""
        return viz.to_text(self.events(), self.id)

    def to_svg(self) -> str:
        """Tokens and branches as one SVG drawing."""
        return viz.run_svg(self.events(), self.id)

    def to_frame(self, what: str = "tokens") -> Any:
        """A pandas DataFrame: one row a token; or, for ``what``, a node of the tree at the end
        ("tree"), or a step of the engine while the run went on ("steps").

        Raises:
            ValueError: there is no such table.
        """
        events = self.events()
        if what == "tokens":
            return viz.to_frame(events, self.id)
        if what == "tree":
            return viz.folded_tree_frame(viz.fold(events)["tree"])
        if what == "steps":
            # The first event is the cache before the run. Steps belong to no run: the log has them.
            first, last = (events[1].seq, events[-1].seq) if len(events) > 1 else (0, -1)
            log = self.backend.events.since(first)
            return viz.steps_frame(event for event in log if event.seq <= last)
        raise ValueError(f"what: must be 'tokens', 'tree' or 'steps', got {what!r}")

    def freeze(self) -> None:
        """Turn the cell's live view into a page that needs no kernel, so that it stays to be
        looked around in when the notebook is saved and reopened (trusted) or exported.

        Raises:
            SglError: the run goes on, or it has no live view.
        """
        if not self.done:
            raise SglError(f"freeze: {self.id} goes on; wait for it (run.wait()) or stop it")
        if self.place is None:
            raise SglError(f"freeze: {self.id} has no live view; to_html() gives the same page")
        page = viz.iframe_html(self.events(), self.id, self.title, panes=self.panes)
        self.place.update({"text/html": page, "text/plain": repr(self)}, raw=True)

    def __repr__(self) -> str:
        if not self.done:
            return f"Run({self.id}, running for {self.seconds:.1f} s)"
        return f"Run({self.id}, {self.status}: {self.summary()})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/plain": repr(self)}
        if not self.done or self.view == "none":
            return bundle
        if self.view == "text" or not viz.in_notebook():
            return {"text/plain": self.to_text()}
        return {**bundle, "text/html": viz.static_html(self.events(), self.id)}


def _was_stopped(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (KeyboardInterrupt, asyncio.CancelledError, RequestAborted)):
            return True
        error = error.__cause__
    return False
