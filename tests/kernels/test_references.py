"""The kernels' references against the engine's own arithmetic, which the GPU must not change."""

from __future__ import annotations

import random

import cases
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sglnb.kernels.attend import Scores
from sglnb.kernels.extend import extend_attention
from sglnb.kernels.items import Heads, RowPlan
from sglnb.kernels.rmsnorm import add_rmsnorm, rmsnorm
from sglnb.kernels.rotary_write import rotary_write
from sglnb.kernels.sample import sample

from sglnb.runtime import filters, noise
from sglnb.runtime.attention import Row, Scoring, TorchAttention
from sglnb.runtime.kv_cache import KVCache
from sglnb.runtime.models.llama import _rotate

CPU = torch.device("cpu")
rngs = st.randoms(use_true_random=False)


@given(rng=rngs)
@settings(max_examples=30, deadline=None)
def test_attention_equals_the_torch_backend(rng):
    torch.manual_seed(rng.randrange(1000))
    heads = Heads(4, 2, 16)
    rows, at = [], 0
    for _ in range(rng.randint(1, 4)):
        start, count = rng.randint(0, 30), rng.choice([1, rng.randint(1, 9)])
        slots = list(range(at, at + start + count))
        rows.append(Row(start, count, slots, [(at, at + start + count)]))
        at += start + count
    kv = KVCache(1, at, heads.kv_heads, heads.head_dim, torch.float32, CPU)
    kv.k.normal_()
    kv.v.normal_()
    n = sum(row.count for row in rows)
    q, k, v = (torch.randn(n, h, heads.head_dim) for h in (4, 2, 2))
    backend = TorchAttention(CPU)
    softcap, window = rng.choice([None, 3.0]), rng.choice([None, 5])
    want = backend.attend(backend.plan(rows), 0, kv, q, k, v, Scoring(0.25, window, softcap))
    qo = cases.indptr([row.count for row in rows], CPU)
    lengths = cases.indptr([row.start + row.count for row in rows], CPU)
    plan = RowPlan(len(rows), n, heads, CPU).fill(qo, lengths, window)
    indices = torch.tensor([slot for row in rows for slot in row.slots], dtype=torch.int32)
    out, lse = torch.empty_like(q), torch.empty(n, heads.q_heads)
    extend_attention(plan, q, kv.k[0], kv.v[0], indices, Scores(0.25, softcap), out, lse)
    assert torch.allclose(out, want, atol=1e-5)


def test_decode_and_cascade_agree_with_extend():
    # Their references run: on a CPU that is what the operations themselves are.
    limits = cases.Limits(CPU, torch.float32, Heads(4, 2, 16), 5, 60, 9)
    for seed in range(5):
        for check in (cases.check_extend, cases.check_decode, cases.check_cascade):
            check(random.Random(seed), limits)


def test_rotary_write_equals_the_models_two_steps():
    torch.manual_seed(0)
    qkv, cos, sin = torch.randn(7, 8, 16), torch.randn(40, 1, 16), torch.randn(40, 1, 16)
    at, slots = torch.randint(0, 40, (7,)), torch.randperm(20)[:7]
    pools, q = torch.zeros(2, 20, 2, 16), torch.empty(7, 4, 16)
    rotary_write(qkv.flatten(1), cos, sin, at, slots, pools[0], pools[1], q)
    want = _rotate(qkv[:, :6], cos[at], sin[at])
    assert torch.allclose(q, want[:, :4], atol=1e-6)
    assert torch.allclose(pools[0, slots], want[:, 4:], atol=1e-6)
    assert torch.equal(pools[1, slots], qkv[:, 6:])


def test_rmsnorm_against_float64():
    torch.manual_seed(0)
    x, residual, weight = torch.randn(3, 50), torch.randn(3, 50), torch.randn(50)
    wide = (x + residual).double()
    want = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5) * weight
    assert torch.allclose(add_rmsnorm(x, residual, weight, 1e-5), want.float(), atol=1e-5)
    assert torch.allclose(rmsnorm(residual, weight, 1e-5), want.float(), atol=1e-5)


@given(rng=rngs)
@settings(max_examples=30, deadline=None)
def test_draws_equal_the_engines(rng):
    rows, vocab = rng.randint(1, 5), rng.choice([40, 3000])
    logits, bits, params, _ = cases.sample_case(rng, CPU, rows, vocab)
    places = [(rng.randrange(2**40), rng.randrange(10**5)) for _ in range(rows)]
    table = noise.Noise(vocab, CPU).table
    params = params._replace(keys=torch.tensor([noise._keys(*place) for place in places]))
    got = sample(logits, bits, params, table).tokens
    if bits is not None:
        allowed = np.unpackbits(bits.numpy().view(np.uint8), axis=1, bitorder="little")
        logits = logits.masked_fill(~torch.from_numpy(allowed[:, :vocab]).bool(), float("-inf"))
    greedy = params.temperature == 0
    probs = torch.softmax(logits / params.temperature.masked_fill(greedy, 1.0)[:, None], -1)
    top_k = torch.where(params.top_k > 0, params.top_k, vocab).long()
    asked = filters.Filters(top_k, params.top_p, params.min_p)
    want = filters.draw(probs, asked, noise.Noise(vocab, CPU), places)
    assert torch.equal(got, torch.where(greedy, logits.argmax(-1), want))
