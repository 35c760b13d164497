"""Causal attention of each row's new tokens over its paged prefix and themselves.

Source: FlashAttention-2 (Dao 2023) over a paged pool (vLLM, SGLang's extend attention), with the
query heads of a key head packed into one tile (FlashInfer) so that they share what is loaded.
Limit: 4 * head size FLOP for each (query, query head, key that it sees) at the tensor cores' rate.
"""

from __future__ import annotations

import torch

from ._device import uses_triton
from .attend import Scores, attend_reference, heads_of, launch
from .items import RowPlan
from .merge import merge_states


def extend_attention(
    plan: RowPlan,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    kv_indices: torch.Tensor,
    scores: Scores,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend; all keys and values, the new tokens' too, are in the pool.

    Args:
        plan: of these rows, filled. Its partial results are overwritten.
        q: [N, query heads, head size]; tokens may be apart, heads not.
        k, v: one layer's pool [slots, key heads, head size], contiguous.
        kv_indices: int32 [nnz] slot of every position of every row.
        scores: scale and soft cap.
        out: [N, query heads, head size] contiguous, of any float dtype; written.
        lse: [N, query heads] float32, natural logarithm; written.

    Returns:
        ``out``, ``lse``.
    """
    if not uses_triton(q):
        return extend_reference(plan, q, k, v, kv_indices, scores, out, lse)
    if heads_of(q, k) != plan.heads:
        raise ValueError(f"plan: made for {plan.heads}, got {heads_of(q, k)}")
    into = plan.partials if plan.split else None
    launch(
        q,
        k,
        v,
        plan.items,
        None,
        kv_indices,
        into.out if into else out,
        into.lse if into else lse,
        scores,
        plan.window,
        plan.block_m,
        plan.split,
    )
    if into:
        merge_states(into, plan.merge_indptr, None, out, lse)
    return out, lse


def extend_reference(
    plan: RowPlan,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    kv_indices: torch.Tensor,
    scores: Scores,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same row by row, in float32."""
    kv = plan.kv_indptr.tolist()
    qo = list(range(plan.rows + 1)) if plan.qo_indptr is None else plan.qo_indptr.tolist()
    for row in range(plan.rows):
        queries = slice(qo[row], qo[row + 1])
        slots = kv_indices[kv[row] : kv[row + 1]].long()
        count = qo[row + 1] - qo[row]
        own = torch.arange(len(slots) - count, len(slots), device=q.device)
        o, o_lse = attend_reference(q[queries], k[slots], v[slots], own, scores, plan.window)
        out[queries], lse[queries] = o.to(out.dtype), o_lse
    return out, lse
