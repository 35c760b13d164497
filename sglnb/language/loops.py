"""Event loops in threads of their own: none is ever started in a thread of the user's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """One event loop in one daemon thread, which starts when it is first needed."""

    def __init__(self, name: str):
        self.name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # also after os.fork()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name=self.name, daemon=True
                )
                self._thread.start()
        return self._loop

    @property
    def is_here(self) -> bool:
        """Whether the caller is on the loop's own thread."""
        return threading.current_thread() is self._thread

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run ``work`` as a task of the loop, in a copy of the caller's context."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def later(self, seconds: float, owner: T, call: Callable[[T], object]) -> None:
        """``call(owner)`` after so many seconds, unless ``owner`` is garbage by then. ``call``
        must be quick, must not raise and must not hold ``owner``."""
        ref, loop = weakref.ref(owner), self._running()

        def due() -> None:
            alive = ref()
            if alive is not None:
                call(alive)

        loop.call_soon_threadsafe(loop.call_later, seconds, due)


PROGRAMS = LoopThread("sglnb-async")
"""Where async programs run that somebody waits for with plain ``run()`` or ``run_batch()``."""

TIMERS = LoopThread("sglnb-timers")
"""Where timeouts are counted: apart, because a program can block its loop."""
