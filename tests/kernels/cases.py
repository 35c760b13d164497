"""Random cases for the kernels, for the interpreter's small shapes and a GPU's real ones.

Each ``check_*`` draws a case from ``rng``, poisons everything that must not be read or left
unwritten with NaN, runs the operation and its reference, and asserts that they agree.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import torch
from sglnb.kernels.attend import Scores
from sglnb.kernels.cascade import CascadePlan, Segments, cascade_attention, cascade_reference
from sglnb.kernels.decode import decode_attention, decode_plan
from sglnb.kernels.expand import expand_runs
from sglnb.kernels.extend import extend_attention, extend_reference
from sglnb.kernels.items import Heads, Partials, RowPlan
from sglnb.kernels.merge import merge_states, merge_states_reference
from sglnb.kernels.rmsnorm import add_rmsnorm, rmsnorm, rmsnorm_reference
from sglnb.kernels.rotary_write import rotary_write, rotary_write_reference
from sglnb.kernels.sample import SampleParams, SampleRoom, sample, sample_reference
from sglnb.kernels.silu_mul import silu_mul, silu_mul_reference
from sglnb.kernels.small_linear import MOST_ROWS, small_linear, small_linear_reference

# Relative error of a result: rounding of the output and, in half precision, of the weights.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 8e-3}


class Limits(NamedTuple):
    """How large cases may be, and where they run."""

    device: torch.device
    dtype: torch.dtype
    heads: Heads
    rows: int
    prefix: int
    new: int
    windows: bool = True


def distance(got: torch.Tensor, want: torch.Tensor) -> float:
    """Relative error in the Frobenius norm; NaN counts as infinite."""
    want = want.float()
    error = ((got.float() - want).norm() / want.norm().clamp(min=1e-6)).item()
    return error if error == error else float("inf")


def indptr(lengths: list[int], device: torch.device) -> torch.Tensor:
    """CSR offsets of ragged rows."""
    return torch.tensor([0, *np.cumsum(lengths).tolist()], dtype=torch.int32, device=device)


def pool(rng: random.Random, used: int, limits: Limits):
    """(k, v, kv_indices): ``used`` scattered slots of a pool; the others hold NaN."""
    slots = used + rng.randrange(20) + 1
    device, dtype, h = limits.device, limits.dtype, limits.heads
    shape = (slots, h.kv_heads, h.head_dim)
    k, v = (torch.full(shape, float("nan"), dtype=dtype, device=device) for _ in range(2))
    indices = torch.randperm(slots, device=device)[:used]
    k[indices] = torch.randn(used, *shape[1:], device=device).to(dtype)
    v[indices] = torch.randn(used, *shape[1:], device=device).to(dtype)
    return k, v, indices.int()


def queries(n: int, limits: Limits) -> torch.Tensor:
    """[n, query heads, head size], as a view of a wider projection."""
    h = limits.heads
    wide = torch.randn(n, h.q_heads + 2 * h.kv_heads, h.head_dim)
    return wide.to(limits.device, limits.dtype)[:, : h.q_heads]


def nans(*shape: int, like: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A tensor in which nothing is written yet."""
    return torch.full(shape, float("nan"), dtype=dtype or like.dtype, device=like.device)


def assert_close(out, lse, want, want_lse, dtype: torch.dtype) -> None:
    """Compare an attention with its float32 reference."""
    assert distance(out, want) < TOLERANCE[dtype], distance(out, want)
    seen = want_lse > float("-inf")
    assert torch.equal(seen, lse > float("-inf"))
    assert torch.allclose(lse[seen], want_lse[seen], atol=1e-3)


def _scores(rng: random.Random, limits: Limits) -> tuple[Scores, int | None]:
    softcap = rng.choice([None, None, 5.0]) if limits.windows else None
    window = rng.choice([None, None, 1, 17, 200]) if limits.windows else None
    return Scores(limits.heads.head_dim**-0.5, softcap), window


