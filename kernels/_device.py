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
