"""Random small cases of every kernel against its float32 reference; see tests/kernels/cases.py."""

from __future__ import annotations

import random

import cases
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sglnb.kernels import sample as sampling
from sglnb.kernels.bitmask import apply_bitmask, apply_bitmask_reference
from sglnb.kernels.items import Heads

few = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
rngs = st.randoms(use_true_random=False)
heads = st.sampled_from(
    [Heads(1, 1, 16), Heads(2, 1, 64), Heads(4, 2, 16), Heads(3, 1, 80), Heads(20, 1, 16)]
)


def limits(device: torch.device, heads: Heads, **sizes: int) -> cases.Limits:
    return cases.Limits(
        device, torch.float32, heads, **({"rows": 4, "prefix": 200, "new": 24} | sizes)
    )


@few
@given(rng=rngs, heads=heads)
def test_extend(device, rng, heads):
    cases.check_extend(rng, limits(device, heads, rows=3))


@few
@given(rng=rngs, heads=heads)
def test_decode(device, rng, heads):
    cases.check_decode(rng, limits(device, heads))


@few
@given(rng=rngs, heads=heads)
def test_cascade(device, rng, heads):
    cases.check_cascade(rng, limits(device, heads, rows=8))


@few
@given(rng=rngs, heads=heads)
def test_merge(device, rng, heads):
    cases.check_merge(rng, limits(device, heads))


@settings(few, max_examples=10)
@given(rng=rngs, heads=heads)
def test_rotary_write(device, rng, heads):
    cases.check_rotary(rng, limits(device, heads))


@settings(few, max_examples=10)
@given(rng=rngs, heads=heads)
def test_rmsnorm(device, rng, heads):
    cases.check_rmsnorm(rng, limits(device, heads))


@settings(few, max_examples=10)
@given(rng=rngs, heads=heads)
def test_silu_mul(device, rng, heads):
    cases.check_silu(rng, limits(device, heads))


@settings(few, max_examples=20)
@given(rng=rngs, heads=heads)
def test_expand(device, rng, heads):
    cases.check_expand(rng, limits(device, heads))


@settings(few, max_examples=20)
@given(rng=rngs, heads=heads)
def test_small_linear(device, rng, heads):
    cases.check_small_linear(rng, limits(device, heads))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("check", [cases.check_rotary, cases.check_rmsnorm, cases.check_silu])
def test_half_precision_rounds_as_the_reference(device, check, dtype):
    if dtype == torch.bfloat16 and device.type == "cpu":
        pytest.skip("Triton's interpreter truncates to bfloat16 instead of rounding")
    check(random.Random(3), cases.Limits(device, dtype, Heads(4, 2, 64), 3, 0, 0))


@few
@given(rng=rngs, rows=st.integers(1, 3), vocab=st.sampled_from([2, 33, 4096, 4100, 9000]))
def test_sample(device, rng, rows, vocab):
    cases.check_sample(rng, device, rows, vocab)


@pytest.mark.parametrize("checks", [1, 2])
def test_sample_finished_by_one_program(device, monkeypatch, checks):
    monkeypatch.setattr(sampling, "CHECKS", checks)
    monkeypatch.setattr(sampling, "PROGRAMS", 1)  # several blocks a program
    for seed in range(6):
        cases.check_sample(random.Random(seed), device, 2, 9000)


def test_sample_where_a_large_vocabulary_ties(device):
    vocab = 2**17 + 99
    params = cases.sample_case(random.Random(0), device, 1, 8)[2]
    params = params._replace(
        temperature=torch.ones(1, device=device),
        top_k=torch.full((1,), 2, dtype=torch.int32, device=device),
    )
    logits = torch.zeros(1, vocab, device=device)
    table = torch.randint(-(2**63), 2**63 - 1, (vocab,)).to(device)
    got = sampling.sample(logits, None, params, table)
    assert torch.equal(got.tokens, sampling.sample_reference(logits, None, params, table).tokens)


@pytest.mark.parametrize(
    ("rows", "vocab"), [(1, 1), (1, 31), (3, 32), (2, 33), (2, 4096), (3, 5000)]
)
def test_bitmask(device, rows, vocab):
    bits = torch.randint(-(2**31), 2**31 - 1, (rows, -(-vocab // 32)), dtype=torch.int32)
    logits, bits = torch.randn(rows, vocab, device=device), bits.to(device)
    want = apply_bitmask_reference(logits.clone(), bits)
    assert torch.equal(apply_bitmask(logits, bits), want)
