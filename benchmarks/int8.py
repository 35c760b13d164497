"""int8 weights against float32: what they do to the logits, and what they win.

    python benchmarks/int8.py [--text FILE] [--models sgl-tiny qwen2-0.5b]

Effect, on the embedded model: largest and mean error of a logit, how often the likeliest token
is the same, Kullback-Leibler divergence, perplexity. FILE is plain text, or lines of JSON with
"question" and "answer" (GSM8K); without it the model reads a short text of ours. Both with the
large layers in int8 (what ``dtype="int8"`` does) and with all of them.

Gain: decode and prefill rates of both engines, measured in turn. ``qwen2-0.5b`` is a random
checkpoint of Qwen2-0.5B's shape.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

import torch
from engine_cpu import MODELS, TINY, make_qwen
from sides import decode_and_prefill, report

from sglnb.runtime import Engine
from sglnb.runtime.attention import Row, TorchAttention
from sglnb.runtime.models import Batch, int8, load_model

OWN = (
    "Once upon a time there was a girl who lived near the river. Every morning she walked to the "
    "market with her brother. They bought apples, bread and three red candles for six coins. "
) * 3
LENGTH = 400
"""Tokens of a text that are read."""


def texts(path: str | None, most: int) -> list[str]:
    if path is None:
        return [OWN]
    content = Path(path).read_text()
    if not path.endswith(".jsonl"):
        return [content]
    rows = [json.loads(line) for line in content.splitlines()[:most]]
    form = "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}"
    return [form.format(**row) for row in rows]


@torch.inference_mode()
def logits(model, rows: list[list[int]]) -> list[torch.Tensor]:
    attention, kv = TorchAttention(torch.device("cpu")), model.kv_cache(LENGTH)
    out = []
    for ids in rows:
        at = torch.arange(len(ids))
        plan = attention.plan([Row(0, len(ids), list(range(len(ids))), [(0, len(ids))])])
        out.append(model.forward(Batch(torch.tensor(ids), at, plan, at), kv, attention))
    return out


def perplexity(some: list[torch.Tensor], rows: list[list[int]]) -> float:
    scores = [
        x[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])
        for x, ids in zip(some, rows, strict=True)
    ]
    return math.exp(-float(torch.cat(scores).mean()))


def effect(path: str | None, most: int) -> None:
    model, tokenizer = load_model(TINY)
    rows = [tokenizer.encode(text)[:LENGTH] for text in texts(path, most)]
    want = logits(model, rows)
    count = sum(map(len, rows))
    print(
        f"effect on sgl-tiny, {count:,} tokens; perplexity in float32 {perplexity(want, rows):.3f}"
    )
    least = int8.SMALLEST
    kinds = {"bfloat16": ("bfloat16", least), "int8": ("int8", least), "int8, all": ("int8", 0)}
    for name, (dtype, int8.SMALLEST) in kinds.items():
        other, _ = load_model(TINY, dtype=dtype)
        got = logits(other, rows)
        a, b = torch.cat(got), torch.cat(want)
        error = (a - b).abs()
        same = (a.argmax(-1) == b.argmax(-1)).float().mean()
        kl = (b.softmax(-1) * (b.log_softmax(-1) - a.log_softmax(-1))).sum(-1).mean()
        print(
            f"  {name:10} max {error.max():.3f}  mean {error.mean():.4f}  same top token "
            f"{same:.2%}  KL {kl:.1e}  perplexity {perplexity(got, rows):.3f}  weights "
            f"{other.weights_bytes / model.weights_bytes:.0%}"
        )
    int8.SMALLEST = least


def gain(name: str, path: str, args) -> None:
    options = {"kv_tokens": 4096}
    with Engine(path, **options) as plain, Engine(path, dtype="int8", **options) as small:
        memory = [engine.status()["weights_bytes"] / 1e6 for engine in (plain, small)]
        print(f"\n{name}: weights {memory[0]:,.0f} MB in float32, {memory[1]:,.0f} MB in int8")
        sides = {"float32": plain, "int8": small}
        report(decode_and_prefill(sides, args.batches, args.new, args.prefill, args.rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="a text, or GSM8K's test.jsonl")
    parser.add_argument("--no-effect", action="store_true", help="measure the gain only")
    parser.add_argument("--most", type=int, default=20, help="lines of the JSON file")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--new", type=int, default=8, help="decode steps that are timed")
    parser.add_argument("--prefill", type=int, default=256, help="tokens of the prefill")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if not args.no_effect:
        effect(args.text, args.most)
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            path = str(TINY) if name == "sgl-tiny" else make_qwen(f"{folder}/{name}")
            gain(name, path, args)


if __name__ == "__main__":
    main()
