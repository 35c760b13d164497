"""What a program needs from the thing that runs it, and which one is the default."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from operator import attrgetter
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


_default: Any = None


def set_default_backend(backend: Any) -> None:
    """Use ``backend`` where a program is run without one. None restores the embedded engine.

    Raises:
        TypeError: ``backend`` is none that programs can run on.
    """
    global _default
    if backend is not None:
        as_backend(backend)
    _default = backend


def default_as_given() -> Any:
    """What :func:`set_default_backend` was given; None for the embedded engine."""
    return _default


def get_default_backend() -> Backend:
    """The default backend; the shared engine on the embedded model unless another was set."""
    if _default is not None:
        return as_backend(_default)
    from ..runtime import default_engine

    return default_engine()


_NEEDED_NAMES = ("submit", "abort", "events", "tokenizer")
_NEEDED = attrgetter(*_NEEDED_NAMES)

_ADAPTER = "_sglnb_adapter"
"""Where an object of SGLang's kind keeps what makes a backend of it."""


def as_backend(backend: Any) -> Backend:
    """``backend`` itself, or for one of SGLang's kind (:class:`~sglnb.BaseBackend`) the adapter
    that makes one of it, always the same.

    Raises:
        TypeError: it lacks a method that programs call.
    """
    try:
        _NEEDED(backend)
        return backend
    except AttributeError:
        missing = [n for n in _NEEDED_NAMES if not hasattr(backend, n)]
    backend = getattr(backend, "endpoint", backend)  # SGLang's Runtime holds it there
    if not (hasattr(backend, "generate") and hasattr(backend, "get_chat_template")):
        raise TypeError(
            f"backend: {type(backend).__name__} has no {', '.join(missing)}; "
            "pass an sglnb.Engine, a subclass of sglnb.BaseBackend or an object with the same "
            "methods"
        )
    from .blocking import BlockingBackend

    with _adapters_lock:
        if _ADAPTER not in vars(backend):
            setattr(backend, _ADAPTER, BlockingBackend(backend))
        return vars(backend)[_ADAPTER]


_adapters_lock = threading.Lock()


class Dispatcher:
    """Threads that go on with programs when a request ends, so that the engine's own thread never
    tokenizes or waits for them. They start when needed and leave when idle.

    Args:
        most: threads at most; with 1 jobs are done in order.
    """

    IDLE_SECONDS = 5.0

    def __init__(self, most: int = 1, name: str = "sglnb-programs"):
        self._most, self._name = most, name
        self._jobs: deque[Callable[[], None]] = deque()
        self._cond = threading.Condition(threading.Lock())
        self._threads = self._idle = 0

    def post(self, job: Callable[[], None]) -> None:
        """Call ``job`` soon on another thread. Never blocks; ``job`` must not raise."""
        with self._cond:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._cond.notify()
            elif self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._cond:
                self._idle += 1
                while not self._jobs:
                    if not self._cond.wait(self.IDLE_SECONDS) and not self._jobs:
                        self._idle -= 1
                        self._threads -= 1
                        return
                self._idle -= 1
                job = self._jobs.popleft()
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
