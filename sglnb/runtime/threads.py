"""How many threads torch computes with, and how they wait.

OpenMP's workers spin at the end of each parallel region. With as many threads as cores, one busy
neighbour (the browser, the notebook server, the user's own cell) stalls every region: the last
worker is not running while the others burn its core. Seen on 2 cores: decode steps ten times
slower. On the other hand, workers that do not spin at all must be woken for each operator, and a
step has two hundred of them. So four things are done here:

* the spin is bounded, which must be said before torch is loaded (libgomp reads it then);
* one thread of ours does all computing, loading included: libgomp stops spinning altogether once
  it manages more workers than cores;
* the number of threads follows what the neighbours leave free, measured a few times a second;
* Python's own lock is asked for more often while there is work: each operator gives it up and
  takes it back, and a cell that computes in plain Python would keep it for 5 ms each time.

Measured on 2 cores, one stream of the embedded model: 14 ms a token with 2 threads and 18 with 1
on an idle machine; 60 to 120 with 2 and 18 with 1 while a neighbour keeps one core busy. With a
cell looping in Python beside it: 1,200 ms a token with Python's own interval, 66 with ours.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

SPIN = "GOMP_SPINCOUNT"
SPIN_COUNT = "20000"
"""Some ten microseconds: the time between two operators of a step."""

WINDOW = 0.2
"""Seconds between two looks at the neighbours."""

TOLERANCE = 0.3
"""Cores' worth of neighbours that may be overlooked: the browser drawing our own views."""


SWITCH = 1e-4
"""Seconds after which a waiting thread asks for Python's lock (Python's own: 5e-3)."""


def bound_spinning() -> None:
    """Load torch with a bounded spin, unless it is loaded already or the user has said how
    OpenMP waits. The environment is left as it was."""
    if "torch" in sys.modules or SPIN in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return
    os.environ[SPIN] = SPIN_COUNT
    try:
        import torch  # noqa: F401  (libgomp reads the environment while torch loads)
    finally:
        del os.environ[SPIN]


def most_threads() -> int:
    """Threads to use when nobody else is busy: torch's own number, within our cores."""
    import torch

    return min(torch.get_num_threads(), _cores())


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ThreadGovernor:
    """Sets the calling thread's number of torch threads by what the neighbours leave free.

    Args:
        most: threads to use on an idle machine.
    """

    def __init__(self, most: int):
        self.most = self.threads = most
        self._seen = self._measure()

    def adjust(self) -> None:
        """Call before a step, on the computing thread; most calls only look at the clock."""
        if self.most == 1 or time.monotonic() - self._seen[0] < WINDOW:
            return
        before, self._seen = self._seen, self._measure()
        wall, busy, own = (b - a for a, b in zip(before, self._seen, strict=True))
        # Our workers are as busy as we are while we compute: spinning counts.
        others = (busy - own * self.threads) / wall
        free = _cores() - math.ceil(max(0.0, others - TOLERANCE))
        wanted = max(1, min(self.most, free))
        if wanted != self.threads:
            import torch

            torch.set_num_threads(wanted)
            self.threads = wanted

    def _measure(self) -> tuple[float, float, float]:
        """(clock, seconds all cores were busy, seconds this thread computed)."""
        times = psutil.cpu_times()
        waiting = times.idle + getattr(times, "iowait", 0.0)
        return time.monotonic(), sum(times) - _counted_twice(times) - waiting, time.thread_time()


def _counted_twice(times: object) -> float:
    """Time of guests, which Linux counts as user time too."""
    return getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)


_switching = threading.Lock()
_short: list[float] = []
"""The interval to go back to, once for each engine that has work."""


@contextmanager
def short_switches() -> Iterator[None]:
    """Let threads take turns at Python's lock at a short interval, for the process as a whole;
    when the last engine is out of work, the interval is what it was."""
    with _switching:
        _short.append(_short[0] if _short else sys.getswitchinterval())
        sys.setswitchinterval(min(SWITCH, _short[0]))
    try:
        yield
    finally:
        with _switching:
            before = _short.pop()
            if not _short:
                sys.setswitchinterval(before)
