"""JSON from a regex and from a schema, with and without jump-forward: requests a second.

    python benchmarks/json_decode.py [--batches 1 8 32] [--rounds 3] [--model sgl-tiny]

The regex is the character record of the SGLang paper (section 6.2, "JSON decoding"), the schema
says the same. All runs take turns in one process, so a slow machine is slow for all. The cache
is warm: every prompt was computed once before.
"""

from __future__ import annotations

import argparse
import statistics
import time

from constraints import CHARACTER

import sglnb as sgl

NAMES = ["Harry", "Hermione", "Ron", "Draco", "Luna", "Neville", "Ginny", "Severus"]


def _word() -> dict:
    return {"type": "string", "minLength": 1, "maxLength": 16}


def _record(**properties: object) -> dict:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMA = _record(
    **{
        "name": _word(),
        "house": {"enum": ["Gryffindor", "Slytherin", "Ravenclaw", "Hufflepuff"]},
        "blood status": {"enum": ["Pure-blood", "Half-blood", "Muggle-born"]},
        "occupation": {"enum": ["student", "teacher", "auror", "ministry of magic"]},
        "wand": _record(wood=_word(), core=_word(), length={"type": "integer", "maximum": 99}),
        "alive": {"enum": ["Alive", "Deceased"]},
        "patronus": _word(),
        "bogart": _word(),
    }
)
CASES = {"regex": {"regex": CHARACTER}, "schema": {"json_schema": SCHEMA}}


def run(engine: sgl.Engine, params: dict, batch: int, seed: int) -> tuple[float, int, int, int]:
    """Seconds, tokens, forced tokens and steps of one batch."""
    prompts = [f"Describe {NAMES[i % len(NAMES)]} ({i}) as JSON:\n" for i in range(batch)]
    each = [params | {"seed": seed * 1000 + i} for i in range(batch)]
    before = engine.metrics()["steps"]
    started = time.perf_counter()
    results = engine.generate(prompts, each)
    seconds = time.perf_counter() - started
    metas = [result["meta_info"] for result in results]
    assert all(meta["finish_reason"]["type"] == "stop" for meta in metas)
    return (
        seconds,
        sum(meta["completion_tokens"] for meta in metas),
        sum(meta["forced_tokens"] for meta in metas),
        engine.metrics()["steps"] - before,
    )


def main() -> None:
    """Print one line for each case and batch size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="sgl-tiny")
    args = parser.parse_args()
    with sgl.Engine(args.model, kv_tokens=40_000) as engine:
        print(f"{engine!r}: requests a second, medians of {args.rounds} rounds")
        print(
            "case    batch     off      on  faster  tokens  forced  steps off  on  ms/step off   on"
        )
        for name, source in CASES.items():
            for batch in args.batches:
                params = {**source, "max_new_tokens": 400, "temperature": 1.0}
                for jump in (False, True):
                    run(engine, params | {"jump_forward": jump}, batch, seed=0)
                rows: dict[bool, list] = {False: [], True: []}
                for seed in range(1, args.rounds + 1):
                    for jump in (False, True):
                        rows[jump].append(run(engine, params | {"jump_forward": jump}, batch, seed))
                off, on = (batch / statistics.median(r[0] for r in rows[j]) for j in (False, True))
                forced = sum(r[2] for r in rows[True]) / sum(r[1] for r in rows[True])
                tokens = sum(r[1] for r in rows[True]) / batch / args.rounds
                steps = [statistics.median(r[3] for r in rows[j]) for j in (False, True)]
                ms = [
                    1e3 * sum(r[0] for r in rows[j]) / sum(r[3] for r in rows[j])
                    for j in (False, True)
                ]
                print(
                    f"{name:7} {batch:5} {off:7.2f} {on:7.2f} {on / off:6.2f}x {tokens:7.0f} "
                    f"{forced:6.0%} {steps[0]:9.0f} {steps[1]:5.0f} {ms[0]:9.2f} {ms[1]:6.2f}",
                    flush=True,
                )
        engine.check()


if __name__ == "__main__":
    main()
