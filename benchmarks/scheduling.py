"""Cache hit rate of the scheduling policies against the best order there is.

    python benchmarks/scheduling.py [--data ../shared/eval] [--share 0.5] [--seed 0]

Traces of the paper's kinds (see traces.py) run through the real scheduler and tree, without a
model, over a pool that is a share of the working set. The figure is the hit rate in percent of
the optimum: the hit rate of the best order there is (paper, theorem 3.1 and figure 13).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from traces import make_traces

import sglnb as sgl
from sglnb.runtime.policy import POLICIES

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "sglnb" / "assets" / "sgl-tiny"


def working_set(trace: list[sgl.TraceRequest], optimum: float) -> int:
    """Tokens that would be cached at the end if nothing were ever evicted."""
    prompts = sum(len(request.prompt) for request in trace)
    return round(prompts * (1 - optimum)) + sum(request.output_length for request in trace)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT.parent / "shared" / "eval"
    parser.add_argument(
        "--data",
        type=Path,
        default=default if default.is_dir() else None,
        help="folder with gsm8k, mt_bench, react, tips; without: made-up texts",
    )
    parser.add_argument("--share", type=float, default=0.5, help="pool / working set")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()  # fmt: skip
    if args.data is not None and not (args.data / "gsm8k" / "test.jsonl").exists():
        parser.error(
            f"--data: {args.data} holds no gsm8k/test.jsonl; leave it out for made-up texts"
        )

    traces = make_traces(sgl.Tokenizer.from_pretrained(TINY), args.data, args.seed)
    print(
        f"hit rate in % of the optimum, pool = {args.share:g} of the working set, "
        f"{'made-up texts' if args.data is None else 'real texts'}, seed {args.seed}"
    )
    columns = ("requests", "pool", "optimum", *POLICIES)
    print(" " * 24 + "".join(f"{name:>12}" for name in columns))
    shares: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for name, trace in traces.items():
        optimum = sgl.optimal_hit_rate(trace)
        longest = max(len(request.prompt) + request.output_length for request in trace)
        pool = max(round(working_set(trace, optimum) * args.share), 2 * longest)
        print(f"{name:24}{len(trace):12}{pool:12,}{optimum:12.1%}", end="", flush=True)
        for policy in POLICIES:
            result = sgl.simulate(trace, policy, kv_tokens=pool, seed=args.seed)
            if optimum < 0.01:
                print(f"{'-':>12}", end="", flush=True)
                continue
            shares[policy].append(result.hit_rate / optimum)
            print(f"{shares[policy][-1]:12.1%}", end="", flush=True)
        print()
    means = {policy: sum(some) / len(some) for policy, some in shares.items()}
    print(f"{'mean':60}" + "".join(f"{mean:12.1%}" for mean in means.values()))


if __name__ == "__main__":
    main()
