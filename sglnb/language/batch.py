"""Many programs side by side, and the results in order."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ..errors import RequestAborted
from .state import ProgramState
from .waiting import SLICE_SECONDS, wait_until

SETTLE_SECONDS = 2.0
"""How long rows that were interrupted are waited for, so that their partial text is there."""

START = Callable[[int, Any, Callable[[], None]], ProgramState]
"""Begins row ``i`` with its arguments and returns its state; it calls the function that it is
given once all of the row is over."""


class Batch:
    """Rows in progress: at most ``limit`` at a time.

    Args:
        rows: taken in the caller's thread, one whenever there is room for it.
        ahead: rows begun and not handed out at most; None keeps the states of all rows.
        progress: called with the number of rows that have just ended.

    Attributes:
        states: of the rows that have begun, by number; with ``ahead`` only of those that were
            not handed out.
        begun, done: how many rows have begun, and how many are over.
    """

    def __init__(
        self,
        rows: Iterator[Any],
        start: START,
        limit: int,
        ahead: int | None = None,
        progress: Callable[[int], None] = lambda n: None,
    ):
        self._rows, self._start = rows, start
        self._limit, self._ahead, self._progress = limit, ahead, progress
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._over: set[int] = set()
        self._more = True
        self.states: dict[int, ProgramState] = {}
        self.begun = self.done = 0

    def __iter__(self) -> Iterator[ProgramState]:
        """The rows' states in order, each once it is over. An error of ``rows`` is raised after
        the rows before it."""
        turn, problem = 0, None
        while True:
            while problem is None and self._has_room(turn):
                try:
                    self._begin()
                except Exception as error:  # of the caller's iterator
                    problem = error
            if turn in self._over:
                self._over.discard(turn)
                state = self.states[turn] if self._ahead is None else self.states.pop(turn)
                turn += 1
                yield state
            elif turn < self.begun:
                self._wait()
            elif problem is not None:
                raise problem
            else:
                return

    def _has_room(self, turn: int) -> bool:
        return (
            self._more
            and self.begun - self.done < self._limit
            and (self._ahead is None or self.begun - turn < self._ahead)
        )

    def _begin(self) -> None:
        for row in self._rows:
            i = self.begun
            self.begun += 1
            self.states[i] = self._start(i, row, partial(self._ended.put, i))
            return
        self._more = False

    def _wait(self) -> None:
        """Until a row is over; in slices, so that Ctrl-C gets through."""
        try:
            i = self._ended.get(timeout=SLICE_SECONDS)
        except queue.Empty:
            return
        self._over.add(i)
        self.done += 1
        self._progress(1)

    def stop(self) -> None:
        """Abort what is in progress and wait a moment for its partial text."""
        executors = [state.stream_executor for state in self.states.values()]
        for ex in executors:
            ex.family.stop(RequestAborted("the batch was stopped"))
        until = time.monotonic() + SETTLE_SECONDS
        for ex in executors:
            left = max(0.0, until - time.monotonic())
            wait_until(ex.cond, lambda ex=ex: ex.idle and not ex.body_going, left)


class Progress:
    """A tqdm bar, or nothing."""

    def __init__(self, title: str | None, total: int | None):
        self._bar = None
        if title is not None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, desc=title)

    def update(self, n: int) -> None:
        """So many rows more are over."""
        if self._bar is not None:
            self._bar.update(n)

    def close(self) -> None:
        """No more will come."""
        if self._bar is not None:
            self._bar.close()
