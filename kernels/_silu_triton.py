"""The Triton kernel of :mod:`.silu_mul`. One program handles BLOCK columns of one row."""

import triton
import triton.language as tl
from triton.language.extra import cuda


@triton.jit
def silu_mul_kernel(
    x, out, inner, x_stride, out_stride, BLOCK: tl.constexpr, OVERLAP: tl.constexpr
):
    if OVERLAP:
        cuda.gdc_launch_dependents()
        cuda.gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < inner
    gate = tl.load(x + row * x_stride + column, mask=inside, other=0.0)
    up = tl.load(x + row * x_stride + inner + column, mask=inside, other=0.0)
    wide = gate.to(tl.float32)
    # The activation is rounded before the product, as in torch's two steps.
    activated = (wide / (1 + tl.exp(-wide))).to(gate.dtype)
    value = activated.to(tl.float32) * up.to(tl.float32)
    tl.store(out + row * out_stride + column, value.to(gate.dtype), mask=inside)
