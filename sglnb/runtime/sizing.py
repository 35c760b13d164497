"""How large the KV pool is when nobody says."""

from __future__ import annotations

import torch

from .models import Model

SHARE = 0.25
"""Share of free memory the pool takes on a CPU, where the user's own work lives too."""

GPU_SHARE = 0.7
"""Share of free memory on a GPU."""

MOST = 131_072
"""Tokens: more would cost the bookkeeping memory that small models do not need."""

GPU_MOST = 1 << 20
"""The same on a GPU, where many more requests run at once."""


def default_kv_tokens(model: Model) -> int:
    """Capacity in tokens from the memory that is free now; at least one full context."""
    on_gpu = model.device.type == "cuda"
    free = _free_on_gpu(model.device) * GPU_SHARE if on_gpu else _free_bytes() * SHARE
    fits = int(free / model.kv_bytes_per_token)
    return max(min(fits, GPU_MOST if on_gpu else MOST), min(model.context_length, 4096))


def _free_on_gpu(device: torch.device) -> int:
    """What the device has free, and what torch keeps cached in this process: the blocks that the
    user's own tensors left behind are handed out again."""
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


def _free_bytes() -> float:
    """Memory a CPU process can still have, in bytes."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 2**30  # no /proc (macOS): a cautious guess
