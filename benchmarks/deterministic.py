"""What ``deterministic=True`` costs, and whether the default engine repeats itself without it.

python benchmarks/deterministic.py [--batches 1 8 32] [--prefill 512]
"""

from __future__ import annotations

import argparse

from sides import decode_and_prefill, report

from sglnb.runtime import Engine

PROMPTS = [f"The story number {i} begins on a day in the year {1900 + i}" for i in range(12)]


def repeats(engine: Engine) -> float:
    """Share of requests whose log-probabilities, alone and cold, are those in a warm batch."""
    params = {"temperature": 0, "max_new_tokens": 16, "ignore_eos": True}

    def ask(some: list[str]) -> list[list[float]]:
        results = engine.generate(some, params, return_logprob=True)
        return [[s[0] for s in r["meta_info"]["output_token_logprobs"]] for r in results]

    alone = []
    for prompt in PROMPTS:
        engine.cache.flush()
        alone += ask([prompt])
    together = ask(PROMPTS)
    return sum(a == b for a, b in zip(alone, together, strict=True)) / len(PROMPTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--new", type=int, default=16, help="decode steps that are timed")
    parser.add_argument("--prefill", type=int, default=512, help="tokens of the prefill")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with Engine(kv_tokens=8192) as plain, Engine(kv_tokens=8192, deterministic=True) as exact:
        sides = {"default": plain, "deterministic": exact}
        for name, engine in sides.items():
            print(f"{name}: {repeats(engine):.0%} of requests with the same bits in a batch")
        report(decode_and_prefill(sides, args.batches, args.new, args.prefill, args.rounds))


if __name__ == "__main__":
    main()