def check_extend(rng: random.Random, limits: Limits) -> None:
    """Rows of any number of new tokens, with or without a prefix, split or not."""
    torch.manual_seed(rng.randrange(2**31))
    rows = rng.randint(1, limits.rows)
    prefix = [rng.choice([0, rng.randint(0, limits.prefix)]) for _ in range(rows)]
    new = [rng.choice([0, 1, rng.randint(1, limits.new)]) for _ in range(rows)]
    new[rng.randrange(rows)] = rng.randint(1, limits.new)
    qo = indptr(new, limits.device)
    kv = indptr([a + b for a, b in zip(prefix, new, strict=True)], limits.device)
    k, v, indices = pool(rng, sum(prefix) + sum(new), limits)
    q = queries(sum(new), limits)
    scores, window = _scores(rng, limits)
    plan = RowPlan(
        rows,
        len(q),
        limits.heads,
        limits.device,
        programs=rng.choice([None, 1, 7, 30]),
        split=rng.choice([None, True]),
    ).fill(qo, kv, window)
    out, lse = nans(*q.shape, like=q), nans(*q.shape[:2], like=q, dtype=torch.float32)
    extend_attention(plan, q, k, v, indices, scores, out, lse)
    want, want_lse = torch.empty(q.shape), torch.empty(q.shape[:2])
    want, want_lse = want.to(q.device), want_lse.to(q.device)
    extend_reference(plan, q, k, v, indices, scores, want, want_lse)
    assert_close(out, lse, want, want_lse, limits.dtype)


def check_decode(rng: random.Random, limits: Limits) -> None:
    """One query a row; some rows are padding. The plan serves a second batch as well."""
    torch.manual_seed(rng.randrange(2**31))
    rows = rng.randint(1, limits.rows)
    plan = decode_plan(rows, limits.heads, limits.device, rng.choice([None, 1, 7, 30]))
    for _ in range(2):
        lengths = [rng.choice([0, 1, rng.randint(1, limits.prefix)]) for _ in range(rows)]
        lengths[rng.randrange(rows)] = rng.randint(1, limits.prefix)
        k, v, indices = pool(rng, sum(lengths), limits)
        q = queries(rows, limits)
        scores, window = _scores(rng, limits)
        plan.fill(None, indptr(lengths, limits.device), window)
        out, lse = nans(*q.shape, like=q), nans(*q.shape[:2], like=q, dtype=torch.float32)
        decode_attention(plan, q, k, v, indices, scores, out, lse)
        for row, length in enumerate(lengths):
            if length == 0:
                assert not out[row].any()
                assert (lse[row] == float("-inf")).all()
        # The reference knows rows of tokens only: those without keys are left out.
        real = [row for row, length in enumerate(lengths) if length]
        at = torch.tensor(real, device=q.device)
        one = RowPlan(len(real), len(real), limits.heads, limits.device, one_each=True)
        one.kv_indptr = indptr([lengths[row] for row in real], limits.device)
        one.window = plan.window
        want = torch.empty(q[at].shape, device=q.device)
        want_lse = torch.empty(want.shape[:2], device=q.device)
        extend_reference(one, q[at], k, v, indices, scores, want, want_lse)
        assert_close(out[at], lse[at], want, want_lse, limits.dtype)


def check_cascade(rng: random.Random, limits: Limits) -> None:
    """Segments with any readers, some of them a row's own causal tokens."""
    torch.manual_seed(rng.randrange(2**31))
    tokens = rng.randint(1, limits.rows)
    q = queries(tokens, limits)
    plan = None
    for _ in range(2):
        keys, readers, visible = [], [], []
        for _ in range(rng.randint(1, 4)):
            keys.append(rng.choice([1, rng.randint(1, limits.prefix)]))
            readers.append(rng.sample(range(tokens), rng.randint(1, tokens)))
            causal = rng.random() < 0.3
            visible.append(rng.randint(1, keys[-1]) if causal else keys[-1])
        k, v, indices = pool(rng, sum(keys), limits)
        segments = Segments(
            np.cumsum([0, *keys]),
            np.cumsum([0, *map(len, readers)]),
            np.concatenate(readers),
            np.array(visible) if rng.random() < 0.7 else None,
        )
        if plan is None:
            room = rng.choice([None, 1, 7, 30])
            plan = CascadePlan(tokens, limits.heads, limits.device, 4, 4 * tokens, room)
        plan.fill(segments)
        out, lse = nans(*q.shape, like=q), nans(*q.shape[:2], like=q, dtype=torch.float32)
        scores = Scores(limits.heads.head_dim**-0.5)
        cascade_attention(plan, q, k, v, indices, scores, out, lse)
        want = torch.empty(q.shape, device=q.device)
        want_lse = torch.empty(q.shape[:2], device=q.device)
        cascade_reference(segments, q, k, v, indices, scores, want, want_lse)
        assert_close(out, lse, want, want_lse, limits.dtype)


