"""Rotary position embedding of queries and keys, and the write of keys and values into the pool.

Source: RoFormer (Su et al. 2021), halves rotated as GPT-NeoX does. Optionally the heads of queries
and keys are normed first (Qwen3). Limit: bytes; the merged projection is read once, and queries,
keys and values are written once.
"""

from __future__ import annotations

import torch

from ._device import overlap, uses_triton
from .items import Heads
from .rmsnorm import rmsnorm_reference

BLOCK_H = 8
"""Heads a program handles."""


def rotary_write(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
    slots: torch.Tensor,
    k_pool: torch.Tensor,
    v_pool: torch.Tensor,
    q_out: torch.Tensor,
    norm: tuple[torch.Tensor, torch.Tensor, float] | None = None,
) -> torch.Tensor:
    """Rotate a batch's queries and keys and store its keys and values.

    Args:
        qkv: [N, (query heads + 2 * key heads) * head size], the merged projection; rows may be
            apart.
        cos, sin: [positions, head size] (or [positions, 1, head size]); the first half of ``sin``
            negated, so that ``x * cos + swap_halves(x) * sin`` is the rotation.
        positions: [N] int32 or int64.
        slots: [N] int32 or int64, all different: where each token's keys and values go.
        k_pool, v_pool: one layer's pool [slots, key heads, head size], contiguous; written.
        q_out: [N, query heads, head size], heads contiguous; written. It may be the queries' part
            of ``qkv`` itself.
        norm: (query norm weight [head size], key norm weight [head size], eps) of an RMSNorm over
            each head before the rotation.

    Returns:
        ``q_out``.

    Raises:
        ValueError: ``qkv`` does not fit the heads.
    """
    heads = Heads(q_out.shape[1], k_pool.shape[1], k_pool.shape[2])
    wide = (heads.q_heads + 2 * heads.kv_heads) * heads.head_dim
    if qkv.shape[1] != wide:
        raise ValueError(f"qkv: must be [N, {wide}], got {tuple(qkv.shape)}")
    if not uses_triton(qkv):
        return rotary_write_reference(qkv, cos, sin, positions, slots, k_pool, v_pool, q_out, norm)
    import triton

    from ._rotary_triton import rotary_write_kernel

    total = heads.q_heads + 2 * heads.kv_heads
    q_norm, k_norm, eps = norm or (cos, cos, 0.0)
    rotary_write_kernel[(len(qkv), triton.cdiv(total, BLOCK_H))](
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
        qkv.stride(0),
        q_out.stride(0),
        k_pool.stride(0),
        Q_HEADS=heads.q_heads,
        KV_HEADS=heads.kv_heads,
        D=heads.head_dim,
        HALF=triton.next_power_of_2(heads.head_dim // 2),
        BLOCK_H=BLOCK_H,
        NORM=norm is not None,
        num_warps=2,
        **overlap(qkv),
    )
    return q_out


def rotary_write_reference(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
    slots: torch.Tensor,
    k_pool: torch.Tensor,
    v_pool: torch.Tensor,
    q_out: torch.Tensor,
    norm: tuple[torch.Tensor, torch.Tensor, float] | None = None,
) -> torch.Tensor:
    """The same by torch operations."""
    heads = Heads(q_out.shape[1], k_pool.shape[1], k_pool.shape[2])
    split = [heads.q_heads, heads.kv_heads, heads.kv_heads]
    q, k, v = qkv.unflatten(1, (-1, heads.head_dim)).split(split, 1)
    if norm is not None:
        q, k = rmsnorm_reference(q, norm[0], norm[2]), rmsnorm_reference(k, norm[1], norm[2])
    c, s = (t.reshape(-1, 1, heads.head_dim)[positions] for t in (cos, sin))
    q, k = (x * c + (x.roll(heads.head_dim // 2, -1).float() * s.float()) for x in (q, k))
    k_pool[slots.long()] = k.to(k_pool.dtype)
    v_pool[slots.long()] = v.to(v_pool.dtype)
    return q_out.copy_(q)
