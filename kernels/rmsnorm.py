"""RMSNorm, alone or after the addition to the residual stream, over rows or over heads.

Source: Zhang and Sennrich 2019. In half precision the normed value is rounded before it meets the
weight, as the Llama family's reference does. Limit: bytes; x is read once, the residual read and
written once, the result written once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ._device import overlap, uses_triton

BLOCK = 2048
"""Elements a program handles where rows are shorter."""


def rmsnorm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Norm over the last dimension.

    Args:
        x: [N, D], or [N, heads, D] for a norm over each head; the last dimension contiguous.
        weight: [D].
        eps: added to the mean square.
        out: of x's shape; written. None: a new tensor. It may be ``x``.

    Returns:
        ``out``.
    """
    if out is None:
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not uses_triton(x):
        return out.copy_(rmsnorm_reference(x, weight, eps))
    return _launch(x, None, weight, eps, out)


def add_rmsnorm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Add ``x`` [N, D] to ``residual`` [N, D] in place, rounded, and norm the sum.

    Returns:
        ``out`` [N, D] (it may be ``x``), the normed sum; ``residual`` holds the sum itself.
    """
    if out is None:
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not uses_triton(x):
        residual.add_(x)
        return out.copy_(rmsnorm_reference(residual, weight, eps))
    return _launch(x, residual, weight, eps, out)


def rmsnorm_reference(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm over the last dimension by torch operations."""
    if x.dtype == torch.float32:
        return F.rms_norm(x, (x.shape[-1],), weight, eps)
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def _launch(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
    out: torch.Tensor,
) -> torch.Tensor:
    import triton

    from ._rmsnorm_triton import rmsnorm_kernel

    size = x.shape[-1]
    inner = x.shape[1] if x.ndim == 3 else 1
    rows = x.shape[0] * inner
    block_d = triton.next_power_of_2(size)
    block_r = max(1, BLOCK // block_d)
    rmsnorm_kernel[(triton.cdiv(rows, block_r),)](
        x,
        x if residual is None else residual,
        weight,
        out,
        eps,
        rows,
        inner,
        x.stride(0),
        x.stride(1) if x.ndim == 3 else 0,
        out.stride(0),
        out.stride(1) if out.ndim == 3 else 0,
        0 if residual is None else residual.stride(0),
        D=size,
        BLOCK_R=block_r,
        BLOCK_D=block_d,
        ADD=residual is not None,
        HALF=x.dtype != torch.float32,
        num_warps=4 if block_d <= 2048 else 8,
        **overlap(x),
    )
    return out
