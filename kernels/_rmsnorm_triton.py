"""The Triton kernels of :mod:`.rmsnorm`."""

import triton
import triton.language as tl
from triton.language.extra import cuda


@triton.jit(do_not_specialize=["rows"])
def rmsnorm_kernel(
    x,
    residual,
    weight,
    out,
    eps,
    rows,
    inner,
    x_stride,
    x_inner,
    out_stride,
    out_inner,
    residual_stride,
    D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ADD: tl.constexpr,
    HALF: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """BLOCK_R rows. Row r lies at (r // inner) * stride + (r % inner) * inner stride."""
    if OVERLAP:
        cuda.gdc_launch_dependents()
        cuda.gdc_wait()
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    dim = tl.arange(0, BLOCK_D)
    there = (row < rows)[:, None] & (dim < D)[None, :]
    outer, within = row // inner, row % inner
    place = outer * x_stride + within * x_inner
    wide = tl.load(x + place[:, None] + dim[None, :], mask=there, other=0.0).to(tl.float32)
    if ADD:
        place = residual + (row * residual_stride)[:, None] + dim[None, :]
        total = wide + tl.load(place, mask=there, other=0.0).to(tl.float32)
        total = total.to(residual.dtype.element_ty)
        tl.store(place, total, mask=there)
        wide = total.to(tl.float32)
    scale = tl.load(weight + dim, mask=dim < D, other=0.0).to(tl.float32)[None, :]
    wide = wide * tl.rsqrt(tl.sum(wide * wide, 1) / D + eps)[:, None]
    if HALF:  # rounded before the weight
        wide = wide.to(out.dtype.element_ty).to(tl.float32)
    place = outer * out_stride + within * out_inner
    value = (wide * scale).to(out.dtype.element_ty)
    tl.store(out + place[:, None] + dim[None, :], value, mask=there)
