"""Noise, filters and the sampler on bare tensors: distributions, and rows that ignore the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglnb.runtime.draw import DrawByKernel
from sglnb.runtime.filters import Filters, draw
from sglnb.runtime.noise import Noise, _exponential, _keys, _mix
from sglnb.runtime.report import Report
from sglnb.runtime.request import Request
from sglnb.runtime.sampler import Sampler
from sglnb.runtime.sampling_params import SamplingParams

CPU = torch.device("cpu")
DRAWS = 40_000


def chi_square(counts: np.ndarray, probs: np.ndarray) -> float:
    """How many standard deviations the statistic lies from its mean; bins under 5 are pooled."""
    expected = probs * counts.sum()
    small = expected < 5
    o = np.append(counts[~small], counts[small].sum())
    e = np.append(expected[~small], expected[small].sum())
    o, e = o[e > 0], e[e > 0]
    freedom = len(e) - 1
    return (((o - e) ** 2 / e).sum() - freedom) / (2 * freedom) ** 0.5


def reference_filter(probs: torch.Tensor, top_k: int, top_p: float, min_p: float) -> torch.Tensor:
    """One row, one token after the other; ties with the last one kept stay."""
    order = sorted(range(len(probs)), key=lambda i: -probs[i].item())
    kept, before = [], 0.0
    for rank, i in enumerate(order):
        p = probs[i].item()
        if rank and ((0 < top_k <= rank) or before >= top_p or p < min_p * probs.max().item()):
            break
        kept.append(p)
        before += p
    return torch.where(probs >= kept[-1], probs, 0.0)


def filters(rows: int, vocab: int, top_k: int, top_p: float, min_p: float) -> Filters:
    return Filters(
        torch.full((rows,), top_k if top_k > 0 else vocab),
        torch.full((rows,), top_p, dtype=torch.float64),
        torch.full((rows,), min_p),
    )


@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p"),
    [(-1, 1.0, 0.0), (5, 1.0, 0.0), (-1, 0.8, 0.0), (-1, 1.0, 0.1), (20, 0.9, 0.02)],
)
@pytest.mark.parametrize("along", ["positions", "seeds"])
def test_draws_follow_the_softmax(top_k, top_p, min_p, along):
    logits = torch.randn(64, generator=torch.Generator().manual_seed(3)) * 1.5
    probs = torch.softmax(logits, -1)
    want = reference_filter(probs, top_k, top_p, min_p)
    rows = probs.expand(DRAWS, -1)
    places = [(7, i) if along == "positions" else (i, 7) for i in range(DRAWS)]
    tokens = draw(rows, filters(DRAWS, 64, top_k, top_p, min_p), Noise(64, CPU), places)
    counts = np.bincount(tokens.numpy(), minlength=64)
    assert not counts[want.numpy() == 0].any()
    assert abs(chi_square(counts, (want / want.sum()).numpy())) < 4


def test_neighbouring_positions_and_seeds_are_independent():
    """Pairs of draws fill the square evenly."""
    noise, n = Noise(8, CPU), DRAWS
    even = torch.full((n, 8), 1 / 8)
    here = noise.race(even, [(5, i) for i in range(n)])
    for places in ([(5, i + 1) for i in range(n)], [(6, i) for i in range(n)]):
        pairs = here * 8 + noise.race(even, places)
        counts = np.bincount(pairs.numpy(), minlength=64)
        assert abs(chi_square(counts, np.full(64, 1 / 64))) < 4


def test_noise_is_exponential_and_the_same_everywhere():
    table = Noise(50_000, CPU)
    noise = _exponential(_mix(table.table, torch.tensor([_keys(3, 4)])))[0]
    assert noise.mean().item() == pytest.approx(1, abs=0.02)
    assert (noise > 3).double().mean().item() == pytest.approx(np.exp(-3), abs=0.003)
    assert noise.min() > 0
    # Written down: another machine, device or version of torch must give the same draws.
    flat = torch.full((6, 50_000), 1 / 50_000)
    assert table.race(flat, [(s, p) for s in (0, 1, 2**70) for p in (0, 9)]).tolist() == GOLDEN


GOLDEN = [6941, 2756, 19485, 22339, 27351, 44927]


@settings(max_examples=150, deadline=None)
@given(
    logits=st.lists(st.integers(-8, 8), min_size=2, max_size=40),
    top_k=st.sampled_from([-1, 1, 2, 7, 100]),
    top_p=st.sampled_from([1e-6, 0.3, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_filters_keep_what_the_reference_keeps(logits, top_k, top_p, min_p):
    """Whole numbers as logits: ties are frequent."""
    probs = torch.softmax(torch.tensor(logits, dtype=torch.float32), -1)
    want = reference_filter(probs, top_k, top_p, min_p)
    n = 300
    tokens = draw(
        probs.expand(n, -1),
        filters(n, len(logits), top_k, top_p, min_p),
        Noise(len(logits), CPU),
        [(1, i) for i in range(n)],
    )
    assert (want[tokens] > 0).all()


def test_candidates_and_whole_vocabulary_draw_alike(monkeypatch):
    """The short way (noise for the likeliest tokens only) is the long way."""
    noise = Noise(5000, CPU)
    probs = torch.softmax(torch.randn(60, 5000, generator=torch.Generator().manual_seed(0)), -1)
    places = [(i, 3) for i in range(60)]
    some = Filters(
        torch.tensor([5000, 40, 3000] * 20),
        torch.tensor([0.2, 1.0, 0.95, 0.99] * 15, dtype=torch.float64),
        torch.tensor([0.0, 0.3, 0.01, 0.0, 0.0] * 12),
    )
    short = draw(probs, some, noise, places)
    for width in (8, 5000):
        monkeypatch.setattr("sglnb.runtime.filters.WIDTH", width)
        assert torch.equal(draw(probs, some, noise, places), short)


def request(params: dict, ids: tuple[int, ...] = (1, 2, 3)) -> Request:
    out = Request(list(ids), SamplingParams.of(params))
    out.seed = params.get("seed", 0)
    return out


PARAMS = st.fixed_dictionaries(
    {"seed": st.integers(0, 2**80)},
    optional={
        "temperature": st.sampled_from([0, 0.3, 1.0, 2.5]),
        "top_k": st.sampled_from([1, 4, 50]),
        "top_p": st.sampled_from([0.5, 0.97]),
        "min_p": st.sampled_from([0.02, 0.4]),
        "repetition_penalty": st.sampled_from([0.7, 1.3]),
        "frequency_penalty": st.sampled_from([-1, 0.5]),
        "logit_bias": st.just({3: 2.0, "5": -1.5}),
    },
)


@settings(max_examples=40, deadline=None)
@given(asked=st.lists(PARAMS, min_size=2, max_size=12), data=st.data())
def test_a_row_draws_the_same_in_any_batch(asked, data):
    vocab = 1500
    sampler = Sampler(vocab, CPU)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    logits = torch.randn(len(asked), vocab, generator=generator) * 3
    together = sampler(logits.clone(), [request(p) for p in asked], [None] * len(asked))
    order = data.draw(st.permutations(range(len(asked))))
    rows = [request(asked[i]) for i in order]
    shuffled = sampler(logits[order].clone(), rows, [None] * len(asked))
    for at, i in enumerate(order):
        alone = sampler(logits[i : i + 1].clone(), [request(asked[i])], [None])[0]
        assert alone.token == together[i].token == shuffled[at].token


def test_the_same_seed_draws_the_same_token_when_the_mask_lets_it():
    """Noise belongs to the token, so a constraint changes only what it has to."""
    sampler = Sampler(64, CPU)
    logits = torch.randn(1, 64, generator=torch.Generator().manual_seed(1))
    for seed in range(30):
        free = sampler(logits.clone(), [request({"seed": seed})], [None])[0]
        words = np.full(2, -1, dtype=np.int32)
        words[1 - free.token // 32] = 0x0F0F0F0F  # the winner stays
        assert sampler(logits.clone(), [request({"seed": seed})], [words])[0].token == free.token


def by_kernel(vocab):
    """The sampler of a GPU; here the kernel's reference draws."""
    sampler = Sampler(vocab, CPU)
    sampler._draw = DrawByKernel(Noise(vocab, CPU))
    return sampler


