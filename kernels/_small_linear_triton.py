"""The Triton kernels of :mod:`.small_linear`. One program computes BLOCK_N outputs of all rows.

The first weights are on their way before the program waits for the kernel before it to end
(``OVERLAP``, programmatic dependent launch): weights do not depend on it, and a short kernel
spends most of its time on the way to its first bytes.
"""

import triton
import triton.language as tl
from triton.language.extra import cuda


@triton.jit
def _finish(
    total,
    other,
    n,
    place,
    inside,
    bias,
    residual,
    residual_place,
    N,
    SILU: tl.constexpr,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    """What is stored for the sums ``total`` (and ``other``, the gate's partner)."""
    if BIAS:
        total += tl.load(bias + n, mask=n < N, other=0.0).to(tl.float32)
    if SILU:
        # Rounded as in torch's three steps.
        gate = total.to(place.dtype.element_ty).to(tl.float32)
        gate = (gate / (1 + tl.exp(-gate))).to(place.dtype.element_ty).to(tl.float32)
        total = gate * other.to(place.dtype.element_ty).to(tl.float32)
    if RESIDUAL:
        total = total.to(place.dtype.element_ty).to(tl.float32)
        total += tl.load(residual_place, mask=inside, other=0.0).to(tl.float32)
        tl.store(residual_place, total.to(place.dtype.element_ty), mask=inside)
    else:
        tl.store(place, total.to(place.dtype.element_ty), mask=inside)


@triton.jit
def vector_kernel(
    x,
    weight,
    bias,
    gain,
    residual,
    out,
    eps,
    N,
    K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    NORM: tl.constexpr,
    SILU: tl.constexpr,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One row. Its products are summed lane by lane, and the lanes once at the end."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    row = tl.minimum(n, N - 1).to(tl.int64)
    place = weight + row[:, None] * K + k[None, :]
    partner = weight + (row + N)[:, None] * K + k[None, :]
    a = tl.load(place, mask=(k < K)[None, :], other=0.0)
    b = a
    if SILU:
        b = tl.load(partner, mask=(k < K)[None, :], other=0.0)
    if OVERLAP:
        cuda.gdc_launch_dependents()
        cuda.gdc_wait()
    total = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
    other = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
    squares = tl.zeros([BLOCK_K], tl.float32)
    for start in range(0, K, BLOCK_K):
        value = tl.load(x + start + k, mask=k < K - start, other=0.0).to(tl.float32)
        if NORM:
            squares += value * value
            value *= tl.load(gain + start + k, mask=k < K - start, other=0.0).to(tl.float32)
        total += a.to(tl.float32) * value[None, :]
        if SILU:
            other += b.to(tl.float32) * value[None, :]
        ahead = (k < K - start - BLOCK_K)[None, :]
        a = tl.load(place + (start + BLOCK_K), mask=ahead, other=0.0)
        if SILU:
            b = tl.load(partner + (start + BLOCK_K), mask=ahead, other=0.0)
    factor = 1.0
    if NORM:
        factor = tl.rsqrt(tl.sum(squares, 0) / K + eps)
    sums = tl.sum(total, 1) * factor
    partners = sums
    if SILU:
        partners = tl.sum(other, 1) * factor
    _finish(
        sums, partners, n, out + n, n < N, bias, residual, residual + n, N, SILU, BIAS, RESIDUAL
    )


@triton.jit
def matrix_kernel(
    x,
    weight,
    bias,
    gain,
    residual,
    out,
    eps,
    M,
    N,
    x_stride,
    residual_stride,
    out_stride,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    NORM: tl.constexpr,
    SILU: tl.constexpr,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """Up to BLOCK_M rows, by the tensor cores: the weights are the left operand."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.arange(0, BLOCK_M)
    row = tl.minimum(n, N - 1).to(tl.int64)
    if OVERLAP:
        cuda.gdc_launch_dependents()
        cuda.gdc_wait()
    total = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    other = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    squares = tl.zeros([BLOCK_M], tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        place = weight + row[:, None] * K + k[None, :]
        a = tl.load(place, mask=(k < K)[None, :], other=0.0)
        there = (m < M)[:, None] & (k < K)[None, :]
        value = tl.load(x + m[:, None] * x_stride + k[None, :], mask=there, other=0.0)
        if NORM:
            wide = value.to(tl.float32)
            squares += tl.sum(wide * wide, 1)
            scale = tl.load(gain + k, mask=k < K, other=0.0).to(tl.float32)
            value = (wide * scale[None, :]).to(x.dtype.element_ty)
        total = tl.dot(a, tl.trans(value), total, input_precision="ieee")
        if SILU:
            partner = weight + (row + N)[:, None] * K + k[None, :]
            b = tl.load(partner, mask=(k < K)[None, :], other=0.0)
            other = tl.dot(b, tl.trans(value), other, input_precision="ieee")
    if NORM:
        factor = tl.rsqrt(squares / K + eps)[None, :]
        total *= factor
        other *= factor
    inside = (n < N)[:, None] & (m < M)[None, :]
    _finish(
        total,
        other,
        n[:, None],
        out + m[None, :] * out_stride + n[:, None],
        inside,
        bias,
        residual,
        residual + m[None, :] * residual_stride + n[:, None],
        N,
        SILU,
        BIAS,
        RESIDUAL,
    )
