"""The states of one program: the one it began with and all its branches. They are timed,
counted and stopped together, apart from the other programs of their run."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Mapping
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
        like: of the program that one of these states was taken from.

    Attributes:
        stream: whether somebody reads the text as it comes.
        arguments: those that the program was called with, by name.
        num_api_spec_tokens: see :func:`~sglnb.function`.
    """

    ended: float | None = None
    over = False
    """Whether the program's body is over."""
    _root = ""
    _going = 0

    def __init__(self, timeout: float | None = None, like: Family | None = None):
        self.stream = like is not None and like.stream
        self.arguments: Mapping[str, Any] = {} if like is None else like.arguments
        self.num_api_spec_tokens = None if like is None else like.num_api_spec_tokens
        self._infos: list[Mapping[str, Any]] = []  # of requests; summed when somebody asks
        self.problem: BaseException | None = None
        """Why it was stopped."""
        self.began = time.monotonic()
        self._lock = threading.Lock()
        self._members: set[weakref.ref[StreamExecutor]] = set()
        if timeout is not None:
            TIMERS.later(timeout, self, lambda family: family._expire(timeout))

    def add(self, executor: StreamExecutor) -> None:
        """``executor`` is one of these states from now on; the first one has the body."""
        with self._lock:
            self._root = self._root or executor.sid
            self._members.add(weakref.ref(executor, self._members.discard))
            self._going += 1

    def ended_one(self, executor: StreamExecutor) -> None:
        """Nothing more is expected of ``executor``."""
        with self._lock:
            self._going -= 1
            if executor.sid == self._root:
                self.ended = time.monotonic()
            if not self._going:
                self.over = True

    def count(self, meta_infos: Iterable[Mapping[str, Any]]) -> None:
        """Requests are over."""
        self._infos.extend(meta_infos)  # one operation: no lock

    @property
    def usage(self) -> Usage:
        """The sums so far."""
        infos = self._infos.copy()
        names = ("completion_tokens", "prompt_tokens", "cached_tokens", "forced_tokens")
        return Usage(*(sum(info.get(name, 0) for info in infos) for name in names))

    @property
    def seconds(self) -> float:
        """From the beginning until the body and its state's generations were over, or to now."""
        return (self.ended or time.monotonic()) - self.began

    def stop(self, problem: BaseException) -> None:
        """Stop what is in flight, drop what is queued, and let the body append no more."""
        with self._lock:
            self.problem = self.problem or problem
            members = [ref() for ref in list(self._members)]
        for executor in members:
            if executor is not None:
                executor.halt(problem)

    def check(self, executor: StreamExecutor) -> None:
        """Raise in a body that goes on after it was stopped."""
        if self.problem is None or self.over:
            return
        kind = stop_kind(self.problem)
        raise kind(
            f"the program {kind.verb}: {self.problem}",
            name=None,
            where=None,
            cause=self.problem,
            executor=executor,
        )

    def _expire(self, timeout: float) -> None:
        if self._going:
            self.stop(TimeoutError(f"the program's {timeout:g} s are over"))


def check_timeout(timeout: Any) -> None:
    """ValueError unless ``timeout`` is a number of seconds above 0, or None."""
    if timeout is None:
        return
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not (number and 0 < timeout < float("inf")):
        raise ValueError(f"timeout: must be a number of seconds above 0, or None, got {timeout!r}")
