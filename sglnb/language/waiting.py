"""Waiting that Ctrl-C gets through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SLICE_SECONDS = 0.1


class Waitable:
    """Something that threads can wait for.

    Attributes:
        lock: an RLock that guards all of it. A change is told by :meth:`tell` before the lock is
            released.
    """

    lock: threading.RLock
    _cond: threading.Condition | None = None

    @property
    def cond(self) -> threading.Condition:
        """The same lock as a condition, made when somebody first waits: most states are read
        when they are done."""
        with self.lock:
            if self._cond is None:
                self._cond = threading.Condition(self.lock)
            return self._cond

    def tell(self) -> None:
        """Wake those that wait (under ``lock``)."""
        if self._cond is not None:
            self._cond.notify_all()


def wait_until(
    cond: threading.Condition, ready: Callable[[], bool], timeout: float | None = None
) -> bool:
    """Wait on ``cond`` (not held by the caller) until ``ready()``; False after ``timeout`` s.

    The wait is cut in slices: on some platforms a plain wait holds back KeyboardInterrupt.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with cond:
        while not ready():
            left = SLICE_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            cond.wait(min(SLICE_SECONDS, left))
    return True
