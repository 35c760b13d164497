"""The GPU backends against the torch one in float32, on batches of real shapes."""

from __future__ import annotations

import random

import pytest
import torch

from sglnb.runtime.attention import Row, Scoring, TorchAttention
from sglnb.runtime.attention.choose import make_attention, obstacle
from sglnb.runtime.graphs import fill
from sglnb.runtime.kv_cache import KVCache
from sglnb.runtime.pool import runs_of
from sglnb.runtime.progress import Progress

pytestmark = pytest.mark.gpu
SLOTS = 65_536


def batch(rng, page, shared, decode):
    """Rows on scattered runs of pages, some of which begin with the same ``shared`` slots."""
    free = list(range(SLOTS // 1024))
    rng.shuffle(free)
    free = [slot for block in free for slot in range(block * 1024, block * 1024 + 1024)]
    prefix, free = free[:shared], free[shared:]
    rows = []
    for i in range(rng.choice([1, 3, 9, 33])):
        length = rng.randrange(1, 1500)
        taken = -(-length // page) * page
        own, free = free[:taken], free[taken:]
        slots = (prefix if i % 4 else []) + own
        stop = len(slots) - (taken - length)
        count = 1 if decode or rng.random() < 0.5 else rng.randrange(1, length + 1)
        rows.append(Row(stop - count, count, slots, runs_of(slots)))
    return rows


LIMITS = {"plain": (None, None), "window": (300, None), "softcap": (None, 20.0)}


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("page", [1, 16])
@pytest.mark.parametrize("heads", [(14, 2, 64), (32, 8, 128)], ids=["14/2x64", "32/8x128"])
@pytest.mark.parametrize("name", ["flashinfer", "triton"])
def test_attend_equals_torch(name, heads, page, limits):
    device, dtype = torch.device("cuda"), torch.bfloat16
    why = obstacle(name, device, dtype, heads[2])
    if why is not None:
        pytest.skip(f"attention={name!r} {why}")
    rng = random.Random(f"{heads} {page} {limits}")
    q_heads, kv_heads, size = heads
    backend = make_attention(name, device, dtype, size, page, 1, Progress())
    backend.least = 8192
    truth = TorchAttention(device)
    torch.manual_seed(0)
    kv = KVCache(1, SLOTS, kv_heads, size, dtype, device)
    kv.k.normal_(), kv.v.normal_()
    wide = KVCache(1, SLOTS, kv_heads, size, torch.float32, device)
    plans, scoring = {}, Scoring(size**-0.5, *LIMITS[limits])
    for trial in range(8):
        decode = trial % 2 == 0
        rows = batch(rng, page, rng.choice([0, 640, 4800]), decode)
        if decode:  # as a captured step does
            order, groups, padded = fill(rows, kv.spare, page, backend.least)
            key = len(padded), bool(groups)
            if key not in plans:
                plans[key] = backend.fixed_plan(*key)
            plan = plans[key]
            backend.refill(plan, padded, groups)
            rows, n = [rows[i] for i in order], len(padded)
        else:
            plan, n = backend.plan(rows), sum(row.count for row in rows)
        merged = torch.randn(n, q_heads + 2 * kv_heads, size, dtype=dtype, device=device)
        q, k, v = merged.split([q_heads, kv_heads, kv_heads], 1)
        out = backend.attend(plan, 0, kv, q, k, v, scoring)
        wide.k.copy_(kv.k), wide.v.copy_(kv.v)
        n = sum(row.count for row in rows)
        q, k, v = (x[:n].float() for x in (q, k, v))
        want = truth.attend(truth.plan(rows), 0, wide, q, k, v, scoring)
        error = (out[:n].float() - want).norm() / want.norm()
        assert error < 6e-3, f"trial {trial}: {error:.2e}"
