"""The GPU kernels against what bounds them: bytes over the memory's bandwidth, or FLOP over the
matrix rate. Both ceilings are measured in the same run; the bandwidth is the best that a read or a
copy of several GB reaches.

    PYTHONPATH=. python benchmarks/gpu_kernels.py [--only decode extend ...] [--tiles]

Each time is a CUDA graph's replay over several layers' worth of different tensors, so that nothing
is found in the L2 cache that a model would not find there, divided by their number. ``--tiles``
tries other launch shapes than the built-in ones.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from sglnb.kernels import attend, cascade, items
from sglnb.kernels.attend import Scores, Tile
from sglnb.kernels.cascade import CascadePlan, Segments, cascade_attention
from sglnb.kernels.decode import decode_attention, decode_plan
from sglnb.kernels.extend import extend_attention
from sglnb.kernels.items import Heads, RowPlan
from sglnb.kernels.rmsnorm import add_rmsnorm
from sglnb.kernels.rotary_write import rotary_write
from sglnb.kernels.sample import SampleParams, SampleRoom, sample
from sglnb.kernels.silu_mul import silu_mul
from triton.runtime.errors import OutOfResources

GPU = torch.device("cuda")
BF16 = torch.bfloat16
SPREAD = 400 << 20
"""Bytes over which a benchmark spreads: several times the L2 cache."""


class Model(NamedTuple):
    heads: Heads
    hidden: int
    inner: int
    vocab: int


MODELS = {
    "Qwen2.5-0.5B": Model(Heads(14, 2, 64), 896, 4864, 151936),
    "Llama-3.2-1B": Model(Heads(32, 8, 64), 2048, 8192, 128256),
    "Llama-3-8B": Model(Heads(32, 8, 128), 4096, 14336, 128256),
}


class Line(NamedTuple):
    kernel: str
    model: str
    shape: str
    call: Callable[[int], object]
    """Runs layer i."""
    layers: int
    moved: float
    """Least bytes of a call."""
    flop: float


def graph_ms(call: Callable[[int], object], layers: int, replays: int = 20) -> float:
    """Milliseconds of a call: median of graph replays over ``layers`` calls."""
    for i in range(min(layers, 2)):
        call(i)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(layers):
            call(i)
    graph.replay()
    times = []
    for _ in range(replays):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return float(np.median(times)) / layers


@triton.jit
def read_kernel(x, out, BLOCK: tl.constexpr, STEPS: tl.constexpr):
    """Reads STEPS * BLOCK numbers and stores their sum."""
    at = tl.program_id(0).to(tl.int64) * (STEPS * BLOCK) + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for step in tl.static_range(STEPS):
        total += tl.load(x + at + step * BLOCK)
    tl.store(out + tl.program_id(0), tl.sum(total, 0))


def ceilings() -> tuple[float, float]:
    """(bytes/s of the memory, FLOP/s of a bf16 product of random data)."""
    x = torch.randn(1 << 29, device=GPU)
    y = torch.empty_like(x)
    reads = {
        # A kernel: copy_ in a graph is left to a copy engine, which is slower.
        "copy": graph_ms(lambda i: torch.neg(x, out=y), 4) / 2,
        "sum": graph_ms(lambda i: torch.sum(x, 0, out=y[0]), 4),
    }
    for block, steps, warps in [(1024, 8, 4), (2048, 4, 4), (4096, 4, 8), (4096, 8, 8)]:
        grid = (len(x) // (block * steps),)

        def read(i: int, grid=grid, block=block, steps=steps, warps=warps) -> None:
            read_kernel[grid](x, y, BLOCK=block, STEPS=steps, num_warps=warps)

        reads[f"read {block} x {steps}"] = graph_ms(read, 4)
    rates = {name: x.nbytes / ms * 1e3 for name, ms in reads.items()}
    print("TB/s:", ", ".join(f"{name} {rate / 1e12:.2f}" for name, rate in rates.items()))
    n = 8192
    a, b = torch.randn(2, n, n, device=GPU).to(BF16)
    out = torch.empty_like(a)
    return max(rates.values()), 2 * n**3 / graph_ms(lambda i: torch.mm(a, b, out=out), 4) * 1e3


def pools(heads: Heads, slots: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """(k, v [layers, slots, key heads, head size], layers)."""
    size = 4 * slots * heads.kv_heads * heads.head_dim
    layers = int(min(16, max(1, -(-SPREAD // size))))
    shape = (layers, slots, heads.kv_heads, heads.head_dim)
    k, v = (torch.randn(shape, device=GPU, dtype=BF16) for _ in range(2))
    return k, v, layers


def offsets(lengths: list[int]) -> torch.Tensor:
    return torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=GPU)


def decode_line(name: str, batch: int, context: int) -> Line:
    heads = MODELS[name].heads
    k, v, layers = pools(heads, batch * context)
    # Runs of 64 slots that lie anywhere, as a radix cache leaves them.
    order = torch.randperm(batch * context // 64, device=GPU)
    indices = (order[:, None] * 64 + torch.arange(64, device=GPU)).flatten().int()
    plan = decode_plan(batch, heads, GPU).fill(None, offsets([context] * batch))
    q = torch.randn(batch, heads.q_heads, heads.head_dim, device=GPU, dtype=BF16)
    out, lse = torch.empty_like(q), torch.empty(q.shape[:2], device=GPU)
    scores = Scores(heads.head_dim**-0.5)

    def call(i: int) -> None:
        decode_attention(plan, q, k[i], v[i], indices, scores, out, lse)

    shape = f"batch {batch}, context {context}"
    return Line("decode", name, shape, call, layers, (k.nbytes + v.nbytes) / layers, 0)


def extend_line(name: str, rows: int, new: int, prefix: int) -> Line:
    heads = MODELS[name].heads
    whole = new + prefix
    k, v, layers = pools(heads, rows * whole)
    indices = torch.arange(rows * whole, device=GPU, dtype=torch.int32)
    plan = RowPlan(rows, rows * new, heads, GPU)
    plan.fill(offsets([new] * rows), offsets([whole] * rows))
    q = torch.randn(rows * new, heads.q_heads, heads.head_dim, device=GPU, dtype=BF16)
    out, lse = torch.empty_like(q), torch.empty(q.shape[:2], device=GPU)
    scores = Scores(heads.head_dim**-0.5)

    def call(i: int) -> None:
        extend_attention(plan, q, k[i], v[i], indices, scores, out, lse)

    pairs = rows * (new * prefix + new * (new + 1) / 2)
    flop = 4 * heads.head_dim * heads.q_heads * pairs
    moved = (k.nbytes + v.nbytes) / layers + 2 * q.nbytes
    shape = f"{rows} x {new} new on {prefix}"
    return Line("extend", name, shape, call, layers, moved, flop)


def fork_lines(name: str, forks: int, prefix: int, own: int) -> Iterator[Line]:
    """The same step by cascade and by decode."""
    heads = MODELS[name].heads
    slots = prefix + forks * own
    k, v, layers = pools(heads, slots)
    layers = min(layers, 16)
    q = torch.randn(forks, heads.q_heads, heads.head_dim, device=GPU, dtype=BF16)
    out, lse = torch.empty_like(q), torch.empty(q.shape[:2], device=GPU)
    scores = Scores(heads.head_dim**-0.5)
    indices = torch.arange(slots, device=GPU, dtype=torch.int32)
    segments = Segments(
        np.cumsum([0, prefix, *[own] * forks]),
        np.cumsum([0, forks, *[1] * forks]),
        np.concatenate([np.arange(forks), np.arange(forks)]),
    )
    plan = CascadePlan(forks, heads, GPU, forks + 1, 2 * forks).fill(segments)
    rows = decode_plan(forks, heads, GPU).fill(None, offsets([prefix + own] * forks))
    tail = torch.arange(forks * own, device=GPU).view(forks, own) + prefix
    each = torch.cat([torch.arange(prefix, device=GPU).expand(forks, -1), tail], 1)
    each = each.flatten().int()
    moved = (k.nbytes + v.nbytes) / k.shape[0]
    shape = f"{forks} forks on {prefix} + {own}"

    def cascaded(i: int) -> None:
        cascade_attention(plan, q, k[i], v[i], indices, scores, out, lse)

    def decode(i: int) -> None:
        decode_attention(rows, q, k[i], v[i], each, scores, out, lse)

    yield Line("cascade", name, shape, cascaded, layers, moved, 0)
    yield Line("(decode)", name, shape, decode, layers, moved, 0)


def layer_lines(name: str, n: int) -> Iterator[Line]:
    """The element-wise kernels."""
    model = MODELS[name]
    heads = model.heads
    wide = (heads.q_heads + 2 * heads.kv_heads) * heads.head_dim
    layers = int(min(64, max(4, SPREAD // (4 * n * model.inner))))

    def random_(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=GPU, dtype=BF16)

    qkv, table = random_(layers, n, wide), random_(8192, heads.head_dim)
    k, v = (random_(layers, n + 64, heads.kv_heads, heads.head_dim) for _ in range(2))
    at = torch.arange(n, device=GPU)
    q = torch.empty(layers, n, heads.q_heads, heads.head_dim, device=GPU, dtype=BF16)

    def rotary(i: int) -> None:
        rotary_write(qkv[i], table, table, at, at, k[i], v[i], q[i])

    moved = 2 * qkv.nbytes / layers
    yield Line("rotary_write", name, f"{n} tokens", rotary, layers, moved, 0)
    x, residual, y = (random_(layers, n, model.hidden) for _ in range(3))
    weight = random_(model.hidden)

    def norm(i: int) -> None:
        add_rmsnorm(x[i], residual[i], weight, 1e-5, out=y[i])

    yield Line("add_rmsnorm", name, f"{n} tokens", norm, layers, 4 * x.nbytes / layers, 0)
    merged, activated = random_(layers, n, 2 * model.inner), random_(layers, n, model.inner)

    def silu(i: int) -> None:
        silu_mul(merged[i], activated[i])

    moved = 1.5 * merged.nbytes / layers
    yield Line("silu_mul", name, f"{n} tokens", silu, layers, moved, 0)


def sample_line(name: str, rows: int, kind: str) -> Line:
    """``kind``: greedy, plain, filtered, or flat: a
    top-p of 0.9 over logits that hardly differ; flat-k: the same with a top-k of 50."""
    vocab = MODELS[name].vocab
    layers = max(1, min(8, SPREAD // (4 * rows * vocab)))
    spread = 0.1 if kind.startswith("flat") else 3.0
    logits = torch.randn(layers, rows, vocab, device=GPU) * spread
    words = -(-vocab // 32)
    bits = torch.randint(-(2**31), 2**31 - 1, (rows, words), dtype=torch.int32, device=GPU)
    filtered = kind in ("filtered", "flat", "flat-k")

    def full(value: float, dtype: torch.dtype) -> torch.Tensor:
        return torch.full((rows,), value, dtype=dtype, device=GPU)

    params = SampleParams(
        full(0.0 if kind == "greedy" else 0.8, torch.float32),
        full(50 if kind in ("filtered", "flat-k") else 0, torch.int32),
        full(0.9 if filtered else 1.0, torch.float64),
        full(0.0, torch.float32),
        torch.randint(-(2**63), 2**63 - 1, (rows, 2), device=GPU) | 1,
    )
    table = torch.randint(-(2**63), 2**63 - 1, (vocab,), device=GPU)
    room = SampleRoom(rows, vocab, GPU)

    def call(i: int) -> None:
        sample(logits[i], bits, params, table, room)

    moved = logits.nbytes / layers + bits.nbytes
    return Line("sample", name, f"{rows} rows, {kind}", call, layers, moved, 0)


def lines(only: set[str]) -> Iterator[Line]:
    """All cases, each made when its turn comes."""
    for name in MODELS:
        if "decode" in only:
            for batch in (1, 8, 32, 128):
                for context in (1024, 2048, 8192):
                    yield decode_line(name, batch, context)
        if "extend" in only:
            cases = [(1, 2048, 0), (1, 8192, 0), (1, 2048, 6144), (8, 512, 512), (32, 4, 1024)]
            for rows, new, prefix in cases:
                yield extend_line(name, rows, new, prefix)
        if "cascade" in only:
            yield from fork_lines(name, 32, 4000, 64)
            yield from fork_lines(name, 128, 4000, 64)
        if "layer" in only:
            for n in (1, 32, 128, 8192):
                yield from layer_lines(name, n)
    if "sample" in only:
        for rows in (1, 8, 32, 128):
            for kind in ("greedy", "plain", "filtered", "flat", "flat-k"):
                yield sample_line("Qwen2.5-0.5B", rows, kind)


TILES = {
    "decode": [Tile(n, 4, stages) for n in (32, 64, 128) for stages in (3, 4, 5)]
    + [Tile(64, 2, 4), Tile(64, 8, 4)],
    "extend": [Tile(n, warps, s) for n in (64, 128) for warps in (4, 8) for s in (2, 3, 4)],
}
TILES["cascade"] = TILES["extend"]
CHUNKS = [(64, 2), (256, 2), (512, 2), (128, 1), (128, 4), (256, 4), (512, 4), (512, 8)]
"""(least chunk, waves) of a split."""
TILED = ("Qwen2.5-0.5B", "Llama-3-8B")


def tile_line(name: str, what: str, batch: int, context: int) -> Line:
    """A case for ``--tiles``."""
    if what == "decode":
        return decode_line(name, batch, context)
    if what == "extend":
        return extend_line(name, batch, 2048, context)
    return next(fork_lines(name, batch, context, 64))


def compile_tile(job: tuple[str, str, Tile]) -> None:
    """Bring one variant into Triton's cache on disk."""
    name, what, tile = job
    attend.tile_for = lambda *_: tile
    with contextlib.suppress(OutOfResources):
        tile_line(name, what, 32 if what == "cascade" else 1, 64).call(0)
        torch.cuda.synchronize()


