"""Texts end legally before their tokens run out, and as late as can be."""

from __future__ import annotations

import json
import random
import re

import jsonschema
import numpy as np
import pytest
from constraint_tools import CHARACTER, regexes
from dice import write
from hypothesis import given, settings
from hypothesis import strategies as st

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import compile_constraint, llg_closing
from sglnb.runtime.constraints.distance import FAR, Best, Bounds, Spelled
from sglnb.runtime.constraints.llg_closing import LLGCloser

CASES = [
    r"[a-z]{3,9}",
    r'\{"name": "[\w ]{1,16}", "age": [0-9]{1,3}\}',
    r"(yes|no|a longer answer that takes many tokens)",
    r"(caf|th)é(日本|日中)語{1,3}",
    r"(ab|cd){4,20}\.",
    r"\w+@\w+\.(com|org)",
]


@pytest.mark.parametrize("jump", [False, True])
@pytest.mark.parametrize("regex", CASES)
def test_a_random_writer_always_ends_in_time(tokenizer, regex: str, jump: bool):
    constraint = compile_constraint(regex=regex, tokenizer=tokenizer)
    rng = random.Random(regex)
    least = next(n for n in range(1, 60) if constraint.closer(n))
    for budget in (least, least + 1, least + rng.randint(2, 30)):
        ids = write(constraint, tokenizer, rng, budget, jump=jump)
        assert len(ids) <= budget
        assert re.fullmatch(regex, tokenizer.to_bytes(ids).decode())


@settings(max_examples=60, deadline=None)
@given(regexes, st.integers(0, 2**32))
def test_bounds_are_reachable_and_no_token_is_lost(tiny, regex: str, seed: int):
    try:
        constraint = compile_constraint(regex=regex, tokenizer=tiny)
        exact = Spelled(constraint.masks, constraint.dfa, constraint.vocabulary)
    except (ConstraintError, OverflowError):
        return
    bounds = Bounds(constraint.dfa, constraint.vocabulary)
    best = Best(constraint.dfa, constraint.vocabulary, constraint.masks)
    assert best.least <= exact.of(0, b"") <= best.of(0, b"")
    for (state, begun), tokens in exact.known.items():
        assert tokens <= best.of(state, begun) <= bounds.of(state, begun) <= bounds.farthest
    for state in range(len(constraint.dfa)):
        left, (here, begun) = bounds.of(state, b""), (state, b"")
        while left:  # some token always keeps the promise
            ways = [
                (landing.states[at], landing.tails[at])
                for landing in constraint.masks.landings(here, begun)
                for at in np.flatnonzero(bounds.of_landing(landing) < left)[:1]
            ]
            (here, tail), left = ways[0], left - 1
            begun = tail if isinstance(tail, bytes) else constraint.vocabulary.tails[tail]
        assert here in constraint.dfa.final
        assert not begun
    assert constraint.at_least(0) <= constraint.at_least(best.least) <= best.least
    assert not best.least or constraint.at_least(best.least - 1) >= min(1, best.least)
    least = best.of(0, b"")
    rng = random.Random(seed)
    for budget in {least, least + rng.randint(0, 6)} - {0}:
        ids = write(constraint, tiny, rng, budget, jump=rng.random() < 0.5)
        text = tiny.to_bytes(ids).decode()
        assert len(ids) <= budget
        assert constraint.dfa.matches(text)


def test_the_bounds_are_nearly_exact(tokenizer):
    """How much too early a text is closed: on each state of some automata, in tokens."""
    total = over = 0
    for regex in CASES:
        constraint = compile_constraint(regex=regex, tokenizer=tokenizer)
        bounds = Bounds(constraint.dfa, constraint.vocabulary)
        best = Best(constraint.dfa, constraint.vocabulary, constraint.masks)
        if regex.isascii():
            assert best.of(0, b"") == best.least
        for state in range(len(constraint.dfa)):
            total += best.of(state, b"")
            over += bounds.of(state, b"") - best.of(state, b"")
    assert 0 <= over <= total / 10


def test_the_model_chooses_until_the_end_is_near(tiny):
    constraint = compile_constraint(regex=r'"[a-z ]{0,60}"', tokenizer=tiny)
    closer, cursor = constraint.closer(20), constraint.start()
    assert closer.legal(cursor, 20) is None
    (quote,) = tiny.encode_plain('"')
    cursor.advance(quote)
    assert closer.legal(cursor, 2) is None
    last = closer.legal(cursor, 1)
    assert 1 <= last.count <= 2
    assert last.words[quote >> 5] >> (quote & 31) & 1


def test_far_is_far(tiny):
    constraint = compile_constraint(regex="abc", tokenizer=tiny)
    exact = Spelled(constraint.masks, constraint.dfa, constraint.vocabulary)
    assert exact.of(0, b"\xe6") == FAR


