"""The states of one program: the one it began with and all its branches. They are timed,
counted and stopped together, apart from the other programs of their run."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import stop_kind
from .loops import TIMERS

if TYPE_CHECKING:
    from .executor import StreamExecutor


class Usage(NamedTuple):
    """Tokens of a program's requests that are over. ``tokens`` were written by the model,
    ``forced`` of them by the constraint alone; of ``prompt`` tokens, ``cached`` were found in
    the cache."""

    tokens: int = 0
    prompt: int = 0
    cached: int = 0
    forced: int = 0


class Family:
    """What the states of one program have in common.

    Args:
        timeout: seconds, from now on, after which what is going on is stopped.
    """

    def __init__(self, timeout: float | None = None):
        self.usage = Usage()
        self.began = time.monotonic()
        self.ended: float | None = None
        self.over = False
        """Whether the program's body is over."""
        self._lock = threading.Lock()
        self._members: weakref.WeakSet[StreamExecutor] = weakref.WeakSet()
        self._root = ""
        self._going: set[str] = set()
        self._problem: BaseException | None = None
        if timeout is not None:
            TIMERS.later(timeout, self, lambda family: family._expire(timeout))

    def add(self, executor: StreamExecutor) -> None:
        """``executor`` is one of these states from now on; the first one has the body."""
        with self._lock:
            self._root = self._root or executor.sid
            self._members.add(executor)
            self._going.add(executor.sid)

    def ended_one(self, executor: StreamExecutor) -> None:
        """Nothing more is expected of ``executor``."""
        with self._lock:
            self._going.discard(executor.sid)
            if executor.sid == self._root:
                self.ended = time.monotonic()
            if not self._going:
                self.over = True

    def count(self, meta_info: Mapping[str, Any]) -> None:
        """A request is over."""
        with self._lock:
            self.usage = Usage(
                self.usage.tokens + meta_info.get("completion_tokens", 0),
                self.usage.prompt + meta_info.get("prompt_tokens", 0),
                self.usage.cached + meta_info.get("cached_tokens", 0),
                self.usage.forced + meta_info.get("forced_tokens", 0),
            )

    @property
    def seconds(self) -> float:
        """From the beginning until the body and its state's generations were over, or to now."""
        return (self.ended or time.monotonic()) - self.began

    def stop(self, problem: BaseException) -> None:
        """Stop what is in flight, drop what is queued, and let the body append no more."""
        with self._lock:
            self._problem = self._problem or problem
            members = list(self._members)
        for executor in members:
            executor.halt(problem)

    def check(self, executor: StreamExecutor) -> None:
        """Raise in a body that goes on after it was stopped."""
        if self._problem is None or self.over:
            return
        kind = stop_kind(self._problem)
        raise kind(
            f"the program {kind.verb}: {self._problem}",
            name=None,
            where=None,
            cause=self._problem,
            executor=executor,
        )

    def _expire(self, timeout: float) -> None:
        if self._going:
            self.stop(TimeoutError(f"the program's {timeout:g} s are over"))


def check_timeout(timeout: Any) -> None:
    """ValueError unless ``timeout`` is a number of seconds above 0, or None."""
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if timeout is not None and not (number and 0 < timeout < float("inf")):
        raise ValueError(f"timeout: must be a number of seconds above 0, or None, got {timeout!r}")
