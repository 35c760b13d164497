"""The Triton kernel behind extend, decode and cascade attention.

One program computes one work item (see :mod:`.items`) for one key head: a tile of up to BLOCK_M
rows, each a (query, query head of the key head) pair, over a range of keys, with the online
softmax of FlashAttention. All query heads of a key head share the loaded keys and values. Scores
are kept in units of log2, because the hardware has exp2.
"""

import triton
import triton.language as tl
from triton.language.extra import cuda

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _over_keys(
    acc,
    top,
    total,
    q,
    k,
    v,
    kv_indices,
    begin,
    stop,
    end,
    own,
    scale,
    softcap,
    window,
    kv_stride,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    MASKED: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
):
    """Fold the keys begin <= i < stop, BLOCK_N at a time, into the softmax state.

    acc: weighted values; top: largest score; total: sum of weights, of each row. MASKED: some
    keys lie past ``end`` or are hidden from some rows.
    """
    dim = tl.arange(0, BLOCK_D)
    for at in range(begin, stop, BLOCK_N):
        key = at + tl.arange(0, BLOCK_N)
        if MASKED:
            inside = key < end
            slot = tl.load(kv_indices + key, mask=inside, other=0).to(tl.int64)
            # Masked values load as 0: a slot that was never written may hold NaN.
            there = inside[:, None] & (dim < D)[None, :]
            keys = tl.load(k + slot[:, None] * kv_stride + dim[None, :], mask=there, other=0.0)
            values = tl.load(v + slot[:, None] * kv_stride + dim[None, :], mask=there, other=0.0)
        else:
            slot = tl.load(kv_indices + key).to(tl.int64)
            place = slot[:, None] * kv_stride + dim[None, :]
            if D == BLOCK_D:
                keys = tl.load(k + place)
                values = tl.load(v + place)
            else:
                keys = tl.load(k + place, mask=(dim < D)[None, :], other=0.0)
                values = tl.load(v + place, mask=(dim < D)[None, :], other=0.0)
        scores = tl.dot(q, tl.trans(keys), input_precision="tf32x3")
        if SOFTCAP:
            # tanh(x) = 1 - 2 / (exp(2 x) + 1), sound where exp overflows.
            doubled = tl.exp2(scores * (2 * LOG2E * scale / softcap))
            scores = (softcap * LOG2E) * (1 - 2 / (doubled + 1))
        else:
            scores = scores * (scale * LOG2E)
        if MASKED:
            seen = inside[None, :] & (key[None, :] <= own[:, None])
            if WINDOW:
                seen = seen & (key[None, :] > (own - window)[:, None])
            scores = tl.where(seen, scores, float("-inf"))
        now = tl.maximum(top, tl.max(scores, 1))
        # Rows that saw nothing yet have -inf.
        base = tl.where(now == float("-inf"), 0.0, now) if MASKED else now
        weights = tl.exp2(scores - base[:, None])
        decay = tl.exp2(top - base)
        total = total * decay + tl.sum(weights, 1)
        acc = acc * decay[:, None]
        acc = tl.dot(weights.to(values.dtype), values, acc, input_precision="tf32x3")
        top = now
    return acc, top, total


@triton.jit(do_not_specialize=["items_used"])
def attend_kernel(
    q,
    k,
    v,
    items,
    queries,
    kv_indices,
    out,
    lse,
    scale,
    softcap,
    window,
    items_used,
    q_stride,
    kv_stride,
    G: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    LISTED: tl.constexpr,
    SPLIT: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    if OVERLAP:
        cuda.gdc_launch_dependents()
        cuda.gdc_wait()
    head = tl.program_id(0)
    heads = tl.num_programs(0) * G
    # The last items of a causal row read the most keys: they start first.
    item = items + (items_used - 1 - tl.program_id(1)) * 8
    count = tl.load(item + 1)
    if count == 0:
        return
    first = tl.load(item)
    tile = tl.load(item + 2)
    begin = tl.load(item + 3)
    end = tl.load(item + 4)
    own_first = tl.load(item + 5)
    part = tl.load(item + 6)
    parts = tl.load(item + 7)

    packed = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    j = packed // G
    valid = j < count
    own = own_first + j  # each query's own key
    query = tl.load(queries + first + j, mask=valid, other=0) if LISTED else first + j
    q_head = head * G + packed % G
    dim = tl.arange(0, BLOCK_D)
    there = valid[:, None] & (dim < D)[None, :]
    place = query.to(tl.int64)[:, None] * q_stride + q_head[:, None] * D + dim[None, :]
    q_tile = tl.load(q + place, mask=there, other=0.0)

    nearest = own_first + tile * BLOCK_M // G  # the own key of the tile's first query
    farthest = own_first + tl.minimum(count - 1, ((tile + 1) * BLOCK_M - 1) // G)
    end = tl.minimum(end, farthest + 1)
    if WINDOW:
        begin = tl.maximum(begin, nearest - window + 1)
        whole = begin  # windows are masked throughout
    else:
        # Up to here every query sees every key.
        open_keys = tl.maximum(tl.minimum(end, nearest + 1) - begin, 0)
        whole = begin + open_keys // BLOCK_N * BLOCK_N
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    k += head * D
    v += head * D
    if not WINDOW:
        acc, top, total = _over_keys(
            acc, top, total, q_tile, k, v, kv_indices, begin, whole, end, own, scale, softcap,
            window, kv_stride, D, BLOCK_D, BLOCK_N, False, WINDOW, SOFTCAP,
        )  # fmt: skip
    acc, top, total = _over_keys(
        acc, top, total, q_tile, k, v, kv_indices, whole, end, end, own, scale, softcap,
        window, kv_stride, D, BLOCK_D, BLOCK_N, True, WINDOW, SOFTCAP,
    )  # fmt: skip

    row = part + j * parts if SPLIT else query
    row = row.to(tl.int64) * heads + q_head
    tl.store(lse + row, (top + tl.log2(total)) * LN2, mask=valid)
    acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(out + row[:, None] * D + dim[None, :], acc.to(out.dtype.element_ty), mask=there)
