"""What drawing costs: the engine's sampler against a loop over rows and against torch.multinomial.

    python benchmarks/sampling.py [--rows 1 8 32]

Random logits, every row with its own seed. The loop is the plain way to draw each row from a
generator of its own, which makes a row independent of its batch as the sampler's rows are;
torch.multinomial draws all rows from one generator, so its rows depend on their batch. The
filters of both are torch.sort and a cumulative sum.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from sglnb.runtime.request import Request
from sglnb.runtime.sampler import Sampler
from sglnb.runtime.sampling_params import SamplingParams

VOCABULARIES = {"sgl-tiny": 8_192, "Llama 3": 128_256}
CASES = {"no filter": {}, "top_k 50, top_p 0.9": {"top_k": 50, "top_p": 0.9}}


def filtered(probs: torch.Tensor, top_k: int = 0, top_p: float = 1.0) -> torch.Tensor:
    """The textbook filter of rows [rows, vocab]."""
    if not top_k and top_p == 1:
        return probs
    ordered, order = probs.sort(-1, descending=True)
    drop = ordered.cumsum(-1) - ordered > top_p
    drop[:, top_k:] = True
    return torch.zeros_like(probs).scatter_(-1, order, ordered.masked_fill_(drop, 0.0))


def loop(logits: torch.Tensor, case: dict) -> list[int]:
    """One row after the other, each with its own generator."""
    out = []
    for seed, row in enumerate(logits):
        probs = filtered(torch.softmax(row[None], -1), **case)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.empty_like(probs).exponential_(generator=generator)
        out.append(int((probs / noise).argmax()))
    return out


def multinomial(logits: torch.Tensor, case: dict) -> list[int]:
    """All rows from one generator."""
    return torch.multinomial(filtered(torch.softmax(logits, -1), **case), 1)[:, 0].tolist()


def milliseconds(what: Callable[[], object], repeats: int) -> float:
    """Median time of this thread in a call, whatever else the machine is doing."""
    what()
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        what()
        times.append(time.thread_time() - started)
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("milliseconds of one thread; the sampler's include its log-probabilities and checks")
    print(f"{'':32}  rows  sampler     loop  multinomial   loop/sampler")
    for name, vocab in VOCABULARIES.items():
        sampler = Sampler(vocab, torch.device("cpu"))
        for label, case in CASES.items():
            for rows in args.rows:
                logits = torch.randn(rows, vocab) * 3
                requests = [Request([1], SamplingParams.of(case)) for _ in range(rows)]
                for seed, request in enumerate(requests):
                    request.seed = seed
                sides = [
                    lambda: sampler(logits, requests, [None] * rows),  # noqa: B023
                    lambda: loop(logits, case),  # noqa: B023
                    lambda: multinomial(logits, case),  # noqa: B023
                ]
                ours, plain, joint = (milliseconds(side, args.repeats) for side in sides)
                print(
                    f"{name + ', ' + label:32}  {rows:4} {ours:8.2f} {plain:8.2f} {joint:12.2f} "
                    f"{plain / ours:13.1f}x"
                )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
