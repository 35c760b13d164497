"""Jobs at their time, on one thread."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable


class Clock:
    """Calls jobs when their time has come, one after another, as an engine's thread does. The
    thread starts when needed and leaves when idle."""

    IDLE_SECONDS = 5.0

    def __init__(self) -> None:
        self._jobs: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._cond = threading.Condition()
        self._running = False

    def after(self, seconds: float, job: Callable[[], None]) -> None:
        """Call ``job``, which must not raise, in so many seconds."""
        with self._cond:
            heapq.heappush(self._jobs, (time.monotonic() + seconds, next(self._numbers), job))
            self._cond.notify()
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name="sglnb-scripted", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._cond:
                while not self._jobs or self._jobs[0][0] > time.monotonic():
                    if self._jobs:
                        self._cond.wait(self._jobs[0][0] - time.monotonic())
                    elif not self._cond.wait(self.IDLE_SECONDS) and not self._jobs:
                        self._running = False
                        return
                job = heapq.heappop(self._jobs)[2]
            job()
            del job  # an idle thread must not keep the last request alive
