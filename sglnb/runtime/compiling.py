"""Constraints are compiled on threads of their own: who submits a request does not wait long."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from .constraints import Closer, Constraint
from .constraints.turns import Turn

PATIENCE = 0.05
"""Seconds that :meth:`Compiling.start` waits: most constraints are ready by then, and a mistake in
them is raised where it was made."""
_THREADS = 64
"""Many: of those that take long all but one wait (see :mod:`.constraints.turns`)."""


class Ready(NamedTuple):
    """What a constrained request needs to run."""

    constraint: Constraint
    closer: Closer | None


class Compilation(Future[Ready]):
    """A constraint that is being compiled. :meth:`cancel` ends it at its next step."""

    def __init__(self, heavy: threading.Lock):
        super().__init__()
        self._turn = Turn(heavy)

    def run(self, make: Callable[[], Ready]) -> None:
        """Have ``make`` called, here."""
        if not self.set_running_or_notify_cancel():
            return
        try:
            with self._turn:
                ready = make()
        except Exception as error:  # for who asks for the result
            self.set_exception(error)
        else:
            self.set_result(ready)

    def cancel(self) -> bool:
        self._turn.give_up()
        return super().cancel()


class Compiling:
    """Threads that compile."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="sglnb-compile")
        self._heavy = threading.Lock()

    def start(self, make: Callable[[], Ready]) -> Compilation:
        """Have ``make`` called. The result may be there already.

        Raises:
            Exception: what ``make`` raised at once.
        """
        compilation = Compilation(self._heavy)
        self._pool.submit(compilation.run, make)
        wait([compilation], PATIENCE)
        if compilation.done():
            compilation.result()
        return compilation

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