def check_merge(rng: random.Random, limits: Limits) -> None:
    """Any number of parts, some of which saw nothing and hold NaN."""
    torch.manual_seed(rng.randrange(2**31))
    n, parts = rng.randint(1, limits.rows), rng.randint(1, 60)
    h = limits.heads
    partials = Partials(torch.randn(parts, h.q_heads, h.head_dim), torch.randn(parts, h.q_heads))
    empty = torch.rand(parts, h.q_heads) < 0.3
    partials.lse[empty], partials.out[empty] = float("-inf"), float("nan")
    partials = Partials(partials.out.to(limits.device), partials.lse.to(limits.device))
    each = [rng.choice([0, 1, rng.randint(0, 40)]) for _ in range(n)]
    indices = torch.randint(0, parts, (sum(each),), dtype=torch.int32, device=limits.device)
    like = partials.out
    out = nans(n, h.q_heads, h.head_dim, like=like, dtype=limits.dtype)
    lse = nans(n, h.q_heads, like=like)
    want, want_lse = torch.empty_like(out, dtype=torch.float32), torch.empty_like(lse)
    merge_states(partials, indptr(each, limits.device), indices, out, lse)
    merge_states_reference(partials, indptr(each, limits.device), indices, want, want_lse)
    assert_close(out, lse, want, want_lse, limits.dtype)


