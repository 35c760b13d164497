"""The torch backend's plan against whole score matrices."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglnb.runtime.attention import Row, Scoring, TorchAttention, local
from sglnb.runtime.attention import plan as planning
from sglnb.runtime.kv_cache import KVCache
from sglnb.runtime.pool import runs_of

HEADS, GROUP, DIM, SLOTS = 2, 3, 8, 400


def reference(q, k_all, v_all, row, window=None, softcap=None, sinks=None):
    """Softmax over a whole score matrix in float64. q [n, heads, d], k_all [positions, ...]."""
    q, k, v = q.double(), k_all.double(), v_all.double()
    k, v = k.repeat_interleave(GROUP, 1), v.repeat_interleave(GROUP, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * DIM**-0.5
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    at = torch.arange(row.start, row.start + row.count)[:, None]
    key = torch.arange(k.shape[0])[None]
    hidden = key > at
    if window:
        hidden |= key <= at - window
    scores = scores.masked_fill(hidden, float("-inf"))
    if sinks is not None:  # one more key, whose value is nothing
        sink = sinks.double()[:, None, None].expand(-1, len(q), 1)
        scores = torch.cat([scores, sink], -1)
    probs = scores.softmax(-1)[..., : k.shape[0]]
    return torch.einsum("hqk,khd->qhd", probs, v)


@st.composite
def batches(draw):
    """Rows that share a prefix (as the tree hands it out) and then go their own ways, on slots
    that are contiguous or scattered."""
    prefix = draw(st.integers(0, 140))
    scattered = draw(st.booleans())
    free = list(range(SLOTS))
    if scattered:
        free = torch.randperm(SLOTS, generator=torch.Generator().manual_seed(7)).tolist()
    shared, free = free[:prefix], free[prefix:]
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        own = draw(st.integers(1, 30))
        count = draw(st.sampled_from([1, own]))
        slots, free = shared + free[:own], free[own:]
        rows.append(Row(prefix + own - count, count, slots, runs_of(slots)))
    return rows


@settings(max_examples=80, deadline=None)
@given(
    rows=batches(),
    limits=st.sampled_from([(None, None), (5, None), (None, 4.0), (9, 4.0), (150, None)]),
    with_sinks=st.booleans(),
    block=st.sampled_from([1, 7, 128]),
    least=st.sampled_from([1, 16, 128, 512]),
)
def test_attend_equals_reference(rows, limits, with_sinks, block, least):
    torch.manual_seed(len(rows))
    limits = (*limits, torch.randn(HEADS * GROUP) if with_sinks else None)
    kv = KVCache(1, SLOTS, HEADS, DIM, torch.float32, torch.device("cpu"))
    # Slots that no row owns were never written: their garbage must not leak.
    used = torch.tensor(sorted({slot for row in rows for slot in row.slots}))
    kv.k.fill_(float("nan"))[:, used] = torch.randn(1, len(used), HEADS, DIM)
    kv.v.fill_(float("nan"))[:, used] = torch.randn(1, len(used), HEADS, DIM)
    n = sum(row.count for row in rows)
    q = torch.randn(n, HEADS * GROUP, DIM)
    k, v = torch.randn(n, HEADS, DIM), torch.randn(n, HEADS, DIM)
    backend = TorchAttention(torch.device("cpu"))
    with patch.object(planning, "MIN_SEGMENT", least), patch.object(local, "BLOCK", block):
        plan = backend.plan(rows)
        out = backend.attend(plan, 0, kv, q, k, v, Scoring(DIM**-0.5, *limits))
    at = 0
    for row in rows:
        slots = torch.tensor(row.slots)
        new = slice(at, at + row.count)
        assert torch.equal(kv.k[0][slots[row.start :]], k[new]), "new keys are in the pool"
        want = reference(q[new], kv.k[0][slots], kv.v[0][slots], row, *limits)
        torch.testing.assert_close(out[new].double(), want, rtol=1e-4, atol=1e-5)
        at += row.count


def test_a_shared_prefix_is_read_once():
    prefix = list(range(200))
    rows = []
    for i in range(4):
        slots = [*prefix, 300 + i]
        rows.append(Row(200, 1, slots, runs_of(slots)))
    plan = planning.make_plan(rows, torch.device("cpu"))
    assert [s.slots for s in plan.segments] == [slice(0, 200)]
    assert plan.segments[0].queries == slice(0, 4)
    assert plan.scattered.slots.tolist() == [[300], [301], [302], [303]]


def test_forks_of_a_fork_share_both_parts():
    trunk, left = list(range(150)), list(range(150, 450))
    slots = [[*trunk, *left, 510], [*trunk, *left, 511], [*trunk, 512], [*trunk, 513]]
    rows = [Row(len(s) - 1, 1, s, runs_of(s)) for s in slots]
    plan = planning.make_plan(rows, torch.device("cpu"))
    assert [(s.slots, s.queries) for s in plan.segments] == [
        (slice(0, 150), slice(0, 4)),
        (slice(150, 450), slice(0, 2)),
    ]


@pytest.mark.parametrize("count", [1, 40])
def test_one_request_alone_is_read_without_copies(count):
    slots = list(range(40))
    plan = planning.make_plan([Row(40 - count, count, slots, runs_of(slots))], torch.device("cpu"))
    assert plan.scattered is None
    assert not plan.merge


def test_a_window_reads_only_what_it_lets_through():
    slots = list(range(1000))
    rows = [Row(500, 500, slots, runs_of(slots)), Row(399, 1, slots[:400], runs_of(slots[:400]))]
    plan = local.make_local_plan(rows, 64, torch.device("cpu"))
    assert [len(block.slots) for block in plan.blocks] == [63 + 128, 63 + 128, 63 + 128, 63 + 116]
    assert plan.blocks[0].slots[0] == 500 - 63
    assert plan.scattered.slots.tolist() == [list(range(336, 400))]
    assert plan.scattered.queries.tolist() == [500]
