"""Where kernels run."""

from __future__ import annotations

import os
from functools import cache

import torch

INTERPRETED_SMS = 4
"""Multiprocessors that Triton's interpreter pretends to have."""


def uses_triton(tensor: torch.Tensor) -> bool:
    """Whether operations on ``tensor`` run as Triton kernels: on CUDA, and anywhere in Triton's
    interpreter (TRITON_INTERPRET=1)."""
    return tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"


@cache
def multiprocessors(device: torch.device) -> int:
    """Streaming multiprocessors of ``device``."""
    if device.type != "cuda":
        return INTERPRETED_SMS
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _overlaps(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def overlap(tensor: torch.Tensor) -> dict[str, bool]:
    """Launch options of a kernel that may start while the one before it is still running, and
    waits for its end itself (programmatic dependent launch, Hopper and later): what a launch
    costs is hidden behind the other's work."""
    if not _overlaps(tensor.device):
        return {"OVERLAP": False}
    return {"OVERLAP": True, "launch_pdl": True}
