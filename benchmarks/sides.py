"""Engines in one process, measured in turn, so that a neighbour disturbs all alike."""

from __future__ import annotations

import time
from typing import Any

from engine_cpu import PROMPT, prompts


def decode_and_prefill(
    engines: dict[str, Any], batches: list[int], new: int, prefill: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Tokens a second of each engine, from the shortest times of ``rounds``.

    Returns:
        {engine: {"decode x1": ..., "prefill 512": ...}}.
    """
    least: dict[tuple[str, int, int], float] = {}  # (engine, batch, new tokens): seconds

    def run(name: str, batch: int, count: int, length: int) -> None:
        params = {"temperature": 0, "max_new_tokens": count, "ignore_eos": True}
        began = time.perf_counter()
        engines[name].generate(prompts(batch, length), params)
        seconds = time.perf_counter() - began
        key = (name, batch if length == PROMPT else 0, count)
        least[key] = min(least.get(key, seconds), seconds)

    for turn in range(rounds):
        for name, engine in engines.items():
            for batch in batches:
                if turn == 0:  # from here on the prompts are cached
                    engine.generate(prompts(batch, PROMPT), {"max_new_tokens": 1})
                run(name, batch, 1, PROMPT)
                run(name, batch, new + 1, PROMPT)
        for name, engine in engines.items():
            engine.cache.flush()
            run(name, 1, 1, prefill)
            for batch in batches:
                engine.generate(prompts(batch, PROMPT), {"max_new_tokens": 1})
    out: dict[str, dict[str, float]] = {}
    for name in engines:
        decode = {
            f"decode x{n}": n * new / (least[name, n, new + 1] - least[name, n, 1]) for n in batches
        }
        out[name] = decode | {f"prefill {prefill}": prefill / least[name, 0, 1]}
    return out


def report(rates: dict[str, dict[str, float]]) -> None:
    """A table in tokens a second; the others are compared with the first."""
    base = next(iter(rates.values()))
    print(" " * 14 + "".join(f"{what:>17}" for what in base))
    for name, some in rates.items():
        print(f"{name:14}" + "".join(f"{rate:11.1f} tok/s" for rate in some.values()))
        if some is not base:
            ratios = [rate / base[what] for what, rate in some.items()]
            print(" " * 14 + "".join(f"{ratio:16.2f}x" for ratio in ratios))
