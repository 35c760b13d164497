"""Many requests with one long prefix: sglnb against transformers, in one run.

    python benchmarks/shared_prefix.py [--busy] [--requests 32] [--prefix 800] [--new 32]

Each side runs in a process of its own (so that peak memory is its own), on the same weights,
dtype and number of threads, and gets the same token ids. ``--busy`` keeps one core busy with
another process meanwhile, as a browser or the user's own cell would.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

MODEL = str(Path(__file__).resolve().parents[1] / "sglnb" / "assets" / "sgl-tiny")
SIDES = ("transformers, one by one", "transformers, padded batch", "sglnb", "sglnb, one by one")


def prompts(tokenizer, args) -> list[list[int]]:
    """One prefix of worked sums, cut to length, and a question of its own for each."""
    lines = [f"Question: What is {a} + {b}?\nAnswer: {a + b}\n" for a in range(40) for b in (3, 8)]
    prefix = tokenizer.encode("\n".join(lines))[: args.prefix]
    tails = [f"\nQuestion: What is {i} + {i + 7}?\nAnswer:" for i in range(args.requests)]
    return [prefix + tokenizer.encode(tail) for tail in tails]


def run_transformers(args, batched: bool) -> dict:
    """``generate`` on one prompt after another, or on all, padded on the left."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    model.generation_config.eos_token_id = None
    batch = prompts(tokenizer, args)
    options = {"do_sample": False, "max_new_tokens": args.new, "pad_token_id": 0}

    def generate(some: list[list[int]], **changed) -> list[list[int]]:
        longest = max(map(len, some))
        pad = [longest - len(p) for p in some]
        ids = torch.tensor([[0] * n + p for n, p in zip(pad, some, strict=True)])
        mask = torch.tensor([[0] * n + [1] * len(p) for n, p in zip(pad, some, strict=True)])
        out = model.generate(input_ids=ids, attention_mask=mask, **options | changed)
        return out[:, longest:].tolist()

    generate(batch[:1], max_new_tokens=4)
    began = time.perf_counter()
    outputs = generate(batch) if batched else [generate([p])[0] for p in batch]
    seconds = time.perf_counter() - began
    short = [batch[0][-12:]]
    generate(short)
    began = time.perf_counter()
    generate(short, max_new_tokens=args.stream)
    return {
        "seconds": seconds,
        "outputs": outputs,
        "single": (time.perf_counter() - began) / args.stream,
    }


def run_sglnb(args, together: bool) -> dict:
    """All at once from a cold cache, or one after another."""
    from sglnb.runtime import Engine
    from sglnb.runtime import engine as module

    module.most_threads = lambda: args.threads
    params = {"temperature": 0, "max_new_tokens": args.new, "ignore_eos": True}
    with Engine(MODEL, dtype="float32") as engine:
        batch = prompts(engine.tokenizer, args)
        engine.generate([[5, 6, 7]], params)
        engine.cache.flush()
        before = engine.metrics()
        began = time.perf_counter()
        if together:
            results = engine.generate(batch, params)
        else:
            results = [engine.generate(p, params) for p in batch]
        seconds = time.perf_counter() - began
        after = engine.metrics()
        engine.check()
        prompt, cached = (after[k] - before[k] for k in ("prompt_tokens", "cached_tokens"))
        short = batch[0][-12:]
        engine.generate([short], params)
        began = time.perf_counter()
        engine.generate(short, params | {"max_new_tokens": args.stream})
        single = (time.perf_counter() - began) / args.stream
    return {
        "seconds": seconds,
        "outputs": [r["output_ids"] for r in results],
        "single": single,
        "hit": cached / prompt,
    }


def run_side(side: str, args) -> dict:
    if side.startswith("transformers"):
        result = run_transformers(args, batched="batch" in side)
    else:
        result = run_sglnb(args, together="one by one" not in side)
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def burn() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--prefix", type=int, default=800)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--stream", type=int, default=128, help="tokens of the single stream")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--busy", action="store_true", help="keep one core busy meanwhile")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        json.dump(run_side(args.side, args), sys.stdout)
        return
    neighbour = multiprocessing.Process(target=burn, daemon=True)
    if args.busy:
        neighbour.start()
    results = {}
    for side in SIDES:
        print(f"  running: {side} ...", end="\r", file=sys.stderr)
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[side] = json.loads(done.stdout)
    if args.busy:
        neighbour.kill()
    report(results, args)


def report(results: dict, args) -> None:
    total = args.requests * args.new
    ours = results["sglnb"]
    print(
        f"{args.requests} requests, prefix {args.prefix} tokens, {args.new} new each, float32, "
        f"{args.threads} threads{', one core kept busy' if args.busy else ''}"
    )
    columns = ("tokens/s", "seconds", "ours is", "ms/token", "ours is", "peak MB")
    print(" " * 28 + "".join(f"{name:>10}" for name in columns))
    for side, result in results.items():
        print(
            f"{side:28}{total / result['seconds']:10.1f}{result['seconds']:10.2f}"
            f"{result['seconds'] / ours['seconds']:9.1f}x{result['single'] * 1e3:10.1f}"
            f"{result['single'] / ours['single']:9.2f}x{result['peak']:10.0f}"
        )
    print(
        f"(seconds: all requests; ms/token: one stream of {args.stream} tokens on a short prompt)"
    )
    print(f"hit rate {ours['hit']:.1%} of prompt tokens")
    reference = results["transformers, one by one"]["outputs"]
    same = sum(a == b for a, b in zip(reference, ours["outputs"], strict=True))
    print(f"{same} of {args.requests} outputs equal to transformers' token by token")


if __name__ == "__main__":
    main()
