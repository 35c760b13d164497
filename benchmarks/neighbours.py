"""One stream of text while the neighbours are busy: sglnb against transformers, in one run.

    python benchmarks/neighbours.py [--tokens 60]

Three conditions: an idle machine, a process that keeps one core busy, and a thread of the same
process that loops in plain Python (a cell that computes while a run goes on behind it).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

MODEL = str(Path(__file__).resolve().parents[1] / "sglnb" / "assets" / "sgl-tiny")
PROMPT = "<|im_start|>user\nTell me a story.<|im_end|>\n<|im_start|>assistant\n"
CONDITIONS = ("idle machine", "one core busy", "Python loop beside")


def stream_transformers():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    model.generation_config.eos_token_id = None
    ids = tokenizer(PROMPT, return_tensors="pt")
    return lambda n: model.generate(**ids, do_sample=False, max_new_tokens=n, pad_token_id=0)


def stream_sglnb():
    from sglnb.runtime import Engine

    engine = Engine()
    greedy = {"temperature": 0, "ignore_eos": True}
    return lambda n: engine.generate(PROMPT, greedy | {"max_new_tokens": n})


def measure(side: str, tokens: int) -> dict[str, float]:
    """Milliseconds a token under each condition."""
    stream = stream_sglnb() if side == "sglnb" else stream_transformers()
    stream(tokens)

    def timed(n: int) -> float:
        began = time.perf_counter()
        stream(n)
        return (time.perf_counter() - began) / n * 1e3

    out = {CONDITIONS[0]: timed(tokens)}
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(0.5)
    out[CONDITIONS[1]] = timed(tokens)
    neighbour.kill()
    neighbour.wait()
    over = threading.Event()

    def loop() -> None:
        while not over.is_set():
            pass

    thread = threading.Thread(target=loop)
    thread.start()
    out[CONDITIONS[2]] = timed(max(3, tokens // 10))
    over.set()
    thread.join()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        json.dump(measure(args.side, args.tokens), sys.stdout)
        return
    results = {}
    for side in ("transformers", "sglnb"):
        command = [sys.executable, __file__, "--tokens", str(args.tokens), "--side", side]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[side] = json.loads(done.stdout)
    print(f"{'ms a token':20}{'transformers':>14}{'sglnb':>9}{'ratio':>8}")
    for condition in CONDITIONS:
        theirs, ours = results["transformers"][condition], results["sglnb"][condition]
        print(f"{condition:20}{theirs:14.1f}{ours:9.1f}{theirs / ours:7.1f}x")


if __name__ == "__main__":
    main()