def check_rotary(rng: random.Random, limits: Limits) -> None:
    """In place or not, with or without head norms; only the batch's slots are written."""
    torch.manual_seed(rng.randrange(2**31))
    h, n, places = limits.heads, rng.randint(1, limits.rows), 50
    heads = h.q_heads + 2 * h.kv_heads

    def random_(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(limits.device, limits.dtype)

    qkv = random_(n, heads * h.head_dim)
    cos, sin = random_(places, 1, h.head_dim), random_(places, 1, h.head_dim)
    positions = torch.randint(0, places, (n,), device=limits.device)
    slots = torch.randperm(n + 9)[:n].to(limits.device, rng.choice([torch.int32, torch.int64]))
    norm = (random_(h.head_dim), random_(h.head_dim), 1e-6) if rng.random() < 0.5 else None
    pools = [nans(n + 9, h.kv_heads, h.head_dim, like=qkv) for _ in range(4)]
    want = nans(n, h.q_heads, h.head_dim, like=qkv)
    table = (cos, sin, positions, slots)
    rotary_write_reference(qkv, *table, pools[0], pools[1], want, norm)
    inplace = rng.random() < 0.5
    out = qkv.view(n, heads, -1)[:, : h.q_heads] if inplace else torch.full_like(want, torch.nan)
    rotary_write(qkv, *table, pools[2], pools[3], out, norm)
    assert distance(out, want) < TOLERANCE[limits.dtype]
    at = slots.long()
    assert distance(pools[2][at], pools[0][at]) < TOLERANCE[limits.dtype]
    assert torch.equal(pools[3][at], pools[1][at])
    others = torch.ones(n + 9, dtype=torch.bool, device=limits.device)
    others[at] = False
    assert pools[2][others].isnan().all()
    assert pools[3][others].isnan().all()


def check_rmsnorm(rng: random.Random, limits: Limits) -> None:
    """Rows and heads, with and without the residual."""
    torch.manual_seed(rng.randrange(2**31))
    n, size = rng.randint(1, limits.rows), rng.choice([1, 48, 128, 896, 1000, 4096])

    def random_(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(limits.device, limits.dtype)

    x, weight, residual = random_(n, size), random_(size), random_(n, size)
    tolerance = TOLERANCE[limits.dtype]
    assert distance(rmsnorm(x, weight, 1e-5), rmsnorm_reference(x, weight, 1e-5)) < tolerance
    total = residual + x
    got = add_rmsnorm(x, residual, weight, 1e-5, out=x)
    assert torch.equal(residual, total)
    assert distance(got, rmsnorm_reference(total, weight, 1e-5)) < tolerance
    heads = queries(n, limits)
    weight = random_(limits.heads.head_dim)
    want = rmsnorm_reference(heads, weight, 1e-6)
    assert distance(rmsnorm(heads, weight, 1e-6), want) < tolerance


def check_silu(rng: random.Random, limits: Limits) -> None:
    """Rows that lie apart."""
    torch.manual_seed(rng.randrange(2**31))
    n, inner = rng.randint(1, limits.rows), rng.choice([1, 100, 1024, 4864])
    x = (torch.randn(n, 2 * inner + 8) * 4).to(limits.device, limits.dtype)[:, : 2 * inner]
    out = nans(n, inner, like=x)
    assert distance(silu_mul(x, out), silu_mul_reference(x)) < TOLERANCE[limits.dtype]


def check_expand(rng: random.Random, limits: Limits) -> None:
    """Runs of all lengths; what no run covers stays as it was."""
    runs, at = [], 0
    for _ in range(rng.randint(0, 12)):
        at += rng.choice([0, 0, 3])
        length = rng.choice([0, 1, 7, rng.randint(1, 20 if limits.rows < 10 else 9000)])
        runs.append([at, rng.randrange(10**6), length])
        at += length
    want = torch.full((at + 5,), -1, dtype=torch.int32)
    for first, number, length in runs:
        want[first : first + length] = torch.arange(number, number + length)
    unused = [[0, 5, 9]] * 3  # past the count
    table = torch.tensor(runs + unused, dtype=torch.int32, device=limits.device)
    count = torch.tensor([len(runs)], dtype=torch.int32, device=limits.device)
    out = torch.full(want.shape, -1, dtype=torch.int32, device=limits.device)
    assert torch.equal(expand_runs(table, count, out).cpu(), want)


def check_small_linear(rng: random.Random, limits: Limits) -> None:
    """One row or a few, and each of the steps around the product, against float32."""
    torch.manual_seed(rng.randrange(2**31))
    device, dtype = limits.device, limits.dtype
    rows = rng.choice([1, 1, rng.randint(2, MOST_ROWS)])
    n, k = rng.choice([1, 60, 896, 1152]), rng.choice([16, 80, 896, 2056])
    if limits.rows < 10:  # the interpreter
        n, k = rng.choice([1, 20]), rng.choice([16, 80])
    mode = rng.choice(["plain", "bias", "silu", "residual", "wide"])

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(device, dtype)

    x = draw(rows, k + 8)[:, :k]
    weight = draw(2 * n if mode == "silu" else n, k) * k**-0.5
    bias = draw(n) if mode == "bias" else None
    norm = (draw(k), 1e-5) if rng.random() < 0.5 else None
    residual = draw(rows, n) if mode == "residual" else None
    out = nans(rows, n, like=x, dtype=torch.float32) if mode == "wide" else None
    wide = [None if t is None else t.float() for t in (x, weight, bias, residual)]
    want = small_linear_reference(
        *wide[:3],
        norm=None if norm is None else (norm[0].float(), norm[1]),
        silu=mode == "silu",
        residual=wide[3],
    )
    got = small_linear(x, weight, bias, norm=norm, silu=mode == "silu", residual=residual, out=out)
    assert residual is None or got is residual
    assert distance(got, want) < 1.5 * TOLERANCE[dtype], (rows, n, k, mode, norm is not None)


def sample_case(rng: random.Random, device: torch.device, rows: int, vocab: int):
    """(logits, bits or None, params, table) of a random batch."""
    torch.manual_seed(rng.randrange(2**31))

    def pick(choices: list, dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor([rng.choice(choices) for _ in range(rows)], dtype=dtype)

    logits = torch.randn(rows, vocab) * rng.choice([0.05, 1.0, 3.0, 30.0])
    if rng.random() < 0.3:  # many ties
        logits = logits.round()
    bits = None
    if rng.random() < 0.5:
        bits = torch.randint(-(2**31), 2**31 - 1, (rows, -(-vocab // 32)), dtype=torch.int32)
        bits[:, 0] |= 1  # something is allowed
        bits = bits.to(device)
    top_ps = [1.0, 1.0, rng.uniform(0.01, 1), 0.9, 0.999]
    params = SampleParams(
        pick([0.0, 1.0, 0.7, 1.5, 0.05], torch.float32).to(device),
        pick([0, -1, 1, 2, 40, 1500, 10**6], torch.int32).to(device),
        pick(top_ps, torch.float64).to(device),
        pick([0.0, 0.0, 0.05, 1.0], torch.float32).to(device),
        torch.randint(-(2**63), 2**63 - 1, (rows, 2)).bitwise_or(torch.tensor([1, 0])).to(device),
    )
    table = torch.randint(-(2**63), 2**63 - 1, (vocab,)).to(device)
    return logits.to(device), bits, params, table


def check_sample(rng: random.Random, device: torch.device, rows: int, vocab: int) -> None:
    """The same token as the reference, in the batch and alone."""
    logits, bits, params, table = sample_case(rng, device, rows, vocab)
    room = SampleRoom(rows + 1, vocab, device)
    got = sample(logits, bits, params, table, room)
    want = sample_reference(logits, bits, params, table)
    assert torch.equal(got.tokens, want.tokens), (got.tokens, want.tokens, params)
    assert torch.allclose(got.logprobs, want.logprobs, atol=1e-3)
    assert torch.allclose(got.masses, want.masses, atol=1e-4)
    tokens = got.tokens.clone()
    i = rng.randrange(rows)
    one = slice(i, i + 1)
    alone = sample(
        logits[one],
        None if bits is None else bits[one],
        SampleParams(*(p[one] for p in params)),
        table,
        room,
    )
    assert torch.equal(alone.tokens, tokens[one])
