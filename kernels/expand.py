"""Runs of consecutive slots, written out as slot numbers.

What a row reads of the pool are a few runs; only those travel to the GPU. Limit: bytes; each number
is written once.
"""

from __future__ import annotations

import torch

from ._device import multiprocessors, uses_triton

BLOCK = 1024
SPLIT = 4
"""Programs that share a run."""


def expand_runs(runs: torch.Tensor, count: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Write numbers; how many is read on the device, so that a captured graph fits any runs.

    Args:
        runs: int32 [most, 3]: where in ``out`` a run goes, its first number, its length.
        count: int32 [1], how many runs there are.
        out: int32; written where runs go.

    Returns:
        ``out``.
    """
    if not uses_triton(out):
        for at, first, length in runs[: int(count)].tolist():
            out[at : at + length] = torch.arange(first, first + length, dtype=out.dtype)
        return out
    from ._expand_triton import expand_kernel

    programs = min(len(runs), 2 * multiprocessors(out.device))
    expand_kernel[(programs, SPLIT)](runs, count, out, BLOCK=BLOCK, num_warps=4)
    return out
