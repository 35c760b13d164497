"""Attention by torch alone: the truth for the other backends, and the way on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..kv_cache import KVCache
from .base import AttentionBackend, Row
from .plan import Plan, make_plan

_flash_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class TorchAttention(AttentionBackend):
    """Scaled dot-product attention over views of the pool; see :mod:`.plan`."""

    def __init__(self, device: torch.device):
        self.device = device

    def plan(self, rows: list[Row]) -> Plan:
        return make_plan(rows, self.device)

    def attend(
        self,
        plan: Plan,
        layer: int,
        kv: KVCache,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
    ) -> torch.Tensor:
        kv.write(layer, plan.new_slots, k, v)
        if softcap or (window and any(row.start + row.count > window for row in plan.rows)):
            return _attend_rows(plan, layer, kv, q, scale, window, softcap)
        keys, values = kv.k[layer], kv.v[layer]
        heads = k.shape[1]
        out = _Merge(q, plan.merge)
        for segment in plan.segments:
            part = q[segment.queries]
            folded = _fold(part, heads)
            k_seg, v_seg = keys[segment.slots], values[segment.slots]
            o, lse = _sdpa(folded, k_seg.transpose(0, 1)[None], v_seg.transpose(0, 1)[None], scale)
            out.add(segment.queries, *_unfold(o, lse, part.shape))
        for start, stop in plan.causal:
            own = slice(start, stop)
            o, lse = _sdpa(*(x[own].transpose(0, 1)[None] for x in (q, k, v)), scale, causal=True)
            out.add(own, o[0].transpose(0, 1), lse[0].transpose(0, 1))
        if plan.scattered is not None:
            part = q[plan.scattered.queries]  # one query a row: [rows, heads, head size]
            rows, n_heads, dim = part.shape
            grouped = part.view(rows, heads, n_heads // heads, dim)
            o, lse = _sdpa(
                grouped,
                keys[plan.scattered.slots].transpose(1, 2),
                values[plan.scattered.slots].transpose(1, 2),
                scale,
                mask=plan.scattered.mask,
            )
            out.add(plan.scattered.queries, o.reshape(part.shape), lse.reshape(rows, n_heads))
        return out.result


class _Merge:
    """Partial attention results joined by their log-sum-exp."""

    def __init__(self, q: torch.Tensor, needed: bool):
        self.result = q
        self._lse: torch.Tensor | None = None
        if needed:
            self.result = torch.zeros_like(q)
            self._lse = torch.full(q.shape[:2], float("-inf"), device=q.device)

    def add(self, where: slice | torch.Tensor, o: torch.Tensor, lse: torch.Tensor) -> None:
        """Fold in ``o`` [n, heads, head size] with ``lse`` [n, heads] of the tokens ``where``."""
        if self._lse is None:  # the only part there is
            self.result = o
            return
        before = self._lse[where]
        both = torch.logaddexp(before, lse.to(before.dtype))
        old = torch.exp(before - both)[..., None].to(o.dtype)
        new = torch.exp(lse - both)[..., None].to(o.dtype)
        self.result[where] = self.result[where] * old + o * new
        self._lse[where] = both


def _fold(part: torch.Tensor, heads: int) -> torch.Tensor:
    """[n, heads * group, d] -> [1, heads, n * group, d]: all queries of a key head in a row."""
    n, n_heads, dim = part.shape
    grouped = part.unflatten(1, (heads, n_heads // heads))
    if n == 1:  # as it lies
        return grouped
    return grouped.transpose(0, 1).reshape(1, heads, n * (n_heads // heads), dim)


def _unfold(o: torch.Tensor, lse: torch.Tensor, shape: torch.Size):
    """Undo :func:`_fold` for a result and its log-sum-exp."""
    n, n_heads, dim = shape
    if n == 1:
        return o.reshape(shape), lse.reshape(1, n_heads)
    heads = o.shape[1]
    o = o.view(heads, n, n_heads // heads, dim).transpose(0, 1).reshape(n, n_heads, dim)
    lse = lse.view(heads, n, n_heads // heads).transpose(0, 1).reshape(n, n_heads)
    return o, lse


def _sdpa(q, k, v, scale, mask=None, causal=False):
    """(attention [b, heads, n, d], log-sum-exp [b, heads, n])."""
    if q.device.type == "cpu":
        mask = None if mask is None else mask.to(q.dtype)
        return _flash_cpu(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = (q.float() @ k.float().transpose(-1, -2)) * scale
    if mask is not None:
        scores = scores + mask
    if causal:
        n = scores.shape[-1]
        ahead = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(ahead, float("-inf"))
    lse = torch.logsumexp(scores, -1)
    return (torch.exp(scores - lse[..., None]) @ v.float()).to(q.dtype), lse


def _attend_rows(plan, layer, kv, q, scale, window, softcap):
    """Row by row with whole score matrices: for sliding windows and capped scores."""
    out, at = torch.empty_like(q), 0
    for row in plan.rows:
        stop = row.start + row.count
        slots = torch.tensor(row.slots[:stop], device=q.device)
        k, v = kv.k[layer][slots], kv.v[layer][slots]
        group = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(group, 1).transpose(0, 1).float() for x in (k, v))
        part = q[at : at + row.count].transpose(0, 1).float()
        scores = (part @ k.transpose(-1, -2)) * scale
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        query = torch.arange(row.start, stop, device=q.device)[:, None]
        key = torch.arange(stop, device=q.device)[None]
        hidden = key > query
        if window:
            hidden |= key <= query - window
        scores = scores.masked_fill(hidden, float("-inf"))
        o = F.softmax(scores, -1) @ v
        out[at : at + row.count] = o.transpose(0, 1).to(q.dtype)
        at += row.count
    return out
