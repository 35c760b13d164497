"""How kernels are started."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

_thread = threading.local()


@contextmanager
def overlapped() -> Iterator[None]:
    """Within, kernels that this thread launches may start while the one before them is still
    running, and wait for its end themselves (programmatic dependent launch, Hopper and later).
    For recorded work: what starting a kernel costs is hidden behind the other's work."""
    _thread.overlaps = True
    try:
        yield
    finally:
        _thread.overlaps = False


@cache
def _can_overlap(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def overlap(tensor: torch.Tensor) -> dict[str, bool]:
    """Launch options of a kernel that knows of :func:`overlapped`."""
    if getattr(_thread, "overlaps", False) and _can_overlap(tensor.device):
        return {"OVERLAP": True, "launch_pdl": True}
    return {"OVERLAP": False}
