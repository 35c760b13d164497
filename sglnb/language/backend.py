"""What a program needs from the thing that runs it, and which one is the default."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from ..events import EventLog


@runtime_checkable
class Request(Protocol):
    """One generation in flight: the part of the engine's ``Request`` that programs use."""

    text: str
    done: bool
    error: Exception | None
    meta_info: dict[str, Any]

    def abort(self) -> None:
        """Stop at the next step; the text so far is kept."""


@runtime_checkable
class Backend(Protocol):
    """The engine, or anything that takes requests as the engine does."""

    tokenizer: Any
    events: EventLog
    model_name: str

    def submit(
        self,
        prompt: str | list[int],
        params: dict[str, Any],
        *,
        run: str = "",
        state: str = "",
        name: str = "",
        purpose: str = "gen",
        on_update: Callable[[Request], None] | None = None,
        **report: Any,
    ) -> Request:
        """Queue a request and return at once. ``on_update`` is called from any thread after
        new tokens and at the end, possibly before ``submit`` returns; ``report`` are the
        options of :class:`~sglnb.runtime.report.Report`."""

    def abort(self, rid: str | None = None, run: str | None = None) -> None:
        """Abort one request, those of a run, or all."""


_default: Backend | None = None


def set_default_backend(backend: Backend | None) -> None:
    """Use ``backend`` where a program is run without one. None restores the embedded engine.

    Raises:
        TypeError: ``backend`` has no ``submit`` and ``abort``.
    """
    global _default
    if backend is not None:
        check_backend(backend)
    _default = backend


def get_default_backend() -> Backend:
    """The default backend; the shared engine on the embedded model unless another was set."""
    if _default is not None:
        return _default
    from ..runtime import default_engine

    return default_engine()


def check_backend(backend: Any) -> Backend:
    """``backend`` itself; TypeError when it lacks a method that programs call."""
    missing = [n for n in ("submit", "abort", "events", "tokenizer") if not hasattr(backend, n)]
    if missing:
        raise TypeError(
            f"backend: {type(backend).__name__} has no {', '.join(missing)}; "
            "pass an sglnb.Engine or an object with the same methods"
        )
    return backend


class Dispatcher:
    """A thread that goes on with programs when a request ends, so that the engine's own
    thread never tokenizes or waits for them. It starts when needed and leaves when idle."""

    IDLE_SECONDS = 5.0

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def post(self, job: Callable[[], None]) -> None:
        """Call ``job`` soon on the dispatcher's thread. Never blocks; ``job`` must not raise."""
        with self._lock:
            self._jobs.put(job)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="sglnb-programs", daemon=True
                )
                self._thread.start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self.IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._thread = None
                        return
                continue
            job()
            del job  # an idle thread must not keep the last state alive


_dispatchers: weakref.WeakKeyDictionary[Any, Dispatcher] = weakref.WeakKeyDictionary()
_dispatchers_lock = threading.Lock()


def dispatcher_of(backend: Backend) -> Dispatcher:
    """The one dispatcher of ``backend``."""
    with _dispatchers_lock:
        found = _dispatchers.get(backend)
        if found is None:
            found = _dispatchers[backend] = Dispatcher()
        return found
