"""What tree and scheduler cost, in percent of the time, on the shared-prefix benchmark.

    python benchmarks/overhead.py [--models sgl-tiny qwen2-0.5b] [--requests 32] [--new 32]

Timed are the calls that the engine makes: the scheduler's decision for each step (with lookups,
locks, slots and eviction) and what puts KV in the tree or gives it back, their events included.
The attention plan of each step, which is worked out from the slots, is told beside it. All
times are the engine thread's own (the wall clock of an undisturbed machine): neighbours do not
count.
``qwen2-0.5b`` is a random checkpoint of Qwen2-0.5B's shape, made in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable

from engine_cpu import MODELS, TINY, make_qwen
from shared_prefix import prompts

from sglnb.runtime import Engine
from sglnb.runtime import engine as engine_module


class Stopwatch:
    """Wraps methods: ``seconds`` of the thread's own time by group, a call within another one
    counted once."""

    def __init__(self) -> None:
        self.seconds = {"scheduler": 0.0, "tree": 0.0, "plan": 0.0}
        self._busy = False

    def watch(self, owner: object, name: str, group: str) -> None:
        real: Callable = getattr(owner, name)

        def timed(*args, **options):
            if self._busy:
                return real(*args, **options)
            self._busy, began = True, time.thread_time()
            try:
                return real(*args, **options)
            finally:
                self.seconds[group] += time.thread_time() - began
                self._busy = False

        setattr(owner, name, timed)


def measure(model: str, args: argparse.Namespace) -> dict[str, float]:
    """Seconds, and the shares of them, from a cold cache."""
    engine_module.most_threads = lambda: args.threads
    params = {"temperature": 0, "max_new_tokens": args.new, "ignore_eos": True}
    with Engine(model, dtype="float32", kv_tokens=args.kv_tokens) as engine:
        batch = prompts(engine.tokenizer, args)
        engine.generate([[5, 6, 7]], params)
        engine.cache.flush()
        watch, core = Stopwatch(), engine._core
        watch.watch(core.scheduler, "next_step", "scheduler")
        watch.watch(core.memory, "share", "tree")
        watch.watch(core.memory, "release", "tree")
        watch.watch(core.runner.attention, "plan", "plan")
        steps = engine.metrics()["steps"]
        before = engine.call(time.thread_time)
        engine.generate(batch, params)
        whole = engine.call(time.thread_time) - before
        steps = engine.metrics()["steps"] - steps
    return {name: seconds / whole for name, seconds in watch.seconds.items()} | {
        "whole": whole,
        "steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--prefix", type=int, default=800)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--kv-tokens", type=int, default=16_384)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=3, help="the median is told")
    args = parser.parse_args()
    print(
        f"{args.requests} requests, prefix {args.prefix} tokens, {args.new} new each, float32, "
        f"{args.threads} threads, median of {args.runs}"
    )
    columns = ("seconds", "steps", "scheduler", "tree", "both", "(plan)")
    print(" " * 14 + "".join(f"{name:>11}" for name in columns))
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            model = str(TINY) if name == "sgl-tiny" else make_qwen(folder)
            runs = [measure(model, args) for _ in range(args.runs)]
            runs.sort(key=lambda run: run["scheduler"] + run["tree"])
            run = runs[len(runs) // 2]
            both = run["scheduler"] + run["tree"]
            print(
                f"{name:14}{run['whole']:11.2f}{run['steps']:11}{run['scheduler']:11.2%}"
                f"{run['tree']:11.2%}{both:11.2%}{run['plan']:11.2%}"
            )


if __name__ == "__main__":
    main()
