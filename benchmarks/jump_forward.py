"""What jump-forward does to the distribution, and what a jump has to bring to be worth it.

    python benchmarks/jump_forward.py [--samples 60] [--only distortion|cost]

First table: the same constraints written with token masks only, with jump-forward by hold-back, by
rewind, and with masks after a healed prompt (its last token is taken back and becomes the beginning
of the constraint). Each text is scored by the model behind the same prompt, as the tokens that were
written and as the tokenizer would write it. ``mask`` is what the masks took (the sum of -ln of the
probability they left, over the sampled tokens), ``forced`` the surprisal of the tokens that were
not sampled.

Second table: a text in which each choice is followed by k certain tokens, with and without
jump-forward: how much faster, by k and batch size.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import time
from typing import Any

from constraints import CHARACTER

import sglnb as sgl

CASES = [  # prompt, regex
    ("The answer is", r" (yes|no|maybe), because [a-z]{2,10} is [a-z]{2,10}\."),
    ("Once upon a time, there was a", r" (little|big) (girl|boy) named [A-Z][a-z]{2,8}\."),
    ("Tom said: ", r'"I (like|want) the [a-z]{2,8}", and (he|she) [a-z]{2,8}\.'),
    ("Describe Harry as JSON:\n", CHARACTER),
]
MODES: dict[str, dict[str, Any]] = {
    "masks only": {"jump_forward": False},
    "hold-back": {"retokenize": "hold-back"},
    "rewind": {"retokenize": "rewind"},
    "healed prompt, masks": {"jump_forward": False},
}


def distortion(engine: sgl.Engine, samples: int) -> None:
    """The first table."""
    print(f"nats a text, means over {samples} samples of {len(CASES)} regexes at temperature 1")
    print(f"{'':22} tokens  forced  written  tokenizer's  canonical    mask  forced text")
    for name, options in MODES.items():
        rows = [
            row
            for prompt, regex in CASES
            for row in _sample(engine, name, prompt, regex, options, samples)
        ]
        means = [statistics.fmean(column) for column in zip(*rows, strict=True)]
        tokens, forced, written, own, canonical, mask, surprisal = means
        print(
            f"{name:22} {tokens:6.1f} {forced / tokens:6.0%} {written:9.2f} {own:12.2f} "
            f"{canonical:9.0%} {mask:8.2f} {surprisal:11.2f}",
            flush=True,
        )


def _sample(
    engine: sgl.Engine, name: str, prompt: str, regex: str, options: dict, samples: int
) -> list[tuple[float, ...]]:
    tokenizer = engine.tokenizer
    whole = tokenizer.encode(prompt)
    ids, pattern = whole, regex
    if name.startswith("healed"):
        ids, last = whole[:-1], tokenizer.to_bytes(whole[-1:]).decode()
        pattern = re.escape(last) + regex
    params = [
        {"regex": pattern, "max_new_tokens": 400, "temperature": 1.0, "seed": i, **options}
        for i in range(samples)
    ]
    asked = [list(ids) for _ in params]
    requests = [
        engine.submit(one, p, return_logprob=True, logprob_start_len=-1)
        for one, p in zip(asked, params, strict=True)
    ]
    rows = []
    for request in requests:
        meta, out = request.result().meta_info, request.ids
        base = len(ids)
        scores = [score for score, _, _ in meta["output_token_logprobs"]]
        own = tokenizer.encode(prompt + tokenizer.decode(out)[len(prompt) :])
        masses = meta["output_mask_mass"]
        rows.append(
            (
                meta["completion_tokens"],
                meta["forced_tokens"],
                _score(engine, out, base) if base else sum(scores),
                _score(engine, own, base),
                out == own,
                -sum(math.log(max(m, 1e-30)) for m in masses if m is not None),
                -sum(s for s, m in zip(scores, masses, strict=True) if m is None),
            )
        )
    return rows


def _score(engine: sgl.Engine, ids: list[int], start: int) -> float:
    """Log-probability of ``ids[start:]``."""
    reply = engine.generate(
        ids, {"max_new_tokens": 0}, return_logprob=True, logprob_start_len=start
    )
    return sum(score for score, _, _ in reply["meta_info"]["input_token_logprobs"])


def cost(engine: sgl.Engine, rounds: int) -> None:
    """The second table."""
    print("times faster with jump-forward, where each sampled token brings k certain ones")
    print("batch " + "".join(f"    k={k}" for k in (1, 2, 3, 4, 8)))
    for batch in (1, 8, 32):
        line = f"{batch:5} "
        for k in (1, 2, 3, 4, 8):
            # Each digit pair is one sampled token or two; the words are one token each.
            words = " the" * (k - 1) + "\n"
            regex = f"([0-9]{re.escape(words)}){{{48 // (k + 1)}}}"
            seconds: dict[bool, list[float]] = {False: [], True: []}
            for seed in range(rounds + 1):
                for jump in (False, True):
                    each = [
                        {"regex": regex, "seed": seed * 100 + i, "jump_forward": jump,
                         "max_new_tokens": 200, "temperature": 1.0}
                        for i in range(batch)
                    ]  # fmt: skip
                    began = time.perf_counter()
                    engine.generate([f"List {i}: " for i in range(batch)], each)
                    if seed:
                        seconds[jump].append(time.perf_counter() - began)
            ratio = statistics.median(seconds[False]) / statistics.median(seconds[True])
            line += f" {ratio:5.2f}x"
        print(line, flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["distortion", "cost"])
    args = parser.parse_args()
    with sgl.Engine(kv_tokens=40_000) as engine:
        if args.only != "cost":
            distortion(engine, args.samples)
        if args.only != "distortion":
            cost(engine, args.rounds)
        engine.check()


if __name__ == "__main__":
    main()
