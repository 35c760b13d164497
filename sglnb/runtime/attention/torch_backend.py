"""Attention by torch alone: the truth for the other backends, and the way on a CPU."""

from __future__ import annotations

import torch

from ..kv_cache import KVCache
from .base import AttentionBackend, Row, Scoring
from .local import LocalPlan, make_local_plan
from .plan import Plan, make_plan

_flash_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class TorchAttention(AttentionBackend):
    """Scaled dot-product attention over views of the pool; see :mod:`.plan`."""

    name = "torch"

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
        k: torch.Tensor | None,
        v: torch.Tensor | None,
        scoring: Scoring,
    ) -> torch.Tensor:
        if k is None:
            k, v = kv.k[layer][plan.new_slots], kv.v[layer][plan.new_slots]
        else:
            kv.write(layer, plan.new_slots, k, v)
        keys, values = kv.k[layer], kv.v[layer]
        if scoring.window is not None and scoring.window >= plan.longest:
            scoring = scoring._replace(window=None)
        if scoring.softcap or scoring.window is not None:
            out = self._local(plan, keys, values, q, scoring)
        else:
            out = self._whole(plan, keys, values, q, k, v, scoring)
        if scoring.sinks is not None:  # a key without a value takes its share of the sum, no more
            out.add(slice(None), torch.zeros_like(q), scoring.sinks.expand(q.shape[:2]))
        return out.result

    def _whole(self, plan, keys, values, q, k, v, scoring: Scoring) -> _Merge:
        """Each query sees all that is before it."""
        heads, scale = k.shape[1], scoring.scale
        out = _Merge(q, plan.merge or scoring.sinks is not None)
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
            self._scattered(plan.scattered, keys, values, q, scoring, out)
        return out

    def _local(self, plan, keys, values, q, scoring: Scoring) -> _Merge:
        """Windows and capped scores; see :mod:`.local`."""
        window = scoring.window
        if window not in plan.local:
            plan.local[window] = make_local_plan(plan.rows, window, self.device)
        local: LocalPlan = plan.local[window]
        parts = len(local.blocks) + (local.scattered is not None)
        out = _Merge(q, parts > 1 or scoring.sinks is not None)
        for block in local.blocks:
            part = q[block.queries].transpose(0, 1)[None]
            k, v = (x[block.slots].transpose(0, 1)[None] for x in (keys, values))
            mask = block.mask[None, None]
            o, lse = _sdpa(part, k, v, scoring.scale, mask, softcap=scoring.softcap)
            out.add(block.queries, o[0].transpose(0, 1), lse[0].transpose(0, 1))
        if local.scattered is not None:
            self._scattered(local.scattered, keys, values, q, scoring, out)
        return out

    @staticmethod
    def _scattered(scattered, keys, values, q, scoring: Scoring, out: _Merge) -> None:
        """One query a row, each over its own padded slots."""
        part = q[scattered.queries]  # [rows, query heads, head size]
        rows, n_heads, dim = part.shape
        heads = keys.shape[1]
        o, lse = _sdpa(
            part.view(rows, heads, n_heads // heads, dim),
            keys[scattered.slots].transpose(1, 2),
            values[scattered.slots].transpose(1, 2),
            scoring.scale,
            mask=scattered.mask,
            softcap=scoring.softcap,
        )
        out.add(scattered.queries, o.reshape(part.shape), lse.reshape(rows, n_heads))


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


def _sdpa(q, k, v, scale, mask=None, causal=False, softcap=None):
    """(attention [b, heads, n, d], log-sum-exp [b, heads, n])."""
    if q.device.type == "cpu" and not softcap:
        mask = None if mask is None else mask.to(q.dtype)
        return _flash_cpu(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)
    b, n_heads, n, dim = q.shape
    heads, length = k.shape[1:3]
    # All query heads of a key head in one product; [b, heads, group, n, length] in float32.
    grouped = q.reshape(b, heads, n_heads // heads * n, dim).float()
    scores = (grouped @ k.float().transpose(-1, -2)).mul_(scale)
    if softcap:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    scores = scores.view(b, heads, n_heads // heads, n, length)
    if mask is not None:
        scores = scores + mask[:, :, None]
    if causal:
        ahead = torch.ones(n, length, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(ahead, float("-inf"))
    lse = torch.logsumexp(scores, -1)
    probs = torch.exp(scores - lse[..., None]).view(b, heads, -1, length)
    return (probs @ v.float()).view(q.shape).to(q.dtype), lse.view(b, n_heads, n)
