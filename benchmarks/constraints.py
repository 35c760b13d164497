"""What constraints cost: compilation, the first mask of a state, later masks, memory.

    python benchmarks/constraints.py [folder or tokenizer.json ...]

The embedded model's vocabulary is always measured. For each regex a text is followed token by
token, twice: the first pass computes the masks of its states, the second finds them cached. JSON
schemas are llguidance's: no states, no masks kept, but its lexer is warm on the second pass.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import sglnb
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.compiler import regex_dfa
from sglnb.runtime.constraints.schema_check import check_schema
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


def main(paths: list[str]) -> None:
    """Print one table per tokenizer."""
    check_schema({})  # imports jsonschema, which takes longer than all that is measured
    assets = Path(sglnb.__file__).parent / "assets" / "sgl-tiny"
    for path in [assets, *map(Path, paths)]:
        file = path / "tokenizer.json" if path.is_dir() else path
        tokenizer = Tokenizer.from_file(file)
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


if __name__ == "__main__":
    main(sys.argv[1:])
