"""Constraints are compiled on threads of their own: who submits a request does not wait long."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from .constraints import Closer, Constraint

PATIENCE = 0.05
"""Seconds that :meth:`Compiling.start` waits: most constraints are ready by then, and a mistake in
them is raised where it was made."""
_THREADS = 4
"""Few: Python computes on one of them at a time, and the engine needs its share."""


class Ready(NamedTuple):
    """What a constrained request needs to run."""

    constraint: Constraint
    closer: Closer | None


class Compiling:
    """Threads that compile."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="sglnb-compile")

    def start(self, make: Callable[[], Ready]) -> Future[Ready]:
        """Have ``make`` called. The result may be there already.

        Raises:
            Exception: what ``make`` raised at once.
        """
        future = self._pool.submit(make)
        wait([future], PATIENCE)
        if future.done():
            future.result()
        return future

    def shutdown(self) -> None:
        """Start nothing more; nobody waits for what is under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Prepared:
    """Which constraints need no thread, for they were compiled before. A hint: one that has left
    the cache meanwhile is compiled where it is asked for."""

    def __init__(self) -> None:
        self._keys: set[object] = set()

    def __contains__(self, key: object) -> bool:
        with contextlib.suppress(TypeError):  # a schema that is a dict
            return key in self._keys
        return False

    def add(self, key: object) -> None:
        """``key`` is compiled."""
        with contextlib.suppress(TypeError):
            if len(self._keys) > 1_000:
                self._keys.clear()
            self._keys.add(key)