def test_a_record_at_every_budget(tiny):
    constraint = compile_constraint(regex=CHARACTER, tokenizer=tiny)
    least = next(n for n in range(400) if constraint.closer(n))
    assert least > 50
    for budget in range(least, least + 12, 3):
        text = tiny.to_bytes(write(constraint, tiny, random.Random(budget), budget)).decode()
        assert re.fullmatch(CHARACTER, text)


# -- schemas and grammars -------------------------------------------------------------------

SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
     "required": ["a", "b"]},
    {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 2},
    {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    {"type": "string", "pattern": "^[a-z]{2,5}-[0-9]{3}$"},
    {"type": "string", "format": "date"},
    {"type": "object", "properties": {"id": {"type": "string", "minLength": 8},
     "next": {"$ref": "#"}}, "required": ["id"], "additionalProperties": False},
    {},
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(SCHEMAS)))
def test_json_is_closed_in_time(tokenizer, at: int):
    schema = SCHEMAS[at]
    constraint = compile_constraint(json_schema=schema, tokenizer=tokenizer)
    rng, found = random.Random(at), 0
    for budget in (1, 2, 4, 8, 13, 24, 40):
        ids = write(constraint, tokenizer, rng, budget, jump=rng.random() < 0.5, eager=0)
        if ids is not None:
            found += 1
            assert len(ids) <= budget
            jsonschema.validate(json.loads(tokenizer.to_bytes(ids)), schema)
    assert found >= 3


NESTED = """start: sum
sum: product (("+"|"-") product)*
product: part (("*"|"/") part)*
part: NUMBER | "(" sum ")" | NAME "(" sum ("," sum)* ")"
NUMBER: /[0-9]+/
NAME: /[a-z]{3,8}/"""


def test_a_nested_grammar_is_closed_in_time(tokenizer):
    """Names are written letter by letter, so the grammar is deep before anything closes it."""
    constraint = compile_constraint(grammar=NESTED, tokenizer=tokenizer)
    rng = random.Random(1)
    for budget in (1, 2, 3, 5, 9, 17, 40, 120):
        ids = write(constraint, tokenizer, rng, budget, eager=0)
        assert len(ids) <= budget
        text = tokenizer.to_bytes(ids).decode()
        assert constraint.accepts(text)
        assert re.search(r"[0-9]", text)


def test_looking_for_an_end_has_a_bound(tokenizer, monkeypatch):
    """Counted in masks: on the engine's thread other requests wait for it."""
    constraint = compile_constraint(grammar=NESTED, tokenizer=tokenizer)
    masks = []
    whole = llg_closing._likely_ends
    monkeypatch.setattr(llg_closing, "_likely_ends", lambda *a: masks.append(1) or whole(*a))
    keeps, most = LLGCloser.keeps, 0

    def counted(closer, *place):
        nonlocal most
        masks.clear()
        out = keeps(closer, *place)
        most = max(most, len(masks))
        return out

    monkeypatch.setattr(LLGCloser, "keeps", counted)
    for seed in range(4):
        write(constraint, tokenizer, random.Random(seed), 100, eager=0)
    assert 0 < most <= llg_closing.LOOKS


def test_a_long_way_is_found_and_kept(tokenizer):
    """Dozens of choices without a choice: a search that looks to the sides never gets there."""
    schema = {
        "type": "object",
        "properties": {"day": {"format": "date", "type": "string"},
                       "id": {"format": "uuid", "type": "string"}},
        "required": ["day", "id"], "additionalProperties": False,
    }  # fmt: skip
    constraint = compile_constraint(json_schema=schema, whitespace="indent", tokenizer=tokenizer)
    for seed in range(4):
        ids = write(constraint, tokenizer, random.Random(seed), 150)
        jsonschema.validate(json.loads(tokenizer.to_bytes(ids)), schema)


def test_a_pattern_that_wants_a_letter_somewhere(tokenizer):
    schema = {"type": "array", "items": {"type": "string", "pattern": "q"}, "minItems": 2}
    constraint = compile_constraint(json_schema=schema, tokenizer=tokenizer)
    for seed in range(4):
        ids = write(constraint, tokenizer, random.Random(seed), 80)
        jsonschema.validate(json.loads(tokenizer.to_bytes(ids)), schema)


def test_a_word_of_a_format_is_not_refused_while_there_is_room(tokenizer):
    """A value's closing quote comes before the signs that would make it longer."""
    for name, begun in (("hostname", '"'), ("hostname", '"a'), ("time", '"'), ("uuid", '"')):
        constraint = compile_constraint(json_schema={"format": name}, tokenizer=tokenizer)
        closer, cursor = constraint.closer(200), constraint.start()
        for n, token in enumerate(constraint.spelling.spell(begun), 1):
            cursor.advance(token)
            assert closer.keeps(cursor, token, 200 - n), (name, begun)
