"""What constraints cost: compilation, the first mask of a state, later masks, memory.

    python benchmarks/constraints.py [folder or tokenizer.json ...]

The embedded model's vocabulary is always measured. For each regex a text is followed token by
token, twice: the first pass computes the masks of its states, the second finds them cached. JSON
schemas are llguidance's: no states, no masks kept, but its lexer is warm on the second pass.

Then the regexes of ``tests/constraints/real_regexes.txt``, and on some of them and on the schemas
the engines that are installed: sglnb, llguidance, xgrammar, outlines-core.
"""

from __future__ import annotations

import importlib.util
import json
import random
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from constraint_engines import CONTENDERS, LIMIT, Item, Line, load, run

import sglnb
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.compiler import regex_dfa
from sglnb.runtime.tokenizer import Tokenizer

CHARACTER = r"""\{
    "name": "[\w\d\s]{1,16}",
    "house": "(Gryffindor|Slytherin|Ravenclaw|Hufflepuff)",
    "blood status": "(Pure-blood|Half-blood|Muggle-born)",
    "occupation": "(student|teacher|auror|ministry of magic|death eater|order of the phoenix)",
    "wand": \{
        "wood": "[\w\d\s]{1,16}",
        "core": "[\w\d\s]{1,16}",
        "length": [0-9]{1,2}\.[0-9]{0,2}
    \},
    "alive": "(Alive|Deceased)",
    "patronus": "[\w\d\s]{1,16}",
    "bogart": "[\w\d\s]{1,16}"
\}"""
HARRY = """{
    "name": "Harry Potter",
    "house": "Gryffindor",
    "blood status": "Half-blood",
    "occupation": "student",
    "wand": {
        "wood": "Holly",
        "core": "Phoenix feather",
        "length": 11.0
    },
    "alive": "Alive",
    "patronus": "Stag",
    "bogart": "Dementor"
}"""
CASES = [  # name, regex, a text that matches
    ("yes or no", r"yes|no", "yes"),
    ("date", r"\d{4}-\d{2}-\d{2}", "2024-01-31"),
    ("IPv4", r"((25[0-5]|2[0-4]\d|[01]?\d\d?)\.){3}(25[0-5]|2[0-4]\d|[01]?\d\d?)", "208.67.222.2"),
    ("email", r"[\w.+-]+@[\w-]+(\.[\w-]+)+", "ada.lovelace@example.org"),
    ("JSON string", r'"([^"\\\n]|\\["\\/bfnrt])*"', '"A sentence, as a JSON string."'),
    ("CJK", r"姓名: [\u4e00-\u9fff]{2,4}。", "姓名: 哈利波特。"),
    ("any 200", r"(?s).{0,200}", "It was a bright cold day in April."),
    ("character", CHARACTER, HARRY),
]

ADDRESS = {
    "type": "object",
    "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^\\d{5}$"}},
    "required": ["street", "zip"],
    "additionalProperties": False,
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "born": {"type": "string", "format": "date"},
        "kind": {"enum": ["student", "teacher"]},
        "homes": {"type": "array", "items": {"$ref": "#/$defs/address"}, "maxItems": 3},
    },
    "required": ["name", "age", "born", "kind", "homes"],
    "additionalProperties": False,
    "$defs": {"address": ADDRESS},
}
HOME = {"street": "Rue de l'Église", "zip": "75006"}
ADA = {"name": "Ada", "age": 36, "born": "1815-12-10", "kind": "teacher", "homes": [HOME, HOME]}
ANYTHING = {"a": [1, 2.5, None, True], "b": {"c": "text"}}
SCHEMAS = [  # name, schema, a value that matches
    ("enum", {"enum": ["yes", "no"]}, "yes"),
    ("address", ADDRESS, HOME),
    ("person", PERSON, ADA),
    ("any JSON", {}, ANYTHING),
]


def measure_schema(name: str, schema: dict, value: object, tokenizer: Tokenizer) -> str:
    """One line of the second table."""
    constraint = compile_constraint(json_schema=schema, tokenizer=tokenizer)
    ids = constraint.vocabulary.spelling.spell(json.dumps(value, ensure_ascii=False))
    first, later = _follow(constraint, ids), _follow(constraint, ids)
    return (
        f"  {name:12} {constraint.compile_ms:10.1f} {1e3 * first[0]:9.2f} {1e3 * max(first):8.2f} "
        f"{1e6 * statistics.median(later):9.2f} {_jumped(constraint, ids):4}/{len(ids)}"
    )


