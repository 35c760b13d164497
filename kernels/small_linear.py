"""Linear layers of a few rows, where reading the weights is all the time there is.

A decode step of one request multiplies vectors by matrices. With it go the steps around it that
are too short to be kernels: the RMSNorm before (its factor is found while the row is read, and
multiplied in at the end), the bias, SiLU(gate) * up, or the addition to the residual stream.

Limit: bytes; each weight is read once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from ._device import uses_triton
from .launch import overlap
from .rmsnorm import rmsnorm_reference

MOST_ROWS = 16
"""Rows that the kernels take; more are a matrix product."""


class Shape(NamedTuple):
    """How a kernel is launched."""

    block_n: int
    block_k: int
    warps: int
    stages: int = 1


def small_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    norm: tuple[torch.Tensor, float] | None = None,
    silu: bool = False,
    residual: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """``x`` times ``weight``, transposed.

    Args:
        x: [rows, in], at most :data:`MOST_ROWS`; the last dimension contiguous.
        weight: [out, in], contiguous; with ``silu`` [2 * out, in], gate before up.
        bias: [out]; not with ``silu``.
        norm: (weight [in], eps) of an RMSNorm of ``x`` before.
        silu: the result is SiLU(gate) * up.
        residual: [rows, out]; the product is added to it in place.
        out: [rows, out] of any dtype; written. None: a new tensor, of x's dtype.

    Returns:
        ``out``, or ``residual``.
    """
    n = len(weight) // 2 if silu else len(weight)
    if x.shape[1] != weight.shape[1] or len(x) > MOST_ROWS:
        raise ValueError(f"x: must be [up to {MOST_ROWS}, {weight.shape[1]}], got {tuple(x.shape)}")
    if not uses_triton(x):
        h = small_linear_reference(x, weight, bias, norm=norm, silu=silu, residual=residual)
        return h if out is None else out.copy_(h)
    if residual is not None:
        out = residual
    elif out is None:
        out = torch.empty((len(x), n), dtype=x.dtype, device=x.device)
    _launch(x, weight, bias, norm, silu, residual, out, n)
    return out


def small_linear_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    norm: tuple[torch.Tensor, float] | None = None,
    silu: bool = False,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """The same by torch operations."""
    h = x if norm is None else rmsnorm_reference(x, *norm)
    h = F.linear(h, weight, bias)
    if silu:
        gate, up = h.chunk(2, -1)
        h = F.silu(gate) * up
    return h if residual is None else residual.add_(h)


def _launch(x, weight, bias, norm, silu, residual, out, n) -> None:
    import triton

    from ._small_linear_triton import matrix_kernel, vector_kernel

    rows, k = x.shape
    gain, eps = norm or (weight, 0.0)
    shape = _shape(rows, n, k, silu)
    options = {
        "K": k,
        "BLOCK_N": shape.block_n,
        "BLOCK_K": shape.block_k,
        "NORM": norm is not None,
        "SILU": silu,
        "BIAS": bias is not None,
        "RESIDUAL": residual is not None,
        "num_warps": shape.warps,
        "num_stages": shape.stages,
        **overlap(x),
    }
    bias = weight if bias is None else bias
    residual = out if residual is None else residual
    grid = (triton.cdiv(n, shape.block_n),)
    if rows == 1:
        vector_kernel[grid](x, weight, bias, gain, residual, out, eps, n, **options)
    else:
        matrix_kernel[grid](
            x,
            weight,
            bias,
            gain,
            residual,
            out,
            eps,
            rows,
            n,
            x.stride(0),
            residual.stride(0),
            out.stride(0),
            BLOCK_M=16,
            **options,
        )


def _shape(rows: int, n: int, k: int, silu: bool) -> Shape:
    """The launch for a product, as measured on an H100."""
    if rows > 1:
        return Shape(32, 512, 4, 3) if k >= 8192 else Shape(64, 256, 4, 3 if silu else 4)
    if silu:
        return Shape(8, 256, 4) if k <= 1024 else Shape(2, 1024, 4)
    if k <= 1024:
        return Shape(4, 1024, 4)
    return Shape(8 if n <= 1024 else 4, 2048, 8)
