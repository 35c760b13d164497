"""What of JSON Schema is enforced while a text is written, by the official test suite.

    python docs/schema_coverage.py                # writes docs/json_schema.md
    python docs/schema_coverage.py --suite PATH   # first takes a new copy of the suite from PATH

A *group* of the suite is a schema with some instances, each valid or not. A group is *enforced* if
the schema compiles: then each valid instance must be a text of the constraint and no invalid one
may be. Otherwise it has to be *refused* with an error that names the place; with ``lenient=True``
it may compile all the same, and then a text that the constraint takes and that its ``check`` lets
pass has to be valid.

Instances are written with the default separators, their keys in any order: the constraint takes
them in the schema's order only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import Constraint, compile_constraint
from sglnb.runtime.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT / "tests" / "constraints" / "json_schema_suite"
PAGE = ROOT / "docs" / "json_schema.md"
DRAFTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
}
"""The newest draft, which is the default, and the one that most older schemas are written in."""
MOST_ORDERS = 3_000
"""Orders of keys that are tried."""

NARROWER = [
    (r"^(const|enum)\.json", "a number is written as the schema writes it: `0`, never `0.0`"),
    (r"^type\.json: integer", "an integer is written without a point: `1`, never `1.0`"),
    (r"^format\.json", "`format` is enforced, though by default it only tells"),
    (r"date-time\.json.* leap second", "no leap seconds: Python's `datetime` has none"),
    (r"time\.json.* leap second", "no leap seconds: Python's `time` has none"),
    (r"/email\.json", "mail addresses without quoted names, and without numbers as a host"),
    (r"/ipv6\.json", "IPv6 addresses without an IPv4 address in them"),
    (r"ecmascript-regex\.json", "`\\s` in a pattern is Python's, without U+FEFF"),
    (r"float-overflow\.json", "numbers with `multipleOf` have no exponent"),
    (r"^ref\.json: ref overrides", "before 2019-09 a `$ref` overrides what stands beside it; here "
     "both hold"),
]  # fmt: skip
"""Valid instances that cannot be written, and why: what can be is still valid."""
WIDER = [
    (r"ecmascript-regex\.json", "`\\S` in a pattern is Python's, with U+FEFF"),
    (r"^optional/content\.json", "`contentEncoding` and `contentMediaType` only tell, as from "
     "draft 2019-09 on"),
]  # fmt: skip
"""Invalid instances that can be written, and why."""


class Wrong(NamedTuple):
    """An instance about which the suite and the constraint do not agree."""

    where: str
    instance: Any
    valid: bool
    why: str
    """"" if it is a fault."""


class Group(NamedTuple):
    """What became of one group.

    Attributes:
        where: file and description.
        cases: how many instances it has.
        how: ``enforced``, ``lenient`` or ``refused`` (also when lenient).
        error: why it is not enforced.
        wrong: disagreements.
    """

    where: str
    cases: int
    how: str
    error: str
    wrong: list[Wrong]

    @property
    def file(self) -> str:
        return self.where.partition(".json: ")[0]


def groups(draft: str, tokenizer: Tokenizer) -> Iterator[Group]:
    """Every group of a draft, judged."""
    for file, entries in json.loads((SUITE / f"{draft}.json").read_text()).items():
        for description, schema, cases in entries:
            if isinstance(schema, dict):
                schema = {"$schema": DRAFTS[draft], **schema}
            yield _judged(f"{file}: {description}", schema, cases, tokenizer)


def _judged(where: str, schema: Any, cases: list[list], tokenizer: Tokenizer) -> Group:
    error = ""
    for how in ("enforced", "lenient"):
        try:
            constraint = compile_constraint(
                json_schema=schema, lenient=how == "lenient", tokenizer=tokenizer
            )
        except ConstraintError as refusal:
            error = error or str(refusal)
            continue
        wrong = []
        for name, instance, valid in cases:
            if _passes(constraint, instance) != valid:
                wrong.append(Wrong(where, instance, valid, _why(f"{where}: {name}", valid)))
        return Group(where, len(cases), how, error, wrong)
    empty = "nsatisfiable" in error and not any(valid for _, _, valid in cases)
    return Group(where, len(cases), "enforced" if empty else "refused", error, [])


def _passes(constraint: Constraint, instance: Any) -> bool:
    """Whether the instance can be written, and is not found wrong behind."""
    for ordered in itertools.islice(_orders(instance), MOST_ORDERS):
        text = json.dumps(ordered, ensure_ascii=False)
        if constraint.accepts(text):
            try:
                constraint.check(text)
            except ConstraintError:
                return False
            return True
    return False


def _orders(value: Any) -> Iterator[Any]:
    """``value`` with the keys of its objects in every order."""
    if isinstance(value, list):
        yield from map(list, itertools.product(*(list(_orders(v)) for v in value)))
    elif isinstance(value, dict):
        for keys in itertools.permutations(value):
            for values in itertools.product(*(list(_orders(value[k])) for k in keys)):
                yield dict(zip(keys, values, strict=True))
    else:
        yield value


def _why(where: str, valid: bool) -> str:
    return next((why for at, why in (NARROWER if valid else WIDER) if re.search(at, where)), "")


# -- the page -------------------------------------------------------------------------------


def page(judged: dict[str, list[Group]]) -> str:
    """The coverage as Markdown."""
    lines = [
        "# JSON Schema: what is enforced while a text is written",
        "",
        "Written by `python docs/schema_coverage.py` from the official "
        "[test suite](https://github.com/json-schema-org/JSON-Schema-Test-Suite); a test keeps it "
        "true. *Enforced*: the schema compiles, every valid instance can be written (its keys in "
        "the schema's order, with the default separators) and no invalid one can; *wrong* are "
        "those of them for which that fails, explained below. *Lenient*: an error that names "
        "keyword and path, and with `lenient=True` a warning, and a check of the finished text "
        "that finds what is wrong. *Refused*: an error with either. A keyword is never ignored "
        "in silence.",
    ]
    for draft, found in judged.items():
        lines += ["", f"## {draft}", "", *_table(found)]
    lines += ["", "## Where suite and constraint do not agree", ""]
    for valid, told in ((True, "Valid, but never written"), (False, "Invalid, but not found")):
        reasons: dict[str, int] = {}
        for group in itertools.chain(*judged.values()):
            for wrong in group.wrong:
                if wrong.valid is valid:
                    why = wrong.why or f"**fault**: {wrong.where}: `{json.dumps(wrong.instance)}`"
                    reasons[why] = reasons.get(why, 0) + 1
        lines += [f"{told}:", "", *(f"* {n} instances: {why}" for why, n in reasons.items()), ""]
    lines += ["## Why schemas of the suite are not enforced", ""]
    reasons = {}
    for group in itertools.chain(*judged.values()):
        if group.how != "enforced":
            reasons.setdefault(_short(group.error), []).append(group.how)
    for why, hows in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(f"* {len(hows)} groups ({hows.count('lenient')} lenient): {why}")
    return "\n".join(lines) + "\n"


def _table(found: list[Group]) -> list[str]:
    files = dict.fromkeys(group.file for group in found)
    rows = [
        "| keyword | groups | enforced | lenient | refused | instances | wrong |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for file in [*sorted(files, key=lambda name: (name.startswith("optional"), name)), ""]:
        of = [g for g in found if file in (g.file, "")]
        hows = [g.how for g in of]
        counted = [g for g in of if g.how != "refused"]
        rows.append(
            f"| {file or '**all**'} | {len(of)} | {hows.count('enforced')} | "
            f"{hows.count('lenient')} | {hows.count('refused')} | "
            f"{sum(g.cases for g in counted)} | {sum(len(g.wrong) for g in counted)} |"
        )
    return rows


def _short(error: str) -> str:
    """An error without its place and what the user wrote."""
    text = error.partition(": ")[2].partition("; ")[0]
    ref = r"\$ref at .* is outside the schema.*"
    text = re.sub(ref, "`$ref` by address or by anchor, not by path", text)
    text = re.sub(r" at \$\S*( |$)", r"\1", text)
    text = re.sub(r"at \$\S*: ", "", text)
    text = re.sub(r"^format .*? is none of", "`format` is none of", text)
    text = re.sub(
        r"^(no JSON Schema) .*is not a 'regex'", r"a pattern that is no regex to Python", text
    )
    text = re.sub(r"/\S+/ and /\S+/", "...", re.sub(r"Some\(.*?\)", "...", text))
    text = re.sub(r"Resource '.*?'.*", "a meta-schema that is not here", text)
    return re.sub(r"got [\d.]+|: \d+$", "...", text)


def take(suite: Path) -> None:
    """Make our copy of the suite: a file for each draft, without what is not judged."""
    SUITE.mkdir(exist_ok=True)
    for draft in DRAFTS:
        out = {}
        for file in sorted((suite / "tests" / draft).rglob("*.json")):
            out[file.relative_to(suite / "tests" / draft).as_posix()] = [
                [g["description"], g["schema"],
                 [[t["description"], t["data"], t["valid"]] for t in g["tests"]]]
                for g in json.loads(file.read_text())
            ]  # fmt: skip
        text = ",\n".join(
            f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in out.items()
        )
        (SUITE / f"{draft}.json").write_text(f"{{\n{text}\n}}\n")
    (SUITE / "LICENSE").write_text((suite / "LICENSE").read_text())


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", type=Path, help="a checkout of JSON-Schema-Test-Suite")
    args = parser.parse_args()
    if args.suite is not None:
        take(args.suite)
    tokenizer = Tokenizer.from_pretrained(ROOT / "sglnb" / "assets" / "sgl-tiny")
    judged = {draft: list(groups(draft, tokenizer)) for draft in DRAFTS}
    PAGE.write_text(page(judged))
    faults = [w for found in judged.values() for g in found for w in g.wrong if not w.why]
    print(f"{PAGE}: {len(faults)} faults")


if __name__ == "__main__":
    main()
