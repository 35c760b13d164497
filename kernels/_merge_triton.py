"""The Triton kernel of :mod:`.merge`. One program merges the partial results of one (query,
head)."""

import triton
import triton.language as tl
from triton.language.extra import cuda


@triton.jit
def merge_kernel(
    parts,
    parts_lse,
    indptr,
    indices,
    out,
    lse,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_P: tl.constexpr,
    LISTED: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    if OVERLAP:
        cuda.gdc_launch_dependents()
        cuda.gdc_wait()
    query = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    begin = tl.load(indptr + query)
    end = tl.load(indptr + query + 1)
    dim = tl.arange(0, BLOCK_D)
    acc = tl.zeros([BLOCK_D], tl.float32)
    top = float("-inf")
    total = 0.0
    for at in range(begin, end, BLOCK_P):
        i = at + tl.arange(0, BLOCK_P)
        inside = i < end
        part = tl.load(indices + i, mask=inside, other=0) if LISTED else i
        row = part.to(tl.int64) * heads + head
        weight = tl.load(parts_lse + row, mask=inside, other=float("-inf"))
        # A part that saw nothing has a log-sum-exp of -inf and whatever values.
        there = (weight > float("-inf"))[:, None] & (dim < D)[None, :]
        value = tl.load(parts + row[:, None] * D + dim[None, :], mask=there, other=0.0)
        now = tl.maximum(top, tl.max(weight, 0))
        base = tl.where(now == float("-inf"), 0.0, now)
        weight = tl.exp(weight - base)
        decay = tl.exp(top - base)
        acc = acc * decay + tl.sum(value * weight[:, None], 0)
        total = total * decay + tl.sum(weight, 0)
        top = now
    row = query * heads + head
    tl.store(lse + row, top + tl.log(total))
    acc = acc / tl.where(total == 0.0, 1.0, total)
    tl.store(out + row * D + dim, acc.to(out.dtype.element_ty), mask=dim < D)
