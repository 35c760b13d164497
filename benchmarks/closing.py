"""Bringing JSON to a legal end in time: how often, how early, at what cost.

    python benchmarks/closing.py [folder or tokenizer.json ...]

Dice write texts of the JSON schemas of ``tests/constraints`` (those of the official suite that are
enforced, and random ones), and each text is written again with a budget that cuts it anywhere
behind the length of the shortest text. A token behind which the closer finds no end in time is
replaced. It was so too early, if a search of 50 times the places finds one after all.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

import jsonschema
import numpy as np
from constraint_engines import load
from hypothesis import Phase, given, seed, settings

import sglnb
from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.llg_closing import FIRST_LOOKS, LOOKS, shortest

TESTS = Path(__file__).parents[1] / "tests" / "constraints"
sys.path.insert(0, str(TESTS))

from schema_tools import schemas  # noqa: E402

CUTS = 1_000
LONGEST = 300
"""Tokens of a text before it is cut."""
EAGER = 0.25
"""How often dice that may close something do."""
_CLOSING = {b'"', b"]", b"}", b'"]', b'"}', b"}}", b", ", b"0"}


def all_schemas() -> list[object]:
    """The schemas of the suite of draft 2020-12, and 300 random ones."""
    suite = json.loads((TESTS / "json_schema_suite" / "draft2020-12.json").read_text())
    out = [schema for entries in suite.values() for _, schema, _ in entries]
    # The judge divides by these as floats, which long numbers are too large for.
    out = [one for one in out if not re.search(r'"multipleOf": \d+[.e]', json.dumps(one))]

    @seed(0)
    @settings(max_examples=300, phases=[Phase.generate], database=None, deadline=None)
    @given(schemas)
    def collect(schema: object) -> None:
        out.append(schema)

    collect()
    return out


class Dice:
    """Writes texts of one tokenizer and notes what the closer does."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        table = tokenizer.token_bytes
        self._closing = np.array([i for i, raw in enumerate(table) if raw in _CLOSING])
        self.seconds: list[float] = []
        self.counts: Counter[str] = Counter()

    def write(self, constraint, rng: random.Random, budget: int) -> tuple[list[int], bool, bool]:
        """(tokens of a text, whether it is at a legal end, whether it was brought there)."""
        closer, cursor, ids = constraint.closer(budget), constraint.start(), []
        assert closer is not None
        brought = False
        while len(ids) < budget and not cursor.done:
            way = closer.way(budget - len(ids))
            token = way[0] if way else self._throw(cursor, rng)
            brought |= bool(way)
            if not self._take(constraint, cursor, closer, token, budget - len(ids) - 1):
                brought, token = True, closer.instead()[0]
                assert self._take(constraint, cursor, closer, token, budget - len(ids) - 1)
            ids.append(token)
        return ids, cursor.is_final, brought

    def _take(self, constraint, cursor, closer, token: int, left: int) -> bool:
        cursor.advance(token)
        began = time.process_time()
        keeps = closer.keeps(cursor, token, left)
        self.seconds.append(time.process_time() - began)
        if not keeps:
            way = shortest(cursor.matcher, constraint.vocabulary, left, 50 * LOOKS)
            self.counts["replaced"] += 1
            self.counts["replaced too early"] += way is not None
            cursor.rollback(1)
        return keeps

    def _throw(self, cursor, rng: random.Random) -> int:
        bits = np.unpackbits(cursor.allowed().view(np.uint8), bitorder="little")
        legal, near = np.flatnonzero(bits), self._closing[bits[self._closing] == 1]
        return int(rng.choice(near if len(near) and rng.random() < EAGER else legal))


def measure(tokenizer, given: list[object]) -> str:
    """A line of Markdown."""
    rng, dice = random.Random(0), Dice(tokenizer)
    constraints = []
    for schema in given:
        try:
            constraints.append(
                (schema, compile_constraint(json_schema=schema, tokenizer=tokenizer))
            )
        except ConstraintError:
            continue
    done = 0
    while done < CUTS:
        schema, constraint = rng.choice(constraints)
        least = shortest(constraint.start().matcher, constraint.vocabulary, LONGEST, FIRST_LOOKS)
        if least is None:
            dice.counts["without an end"] += 1
            done += 1
            continue
        state = rng.getstate()
        whole = len(dice.write(constraint, rng, LONGEST)[0])
        if whole <= max(1, len(least)):
            continue  # there is nothing to cut
        done += 1
        budget = random.Random(done).randint(max(1, len(least)), whole - 1)
        rng.setstate(state)  # the same text, as far as it goes
        ids, ended, brought = dice.write(constraint, rng, budget)
        text = tokenizer.decode([i for i in ids if i not in tokenizer.eos_ids])
        dice.counts["closed"] += ended
        dice.counts["brought"] += brought
        dice.counts["valid"] += _is_valid(schema, text)
    p50, p99, most = (1e3 * float(np.percentile(dice.seconds, p)) for p in (50, 99, 100))
    c = dice.counts
    return (
        f"| {CUTS:,} | {c['without an end']} | {c['closed']} | {c['valid']} | "
        f"{c['brought']} | {c['replaced']} of {len(dice.seconds):,} | {c['replaced too early']} | "
        f"{p50:.2f} | {p99:.1f} | {most:.1f} |"
    )


def _is_valid(schema: object, text: str) -> bool:
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        return kind(schema, format_checker=kind.FORMAT_CHECKER).is_valid(json.loads(text))
    except ValueError:
        return False


def main(paths: list[str]) -> None:
    """A table, with a line per tokenizer."""
    given = all_schemas()
    print("| tokenizer | cuts | no end found, told before | closed | valid | brought to an end "
          "| tokens replaced | too early | ms a token: p50 | p99 | most |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    assets = Path(sglnb.__file__).parent / "assets" / "sgl-tiny"
    for path in [assets, *map(Path, paths)]:
        file = path / "tokenizer.json" if path.is_dir() else path
        print(f"| {file.parent.name} {measure(load(file), given)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
