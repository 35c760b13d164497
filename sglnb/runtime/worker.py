"""The engine's thread: it owns the core, and everyone else sends it commands."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import torch

from ..errors import EngineError
from .core import EngineCore
from .threads import ThreadGovernor, short_switches


class Worker:
    """Builds a core on a thread of its own and steps it while there is work.

    The thread also loads the model: OpenMP keeps workers for each thread that computes, and
    more workers than cores wait less well (see :mod:`.threads`).

    Args:
        build: makes the core, on the thread; what it raises is raised here.
        threads: torch threads at most.
    """

    def __init__(self, build: Callable[[], EngineCore], threads: int):
        self._threads = threads
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self.closed = False
        ready: Future[EngineCore] = Future()
        self._thread = threading.Thread(
            target=self._loop, args=(build, ready), name="sglnb-engine", daemon=True
        )
        self._thread.start()
        self.core = ready.result()

    def post(self, command: Callable[[], None]) -> None:
        """Have ``command`` run between two steps.

        Raises:
            EngineError: the thread has ended.
        """
        with self._closing:
            if self.closed:
                raise EngineError("the engine was shut down; make a new one with sgl.Engine()")
            self._inbox.put(command)

    def call(self, what: Callable[[], Any], timeout: float | None = None) -> Any:
        """Run ``what`` between two steps and return its result."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(what())
            except BaseException as error:  # carried to the caller
                future.set_exception(error)

        if threading.current_thread() is self._thread:
            return what()
        self.post(run)
        return future.result(timeout)

    def shutdown(self) -> None:
        """End the thread; requests in progress fail."""
        with self._closing:
            if self.closed:
                return
            self.closed = True
            self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _loop(self, build: Callable[[], EngineCore], ready: Future[EngineCore]) -> None:
        with torch.inference_mode():
            try:
                torch.set_num_threads(self._threads)
                core = build()
                governor = ThreadGovernor(self._threads)
            except BaseException as error:  # carried to the caller
                ready.set_exception(error)
                return
            ready.set_result(core)
            failure = EngineError("the engine was shut down")
            try:
                while (command := self._inbox.get()) is not None:
                    command()
                    if not core.idle and not self._work(core, governor):
                        break
            except BaseException as error:  # our own mistake: nobody may wait for ever
                failure = EngineError(f"the engine's thread died: {type(error).__name__}: {error}")
                failure.__cause__ = error
                with self._closing:
                    self.closed = True
                while not self._inbox.empty():
                    command = self._inbox.get()
                    if command is not None:
                        command()
            core.close(failure)

    def _work(self, core: EngineCore, governor: ThreadGovernor) -> bool:
        """Step until there is nothing to do; False: shut down meanwhile."""
        with short_switches():
            while not core.idle:
                governor.adjust()
                core.step()
                while not self._inbox.empty():
                    command = self._inbox.get()
                    if command is None:
                        return False
                    command()
        return True