@settings(max_examples=40, deadline=None)
@given(asked=st.lists(PARAMS, min_size=1, max_size=9), data=st.data())
def test_a_kernel_draws_the_same(asked, data):
    vocab = 1500
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    logits = torch.randn(len(asked), vocab, generator=generator) * 3
    masks = []
    for _ in asked:
        words = torch.randint(-(2**31), 2**31, (-(-vocab // 32),), generator=generator)
        words[-1] &= (1 << vocab % 32) - 1
        masks.append(data.draw(st.sampled_from([None, words.to(torch.int32).numpy()])))
    rows = [request(p) for p in asked]
    for one in rows:
        one.report, one.run = Report(return_logprob=True, top_logprobs_num=4), "a run"
    samplers = Sampler(vocab, CPU), by_kernel(vocab)
    found = [sampler(logits.clone(), rows, masks) for sampler in samplers]
    for one, other in zip(*found, strict=True):
        assert one.token == other.token
        assert one.top == other.top
        assert one.score.logprob == pytest.approx(other.score.logprob, abs=1e-5)
        assert (one.mass is None) == (other.mass is None)
        assert one.mass is None or one.mass == pytest.approx(other.mass, rel=1e-4)


@pytest.mark.parametrize("make", [lambda vocab: Sampler(vocab, CPU), by_kernel])
def test_broken_rows_fail_alone(make):
    sampler = make(16)
    logits = torch.zeros(5, 16)
    logits[0, 3] = float("nan")
    logits[1] = float("-inf")
    logits[2, 5] = float("inf")
    rows = [request({"seed": i, "temperature": i % 2}) for i in range(5)]
    out = sampler(logits, rows, [None, None, None, np.zeros(1, dtype=np.int32), None])
    for error in out[:3]:
        assert "logits are NaN or infinite" in str(error)
    assert "nothing is left to draw from" in str(out[3])
    assert 0 <= out[4].token < 16
    assert out[4].score.logprob == pytest.approx(-np.log(16))
