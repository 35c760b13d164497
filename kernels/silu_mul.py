"""SiLU(gate) * up of a gated MLP, from the merged projection.

Source: SwiGLU (Shazeer 2020). Limit: bytes; 3 * inner * itemsize a token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ._device import overlap, uses_triton

BLOCK = 1024


def silu_mul(x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Activate the first half of each row and multiply it by the second.

    Args:
        x: [N, 2 * inner], gate before up; rows may be apart.
        out: [N, inner]; written. None: a new tensor.

    Returns:
        ``out``.
    """
    inner = x.shape[1] // 2
    if out is None:
        out = torch.empty((x.shape[0], inner), dtype=x.dtype, device=x.device)
    if not uses_triton(x):
        return out.copy_(silu_mul_reference(x))
    import triton

    from ._silu_triton import silu_mul_kernel

    grid = (len(x), triton.cdiv(inner, BLOCK))
    silu_mul_kernel[grid](x, out, inner, x.stride(0), out.stride(0), BLOCK=BLOCK, **overlap(x))
    return out


def silu_mul_reference(x: torch.Tensor) -> torch.Tensor:
    """The same by torch operations."""
    gate, up = x.chunk(2, -1)
    return F.silu(gate) * up
