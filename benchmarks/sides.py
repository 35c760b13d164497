"""Two engines in one process, measured in turn, so that a neighbour disturbs both alike."""

from __future__ import annotations

import time
from typing import Any

from engine_cpu import PROMPT, prompts


def decode_and_prefill(
    engines: dict[str, Any], batches: list[int], new: int, prefill: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Tokens a second of each engine, the best of ``rounds``.

    Returns:
        {engine: {"decode x1": ..., "prefill 512": ...}}.
    """
    best: dict[str, dict[str, float]] = {name: {} for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            for batch in batches:
                some = prompts(batch, PROMPT)
                first = _seconds(engine, some, 1)
                rest = _seconds(engine, some, new + 1)
                _keep(best[name], f"decode x{batch}", batch * new / max(rest - first, 1e-9))
            engine.cache.flush()
            seconds = _seconds(engine, prompts(1, prefill), 1)
            _keep(best[name], f"prefill {prefill}", prefill / seconds)
    return best


def _seconds(engine: Any, some: list[list[int]], new: int) -> float:
    params = {"temperature": 0, "max_new_tokens": new, "ignore_eos": True}
    began = time.perf_counter()
    engine.generate(some, params)
    return time.perf_counter() - began


def _keep(best: dict[str, float], what: str, rate: float) -> None:
    best[what] = max(best.get(what, 0.0), rate)


def report(best: dict[str, dict[str, float]]) -> None:
    """A table in tokens a second; the first engine is what the others are compared with."""
    base = next(iter(best.values()))
    print(" " * 16 + "".join(f"{what:>16}" for what in base))
    for name, rates in best.items():
        print(f"{name:16}" + "".join(f"{rate:10.1f} tok/s" for rate in rates.values()))
        if rates is not base:
            ratios = [rate / base[what] for what, rate in rates.items()]
            print(" " * 16 + "".join(f"{ratio:15.2f}x" for ratio in ratios))
