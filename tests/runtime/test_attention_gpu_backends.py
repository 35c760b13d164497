"""The GPU backends' tables, cascades and fixed plans on a CPU: flashinfer's kernels are stood in
for by torch, ours by their references."""

from __future__ import annotations

import sys

import fake_flashinfer
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_attention import DIM, GROUP, HEADS, reference
from test_attention_tables import paged

from sglnb.runtime.attention import (
    Row,
    Scoring,
    TorchAttention,
    flashinfer_backend,
    triton_backend,
)
from sglnb.runtime.attention.choose import make_attention
from sglnb.runtime.attention.flashinfer_backend import FlashInferAttention
from sglnb.runtime.attention.triton_backend import TritonAttention
from sglnb.runtime.graphs import fill
from sglnb.runtime.kv_cache import KVCache
from sglnb.runtime.progress import Progress

CPU = torch.device("cpu")
SLOTS = 160 * 16


@pytest.fixture(params=["flashinfer", "triton"])
def make(monkeypatch, request):
    monkeypatch.setitem(sys.modules, "flashinfer", fake_flashinfer)
    monkeypatch.setattr(flashinfer_backend, "WORKSPACE", 1)
    monkeypatch.setattr(FlashInferAttention, "capacity", 1 << 15)
    monkeypatch.setattr(flashinfer_backend, "SAVED", 1)
    monkeypatch.setattr(triton_backend, "SAVED", 1)
    monkeypatch.setattr(TritonAttention, "capacity", 1 << 15)
    if request.param == "triton":
        return lambda page: TritonAttention(CPU, 1)
    return lambda page: FlashInferAttention(CPU, page, 1, Progress())


def filled_cache(rows):
    kv = KVCache(1, SLOTS, HEADS, DIM, torch.float32, CPU)
    used = torch.tensor(sorted({slot for row in rows for slot in row.slots}))
    for part in (kv.k, kv.v):
        part.fill_(float("nan"))[:, used] = torch.randn(1, len(used), HEADS, DIM)
    return kv


def compare(rows, out, q, k, kv, limits):
    at = 0
    for row in rows:
        slots = torch.tensor(row.slots[: row.start + row.count])
        new = slice(at, at + row.count)
        assert torch.equal(kv.k[0][slots[row.start :]], k[new]), "new keys are in the pool"
        want = reference(q[new], kv.k[0][slots], kv.v[0][slots], row, *limits)
        torch.testing.assert_close(out[new].double(), want, rtol=1e-4, atol=1e-5)
        at += row.count


reuse = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@reuse
@given(case=paged, limits=st.sampled_from([(None, None), (5, None), (None, 4.0), (9, 4.0)]))
def test_attend_equals_reference(make, case, limits):
    page, rows = case
    torch.manual_seed(len(rows))
    backend, kv = make(page), filled_cache(rows)
    n = sum(row.count for row in rows)
    for _ in range(2):  # the second time on wrappers that were used before
        q = torch.randn(n, HEADS * GROUP, DIM)
        k, v = torch.randn(n, HEADS, DIM), torch.randn(n, HEADS, DIM)
        out = backend.attend(backend.plan(rows), 0, kv, q, k, v, Scoring(DIM**-0.5, *limits))
        compare(rows, out, q, k, kv, limits)


@reuse
@given(cases=st.lists(paged, min_size=2, max_size=3), window=st.sampled_from([None, 5]))
def test_a_fixed_plan_serves_one_step_after_another(make, cases, window):
    """As a replayed graph: the same plan, refilled with other rows of the same number."""
    page = cases[0][0]
    steps = [[Row(len(r.slots) - 1, 1, r.slots, r.runs) for r in rows] for p, rows in cases]
    steps = [rows for (p, _), rows in zip(cases, steps, strict=True) if p == page]
    backend, plans = make(page), {}
    for rows in steps:
        kv = filled_cache(rows)
        order, groups, padded = fill(rows, kv.spare, page, backend.least)
        key = len(padded), bool(groups)
        if key not in plans:
            plans[key] = backend.fixed_plan(*key)
        backend.refill(plans[key], padded, groups)
        q = torch.randn(len(padded), HEADS * GROUP, DIM)
        k, v = torch.randn(len(padded), HEADS, DIM), torch.randn(len(padded), HEADS, DIM)
        out = backend.attend(plans[key], 0, kv, q, k, v, Scoring(DIM**-0.5, window))
        rows = [rows[i] for i in order]
        n = len(rows)
        compare(rows, out[:n], q[:n], k[:n], kv, (window, None))


def test_sinks(make):
    """Ours take them into account, flashinfer's refuse."""
    backend, kv = make(1), KVCache(1, 8, HEADS, DIM, torch.float32, CPU)
    torch.manual_seed(1)
    q, k = torch.randn(1, HEADS * GROUP, DIM), torch.randn(1, HEADS, DIM)
    rows, sinks = [Row(0, 1, [3], [(3, 4)])], torch.randn(HEADS * GROUP)
    arguments = 0, kv, q, k, k, Scoring(1.0, sinks=sinks)
    if backend.name == "flashinfer":
        with pytest.raises(ValueError, match="attention='triton' or 'torch'"):
            backend.attend(backend.plan(rows), *arguments)
        return
    want = TorchAttention(CPU)
    torch.testing.assert_close(
        backend.attend(backend.plan(rows), *arguments), want.attend(want.plan(rows), *arguments)
    )


@pytest.mark.parametrize("name", ["flashinfer", "triton"])
def test_a_backend_that_needs_a_gpu_says_so(name):
    with pytest.raises(ValueError, match=f"attention: '{name}' needs a CUDA device"):
        make_attention(name, CPU, torch.bfloat16, 64, 1, 1, Progress())


def test_auto_on_a_cpu_is_torch():
    assert make_attention("auto", CPU, torch.float32, 64, 1, 1, Progress()).name == "torch"