def tiles(memory: float, rate: float) -> None:
    """Other launch shapes for the attention kernel, and other chunks."""
    built_in, least = attend.tile_for, (items.LEAST_CHUNK, items.WAVES)
    jobs = [(name, what, tile) for what in TILES for tile in TILES[what] for name in TILED]
    with multiprocessing.get_context("spawn").Pool(14) as workers:
        workers.map(compile_tile, jobs, chunksize=1)
    for name in TILED:
        for what, batch, context in [
            ("decode", 1, 8192),
            ("decode", 32, 1024),
            ("decode", 32, 8192),
            ("extend", 1, 6144),
            ("cascade", 32, 4000),
        ]:
            results: list[tuple[float, str]] = []
            line = tile_line(name, what, batch, context)
            built = graph_ms(line.call, line.layers) * 1e3
            for tile in TILES[what]:
                attend.tile_for = lambda *_, tile=tile: tile
                with contextlib.suppress(OutOfResources):
                    results.append((graph_ms(line.call, line.layers) * 1e3, str(tuple(tile))))
            attend.tile_for = built_in
            for chunk, waves in CHUNKS if what != "extend" else []:
                items.LEAST_CHUNK = cascade.LEAST_CHUNK = chunk
                items.WAVES = cascade.WAVES = waves
                line = tile_line(name, what, batch, context)
                us = graph_ms(line.call, line.layers) * 1e3
                results.append((us, f"chunk {chunk} waves {waves}"))
            items.LEAST_CHUNK, items.WAVES = least
            cascade.LEAST_CHUNK, cascade.WAVES = least
            limit = max(line.moved / memory, line.flop / rate) * 1e6
            print(f"{name} {line.kernel} {line.shape}: limit {limit:.1f}, built in {built:.1f} us")
            print("   ", ", ".join(f"{how} {us:.1f}" for us, how in sorted(results)), flush=True)


def main() -> None:
    kinds = ["decode", "extend", "cascade", "layer", "sample"]
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", choices=kinds, default=kinds)
    parser.add_argument("--tiles", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    memory, rate = ceilings()
    print(f"memory {memory / 1e12:.2f} TB/s, bf16 product {rate / 1e12:.0f} TFLOP/s")
    if args.tiles:
        tiles(memory, rate)
        return
    head = ("kernel", "model", "shape", "us", "limit us", "of limit")
    print("{:<13}{:<14}{:<26}{:>9}{:>10}{:>10}".format(*head))
    for line in lines(set(args.only)):
        us = graph_ms(line.call, line.layers) * 1e3
        limit = max(line.moved / memory, line.flop / rate) * 1e6
        share = f"{limit / us:.0%}"
        row = (line.kernel, line.model, line.shape, us, limit, share)
        print("{:<13}{:<14}{:<26}{:>9.1f}{:>10.1f}{:>10}".format(*row), flush=True)
        del line


if __name__ == "__main__":
    main()
