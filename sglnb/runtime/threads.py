"""How many threads torch gets, and how they wait.

OpenMP's workers spin at the end of each parallel region, by default for milliseconds. With as
many threads as cores, one busy neighbour (the browser, the notebook server, the user's own cell)
then stalls every region: the last worker is not running while the others burn its core. Seen on
2 cores: decode steps 10 to 40 times slower. Two things prevent it here:

* the spin is bounded to some ten microseconds, which must be set before torch is loaded;
* where torch was loaded before us, one core is left to the neighbours.
"""

from __future__ import annotations

import os
import sys

SPIN = "GOMP_SPINCOUNT"
SPIN_COUNT = "2000"
"""About 10 microseconds: long enough between two operators, short enough to yield."""

_bounded = False


def bound_spinning() -> None:
    """Load torch with a bounded spin, unless it is loaded already or the user has chosen how
    OpenMP waits. The environment is left as it was."""
    global _bounded
    if "torch" in sys.modules:
        return
    if SPIN in os.environ or "OMP_WAIT_POLICY" in os.environ:
        _bounded = True
        return
    os.environ[SPIN] = SPIN_COUNT
    try:
        import torch  # noqa: F401  (libgomp reads the environment while torch loads)
    finally:
        del os.environ[SPIN]
    _bounded = True


def choose_threads() -> int:
    """Threads for the engine: the cores we may use, one fewer when workers spin for long."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = min(torch.get_num_threads(), cores or 1)
    return threads if _bounded else max(1, min(threads, (cores or 1) - 1))
