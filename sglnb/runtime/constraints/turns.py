"""How compilations share a processor: one heavy one at a time, and each can be given up.

Python computes on one thread at a time. Whoever compiles calls :func:`step` every now and then;
what has taken long then waits for its turn among all that do. So what is quick passes, and the
engine shares the processor with one compilation, not with all.
"""

from __future__ import annotations

import threading
import time

LIGHT = 0.1
"""Seconds after which a compilation is a heavy one."""
_LOOK = 0.05
"""Seconds after which one that waits for its turn looks whether it is given up."""


class GivenUp(Exception):
    """Nobody wants the result any more."""


class Turn:
    """One compilation, as a context manager around it.

    Args:
        heavy: held by the heavy one whose turn it is.
    """

    def __init__(self, heavy: threading.Lock):
        self._heavy, self._held = heavy, False
        self._until = 0.0
        self._given_up = False

    def give_up(self) -> None:
        """Let it end at its next step. From any thread."""
        self._given_up = True

    def __enter__(self) -> None:
        self._until = time.monotonic() + LIGHT
        _mine.turn = self

    def __exit__(self, *_: object) -> None:
        _mine.turn = None
        if self._held:
            self._held = False
            self._heavy.release()

    def step(self) -> None:
        """See :func:`step`."""
        while True:
            if self._given_up:
                raise GivenUp
            if self._held or time.monotonic() < self._until:
                return
            self._held = self._heavy.acquire(timeout=_LOOK)


def step() -> None:
    """Called by who compiles, some times in a tenth of a second, and without a lock that another
    compilation may want. Elsewhere it does nothing.

    Raises:
        GivenUp: the compilation is given up.
    """
    turn = getattr(_mine, "turn", None)
    if turn is not None:
        turn.step()


_mine = threading.local()
