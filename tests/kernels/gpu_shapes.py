"""1,000 random shapes of every kernel against its float32 reference, on a GPU.

    PYTHONPATH=. python tests/kernels/gpu_shapes.py [--cases 1000] [--workers 12]

Workers are processes that share the GPU: most of the time goes to compiling the variants. With
compute-sanitizer, run few cases in one process:

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1 \\
        python tests/kernels/gpu_shapes.py --cases 14 --workers 0
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
import traceback
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import cases
from sglnb.kernels.items import Heads

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
SHAPES = [
    (Heads(14, 2, 64), BF16),
    (Heads(32, 8, 64), BF16),
    (Heads(32, 8, 128), BF16),
    (Heads(32, 8, 128), F16),
    (Heads(8, 8, 80), F16),
    (Heads(24, 8, 96), BF16),
    (Heads(8, 4, 256), BF16),
    (Heads(16, 1, 128), BF16),
    (Heads(14, 2, 64), F32),
    (Heads(32, 8, 128), F32),
    (Heads(8, 4, 256), F32),
]
WINDOWED = {0, 8}
"""Shapes that are tried with windows and soft caps, which are variants to compile."""
KINDS = [
    "extend", "decode", "cascade", "merge", "rotary", "rmsnorm", "silu", "sample", "small_linear",
    "expand",
]  # fmt: skip


def run(job: tuple[int, list[int]]) -> list[str]:
    """The cases with these seeds of one shape; what went wrong."""
    shape, seeds = job
    device = torch.device("cuda")
    heads, dtype = SHAPES[shape]
    limits = cases.Limits(device, dtype, heads, 24, 1500, 300, windows=shape in WINDOWED)
    failures = []
    for seed in seeds:
        rng = random.Random(seed)
        kind = KINDS[seed % len(KINDS)]
        try:
            if kind == "sample":
                vocab = rng.choice([5, 1000, 32000, 128256, 151936])
                cases.check_sample(rng, device, rng.randint(1, 24), vocab)
            else:
                getattr(cases, f"check_{kind}")(rng, limits)
        except Exception:  # recorded: the other cases go on
            what = traceback.format_exc(limit=-3)
            failures.append(f"{kind} {heads} {dtype} seed {seed}:\n{what}")
            if "CUDA error" in what or "illegal" in what:
                break  # this process can do no more
    return failures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=12)
    args = parser.parse_args()
    began = time.perf_counter()
    jobs = []
    for shape in range(len(SHAPES)):
        # Each shape goes through the kinds in turn.
        count = args.cases // len(SHAPES) + (shape < args.cases % len(SHAPES))
        jobs.append((shape, [shape * 100_003 + i for i in range(count)]))
    if args.workers:
        with multiprocessing.get_context("spawn").Pool(args.workers) as workers:
            done = list(workers.imap_unordered(run, jobs, chunksize=1))
    else:
        done = [run(job) for job in jobs]
    failures = [failure for some in done for failure in some]
    for failure in failures[:6]:
        print(failure)
    seconds = time.perf_counter() - began
    print(f"{args.cases} cases, {len(failures)} failed, {seconds:.0f} s")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
