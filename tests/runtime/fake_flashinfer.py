"""What we use of FlashInfer, in plain torch: the same calls, shapes and log-sum-exp to base 2. It
shows that the tables mean what the library takes them to mean; its kernels are tested on a GPU."""

from __future__ import annotations

import math

import torch


class _Wrapper:
    def __init__(self, workspace, layout, **options):
        assert layout == "NHD"
        self.fixed = options.get("use_cuda_graph", False)
        self.buffers = [
            options[name]
            for name in options
            if name.startswith(("qo_indptr", "paged_kv")) and self.fixed
        ]

    def _keep(self, qo, kv, indices, last, shape, options):
        if self.fixed:  # what a replay sees are the buffers alone
            values = [qo, kv, indices, last][-len(self.buffers) :]
            for buffer, value in zip(self.buffers, values, strict=True):
                buffer[: len(value)].copy_(value)
            assert all(
                len(b) == len(v)
                for b, v in zip(self.buffers, values, strict=True)
                if v is not indices
            )
        self.qo, self.kv, self.indices, self.last = qo, kv, indices, last
        self.shape, self.options = shape, options

    def run(self, q, pages, return_lse=False):
        heads, kv_heads, size, page = self.shape
        assert tuple(q.shape[1:]) == (heads, size)
        assert len(q) == self.qo[-1]
        out = torch.full(q.shape, float("nan"))
        lse = torch.full(q.shape[:2], float("nan"))
        k_pages, v_pages = pages
        assert k_pages.shape[1:] == (page, kv_heads, size)
        for i, last in enumerate(self.last.tolist()):
            start, stop = self.qo[i : i + 2].tolist()
            at = self.indices[self.kv[i] : self.kv[i + 1]].long()
            length = max(0, len(at) - 1) * page + last
            k, v = k_pages[at].flatten(0, 1)[:length], v_pages[at].flatten(0, 1)[:length]
            k, v = (x.repeat_interleave(heads // kv_heads, 1).double() for x in (k, v))
            scores = torch.einsum("qhd,khd->qhk", q[start:stop].double(), k)
            scores = scores * self.options["sm_scale"]
            if self.options["logits_soft_cap"]:
                cap = self.options["logits_soft_cap"]
                scores = cap * torch.tanh(scores / cap)
            query = torch.arange(length - (stop - start), length)[:, None, None]
            key = torch.arange(length)[None, None]
            hidden = torch.zeros(stop - start, 1, length, dtype=torch.bool)
            if self.causal:
                hidden |= key > query
            if self.options["window_left"] >= 0:
                hidden |= key < query - self.options["window_left"]
            scores = scores.masked_fill(hidden, float("-inf"))
            norm = scores.logsumexp(-1) if length else torch.full(scores.shape[:2], -math.inf)
            lse[start:stop] = norm / math.log(2)
            probs = torch.exp(scores - norm[..., None])
            out[start:stop] = torch.einsum("qhk,khd->qhd", probs, v)
        return (out.to(q.dtype), lse) if return_lse else out.to(q.dtype)


class BatchPrefillWithPagedKVCacheWrapper(_Wrapper):
    def plan(self, qo, kv, indices, last, *shape, causal, **options):
        self.causal = causal
        self._keep(qo, kv, indices, last, shape, options)


class BatchDecodeWithPagedKVCacheWrapper(_Wrapper):
    causal = False

    def plan(self, kv, indices, last, *shape, **options):
        self._keep(torch.arange(len(last) + 1), kv, indices, last, shape, options)


def merge_state(v_a, s_a, v_b, s_b):
    """Two partial results joined."""
    s = torch.logaddexp2(s_a, s_b)
    a, b = torch.exp2(s_a - s)[..., None], torch.exp2(s_b - s)[..., None]
    return (v_a * a + v_b * b).to(v_a.dtype), s


def merge_state_in_place(v, s, v_other, s_other):
    """The same into ``v`` and ``s``."""
    merged, lse = merge_state(v, s, v_other, s_other)
    v.copy_(merged)
    s.copy_(lse)
