"""Waiting that Ctrl-C gets through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SLICE_SECONDS = 0.1


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