def measure(name: str, regex: str, text: str, tokenizer: Tokenizer) -> str:
    """One line of the table."""
    started = time.perf_counter()
    regex_dfa(regex)
    compile_ms = 1e3 * (time.perf_counter() - started)
    constraint = compile_constraint(regex=regex, tokenizer=tokenizer)
    ids = constraint.jump.spell(text)
    first, later = _follow(constraint, ids), _follow(constraint, ids)
    jumped = _jumped(constraint, ids)
    return (
        f"  {name:12} {constraint.n_states:6} {len(constraint.graph().compressed.nodes):10} "
        f"{compile_ms:10.1f} {1e3 * statistics.median(first):9.2f} {1e3 * max(first):8.2f} "
        f"{1e6 * statistics.median(later):9.2f} {constraint.masks.nbytes / 1024:9.0f} "
        f"{jumped:4}/{len(ids)}"
    )


def _follow(constraint, ids: list[int]) -> list[float]:
    """Seconds that each mask on the way took."""
    cursor, seconds = constraint.start(), []
    for token in ids:
        started = time.perf_counter()
        cursor.allowed()
        seconds.append(time.perf_counter() - started)
        cursor.advance(token)
    return seconds


def _jumped(constraint, ids: list[int]) -> int:
    """How many of ``ids`` jump-forward writes."""
    cursor, done, jumped = constraint.start(), 0, 0
    while done < len(ids):
        forced = cursor.forced_tokens(ids[:done])
        jumped += len(forced)
        tokens = forced or ids[done : done + 1]
        cursor.advance_many(tokens)
        done += len(tokens)
    return jumped


REAL = Path(__file__).parents[1] / "tests" / "constraints" / "real_regexes.txt"
EVERY = 4
"""Of the real regexes, every how many-th the engines are compared on: some take seconds each."""


def real_regexes() -> list[str]:
    """Regexes as people write them."""
    lines = REAL.read_text(encoding="utf-8").split("\n")
    return [line for line in lines if line and not line.startswith("# ")]


def beginning(regex: str, tokenizer: Tokenizer) -> list[int]:
    """Tokens of a text that begins as ``regex`` says: up to 30, at random, and ASCII where there
    is a choice, for not all engines mean the same by ``\\w``."""
    constraint = compile_constraint(regex=f"{regex}(?:)", tokenizer=tokenizer)  # not yet itself
    rng, cursor, raw = random.Random(regex), constraint.start(), b""
    table = tokenizer.token_bytes
    for _ in range(30):
        bits = np.unpackbits(cursor.allowed().view(np.uint8), bitorder="little")
        legal = [i for i in np.flatnonzero(bits).tolist() if i not in tokenizer.eos_ids]
        if not legal:
            break
        plain = [i for i in legal if table[i].isascii() and table[i].decode().isprintable()]
        token = rng.choice(plain or legal)
        cursor.advance(token)
        raw += table[token]
    return constraint.jump.spell(raw.decode(errors="ignore"))


def real_row(tokenizer: Tokenizer) -> str:
    """A line on all real regexes: compilation with the first mask, first visits, later ones."""
    first, visits, later, memory = [], [], [], []
    for regex in real_regexes():
        ids = beginning(regex, tokenizer)
        started = time.process_time()
        constraint = compile_constraint(regex=regex, tokenizer=tokenizer)
        constraint.start().allowed()
        first.append(time.process_time() - started)
        visits += _visits(constraint, ids)
        later += _follow(constraint, ids)[1:]
        memory.append(constraint.nbytes)
    return (
        f"{len(first)} real regexes: first mask {_quantiles(first, 1e3)} ms, "
        f"visits {_quantiles(visits, 1e3)} ms, later {_quantiles(later, 1e6)} us, "
        f"memory {_quantiles(memory, 1 / 1024)} KB"
    )


