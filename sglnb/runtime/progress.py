"""What the engine's thread is doing when a step takes long for a reason worth telling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..events import Event, Preparing


class Progress:
    """Tells of work that happens once: kernels compiled, graphs captured.

    Args:
        emit: takes the events.
    """

    def __init__(self, emit: Callable[[Event], None] = lambda event: None):
        self._emit = emit
        self.doing = ""
        """In a few words; "" when a step is a step. Any thread may read it."""

    @contextmanager
    def task(self, what: str) -> Iterator[None]:
        """``what`` is being done."""
        before, self.doing, began = self.doing, what, time.monotonic()
        self._emit(Preparing(what=what))
        try:
            yield
        finally:
            self.doing = before
            self._emit(Preparing(what=what, seconds=time.monotonic() - began))
