"""The Triton kernel of :mod:`.rotary_write`. One program handles BLOCK_H heads of one token. Heads
are handled as two halves, because the rotation pairs element i with element i + D / 2."""

import triton
import triton.language as tl
from triton.language.extra import cuda


@triton.jit
def rotary_write_kernel(
    qkv,
    cos,
    sin,
    positions,
    slots,
    q_norm,
    k_norm,
    q_out,
    k_pool,
    v_pool,
    eps,
    qkv_stride,
    q_stride,
    kv_stride,
    Q_HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    D: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_H: tl.constexpr,
    NORM: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    if OVERLAP:
        cuda.gdc_launch_dependents()
        cuda.gdc_wait()
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    half = tl.arange(0, HALF)
    there = (head < Q_HEADS + 2 * KV_HEADS)[:, None] & (half < D // 2)[None, :]
    place = head[:, None] * D + half[None, :]
    low = tl.load(qkv + token * qkv_stride + place, mask=there, other=0.0)
    high = tl.load(qkv + token * qkv_stride + place + D // 2, mask=there, other=0.0)

    is_q = (head < Q_HEADS)[:, None]
    is_v = (head >= Q_HEADS + KV_HEADS)[:, None]
    dtype = low.dtype
    a, b = low.to(tl.float32), high.to(tl.float32)
    if NORM:  # rounded before the weight
        squares = tl.sum(a * a, 1) + tl.sum(b * b, 1)
        factor = tl.rsqrt(squares / D + eps)[:, None]
        inside = half < D // 2
        q_low = tl.load(q_norm + half, mask=inside, other=0.0).to(tl.float32)[None, :]
        q_high = tl.load(q_norm + half + D // 2, mask=inside, other=0.0).to(tl.float32)[None, :]
        k_low = tl.load(k_norm + half, mask=inside, other=0.0).to(tl.float32)[None, :]
        k_high = tl.load(k_norm + half + D // 2, mask=inside, other=0.0).to(tl.float32)[None, :]
        a = (a * factor).to(dtype).to(tl.float32) * tl.where(is_q, q_low, k_low)
        b = (b * factor).to(dtype).to(tl.float32) * tl.where(is_q, q_high, k_high)
        a, b = a.to(dtype).to(tl.float32), b.to(dtype).to(tl.float32)
    position = tl.load(positions + token).to(tl.int64)
    inside = half < D // 2
    c_low = tl.load(cos + position * D + half, mask=inside, other=0.0).to(tl.float32)[None, :]
    c_high = tl.load(cos + position * D + half + D // 2, mask=inside, other=0.0)
    s_low = tl.load(sin + position * D + half, mask=inside, other=0.0).to(tl.float32)[None, :]
    s_high = tl.load(sin + position * D + half + D // 2, mask=inside, other=0.0)
    c_high, s_high = c_high.to(tl.float32)[None, :], s_high.to(tl.float32)[None, :]
    # The first product is rounded, as in torch's two steps.
    new_low = ((a * c_low).to(dtype).to(tl.float32) + b * s_low).to(dtype)
    new_high = ((b * c_high).to(dtype).to(tl.float32) + a * s_high).to(dtype)

    to_q = q_out + token * q_stride + place
    tl.store(to_q, new_low, mask=there & is_q)
    tl.store(to_q + D // 2, new_high, mask=there & is_q)
    slot = tl.load(slots + token).to(tl.int64)
    to_k = k_pool + slot * kv_stride + place - Q_HEADS * D
    tl.store(to_k, new_low, mask=there & ~is_q & ~is_v)
    tl.store(to_k + D // 2, new_high, mask=there & ~is_q & ~is_v)
    to_v = v_pool + slot * kv_stride + place - (Q_HEADS + KV_HEADS) * D
    tl.store(to_v, low, mask=there & is_v)
    tl.store(to_v + D // 2, high, mask=there & is_v)
