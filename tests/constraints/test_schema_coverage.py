"""The official JSON Schema test suite against the constraint, as docs/json_schema.md tells it."""

from __future__ import annotations

import copy
import importlib.util
import json
import random
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema.validators import validator_for

from sglnb.runtime.constraints.schema_check import _flat_meta_schema
from sglnb.runtime.constraints.schema_look import _DIALECTS, _LOOKS, is_surely_schema

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def coverage():
    spec = importlib.util.spec_from_file_location("coverage", ROOT / "docs" / "schema_coverage.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def judged(coverage, tiny):
    return {draft: list(coverage.groups(draft, tiny)) for draft in coverage.DRAFTS}


def test_only_what_is_explained_is_otherwise(judged):
    wrong = [w for found in judged.values() for group in found for w in group.wrong]
    assert [w for w in wrong if not w.why] == []
    assert len(wrong) < 90
    assert sum(not w.valid for w in wrong) < 10, "invalid, and not found"


def test_what_is_not_enforced_is_refused_with_its_place(judged):
    for found in judged.values():
        for group in found:
            if group.how != "enforced":
                assert re.search(r"\bat \$", group.error), group
                assert "\n" not in group.error


def test_most_is_enforced_or_found(judged):
    for found in judged.values():
        hows = [group.how for group in found]
        assert hows.count("enforced") > 0.43 * len(hows)
        assert hows.count("refused") < 0.18 * len(hows)


def test_the_page_is_true(coverage, judged):
    page = coverage.PAGE.read_text()
    assert coverage.page(judged) == page, "run python docs/schema_coverage.py"


def test_a_quick_look_is_never_wrong(coverage):
    """What is taken for a schema at a glance is one for the library: the suite's schemas and its
    instances, as they are and with a keyword more, under each draft that is known."""
    rng, sure, plain = random.Random(0), 0, 0
    for draft in coverage.DRAFTS:
        for entries in json.loads((coverage.SUITE / f"{draft}.json").read_text()).values():
            for _, schema, cases in entries:
                plain += is_surely_schema(schema)
                for one in (schema, *(instance for _, instance, _ in cases)):
                    for each in (one, *(_with_one_more(one, rng) for _ in range(2))):
                        if is_surely_schema(each):
                            kind = validator_for(each, default=jsonschema.Draft202012Validator)
                            kind.check_schema(each, format_checker=kind.FORMAT_CHECKER)
                            sure += 1
    assert sure > 1500
    assert plain > 500


_VALUES = [True, None, 0, -1, 1.0, 0.5, "", "a", "^a(", "string", "#/a", "#a b", "https://a.b/c",
           [], ["a"], ["a", "a"], ["string", "null"], {}, {"type": "string"}, {"a": {"type": "x"}},
           [{}], [{"type": 3}], {"(": {}}, {"^a$": True}, *_DIALECTS]  # fmt: skip


def _with_one_more(schema: Any, rng: random.Random) -> Any:
    """A copy with a keyword more, in it or in a schema of it."""
    out = copy.deepcopy(schema)
    at = [out]
    for one in at:
        if isinstance(one, dict | list):
            at += one.values() if isinstance(one, dict) else one
    at = [one for one in at if isinstance(one, dict)]
    if at:
        rng.choice(at)[rng.choice([*_LOOKS, "const"])] = copy.deepcopy(rng.choice(_VALUES))
    return out


def test_the_flat_meta_schema_judges_as_the_librarys(coverage):
    """On the suite's schemas, and on its instances taken for schemas."""
    validator = jsonschema.Draft202012Validator
    flat, seen = _flat_meta_schema(), 0
    for draft in coverage.DRAFTS:
        for entries in json.loads((coverage.SUITE / f"{draft}.json").read_text()).values():
            for _, schema, cases in entries:
                for one in (schema, *(instance for _, instance, _ in cases)):
                    try:
                        validator.check_schema(one)
                        fine = True
                    except jsonschema.SchemaError:
                        fine = False
                    assert flat.is_valid(one) is fine, one
                    seen += not fine
    assert seen > 100