def _visits(constraint, ids: list[int]) -> list[float]:
    """Seconds of the processor that each mask on the way took, of the places that are new."""
    cursor, seconds, seen = constraint.start(), [], {constraint.start().place}
    for token in ids:
        if cursor.place not in seen:
            started = time.process_time()
            cursor.allowed()
            seconds.append(time.process_time() - started)
        seen.add(cursor.place)
        cursor.advance(token)
    return seconds


def _quantiles(values: list[float], unit: float) -> str:
    p50, p90, p99 = (unit * float(np.percentile(values or [0], p)) for p in (50, 90, 99))
    return f"p50 {p50:.3g}, p90 {p90:.3g}, p99 {p99:.3g}"


def items(file: Path) -> tuple[list[Item], list[Item]]:
    """What the engines are compared on: regexes, schemas."""
    tokenizer = load(file)
    regexes = [*(regex for _, regex, _ in CASES), *real_regexes()[::EVERY]]
    plain = [Item("regex", regex, beginning(regex, tokenizer)) for regex in regexes]
    spell = compile_constraint(choices=["a"], tokenizer=tokenizer).spelling.spell
    schemas = [
        Item("json_schema", json.dumps(schema), spell(json.dumps(value, ensure_ascii=False)))
        for _, schema, value in SCHEMAS
    ]
    return plain, schemas


def compare(file: Path) -> str:
    """A Markdown table of the engines with one tokenizer."""
    rows = [
        "| engine | given | taken | first mask ms: p50 | p99 "
        "| masks of the first request us: p50 | p99 | of later ones us: p50 | p99 "
        "| memory KB each |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for title, chosen in zip(("regexes", "schemas"), items(file), strict=True):
        for name in CONTENDERS:
            if importlib.util.find_spec(name.replace("-", "_")) is not None:
                rows.append(_row(name, title, run(name, file, chosen), chosen))
    return "\n".join(rows)


def _row(name: str, title: str, lines: list[Line], chosen: list[Item]) -> str:
    taken = [line for line in lines if not line.error]
    slow = sum(line.error.startswith("over") for line in lines)
    wrong = sum(
        line.taken < len(item.ids)
        for line, item in zip(lines, chosen, strict=True)
        if not line.error
    )
    notes = [f"{slow} over {LIMIT:.0f} s"] * bool(slow) + [f"{wrong} cut short"] * bool(wrong)
    told = f"{len(taken)}" + (f" ({', '.join(notes)})" if notes else "")
    numbers = [
        _at([line.first for line in taken], 50, 1e3),
        _at([line.first for line in taken], 99, 1e3),
        *(_at([t for line in taken for t in line.visits], p, 1e6) for p in (50, 99)),
        *(_at([t for line in taken for t in line.later], p, 1e6) for p in (50, 99)),
        f"{lines[-1].memory / 1024 / max(1, len(taken)):,.0f}",
    ]
    return f"| {name} | {len(lines)} {title} | {told} | " + " | ".join(numbers) + " |"


def _at(values: list[float], percent: int, unit: float) -> str:
    return f"{unit * float(np.percentile(values or [0], percent)):,.3g}"


def main(paths: list[str]) -> None:
    """Print one table per tokenizer."""
    assets = Path(sglnb.__file__).parent / "assets" / "sgl-tiny"
    for path in [assets, *map(Path, paths)]:
        file = path / "tokenizer.json" if path.is_dir() else path
        tokenizer = load(file)
        started = time.perf_counter()
        compile_constraint(choices=["a"], tokenizer=tokenizer)
        seconds = time.perf_counter() - started
        print(f"{file.parent.name}: {tokenizer.vocab_size:,} ids, trie built in {seconds:.2f} s")
        print(
            "  regex        states compressed compile ms  first ms   max ms  later us   mask KB"
            " jumped"
        )
        for case in CASES:
            print(measure(*case, tokenizer))
        started = time.perf_counter()
        compile_constraint(type=bool, tokenizer=tokenizer)
        seconds = time.perf_counter() - started
        print(f"{file.parent.name}: llguidance's trie built in {seconds:.2f} s")
        print("  JSON schema  compile ms  first ms   max ms  later us jumped")
        for case in SCHEMAS:
            print(measure_schema(*case, tokenizer))
        print(real_row(tokenizer))
        print(compare(file), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
