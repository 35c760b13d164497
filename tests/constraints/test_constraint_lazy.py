"""Automata that are too large to build whole: the same answers, from states made on demand."""

from __future__ import annotations

import random
import re
import threading
import time

import numpy as np
import pytest
from constraint_tools import CHARACTER, regexes, sample, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from sglnb.errors import ConstraintError
from sglnb.runtime import Engine
from sglnb.runtime.constraints import compile_constraint, masks
from sglnb.runtime.constraints.budget import least_bytes
from sglnb.runtime.constraints.compiler import regex_dfa
from sglnb.runtime.constraints.determinize import Subsets
from sglnb.runtime.constraints.distance import Bounds
from sglnb.runtime.constraints.fsm import FSMConstraint
from sglnb.runtime.constraints.lazy import LazyDFA
from sglnb.runtime.constraints.minimize import minimize
from sglnb.runtime.constraints.nfa import NFA
from sglnb.runtime.constraints.shortest import shortest_ways
from sglnb.runtime.constraints.syntax import parse_regex

LARGE = [
    r"(a|b)*a(a|b){14}",
    r".*foo.{0,200}bar.*",
    r"[a-z]*[aeiou][a-z]{20}",
    r"(?:\w{1,30}[ ,.]?){1,100}",
    r"(a?){0,5000}",
    r"(?:[a-z]{0,50}){0,50}",
    r"(?:a|aa|aaa|aaaa){1,1000}",
    r"(((a{1,10}){1,10}){1,10}){1,10}",
    r"(?s).*(?:日本|foo).{0,500}(?:é|qux).*",
]


def lazy(regex: str, max_bytes: int = 1 << 20) -> LazyDFA:
    return LazyDFA(Subsets(NFA(parse_regex(regex))), max_bytes)


def constraint_of(regex: str, dfa, tokenizer) -> FSMConstraint:
    vocabulary = compile_constraint(regex="a", tokenizer=tokenizer).vocabulary
    return FSMConstraint("regex", regex, dfa, least_bytes(dfa), tokenizer, vocabulary)


def ids_of(words: np.ndarray) -> list[int]:
    return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist()


@settings(max_examples=150, deadline=None)
@given(regexes, st.lists(texts, max_size=6), st.integers(0, 2**32), st.sampled_from([0, 1 << 20]))
def test_the_same_language_as_the_whole(regex: str, tried: list[str], seed: int, kept: int):
    try:
        whole = regex_dfa(regex)
    except ConstraintError:
        with pytest.raises(ConstraintError, match="no text at all"):
            lazy(regex)
        return
    on_demand, rng = lazy(regex, kept), random.Random(seed)
    tried += [text for _ in range(3) if (text := sample(whole, rng)) is not None]
    for text in tried:
        assert on_demand.matches(text) == whole.matches(text)
    assert least_bytes(on_demand) == least_bytes(whole)


@settings(max_examples=60, deadline=None)
@given(regexes, st.integers(0, 2**32), st.sampled_from([0, 1 << 20]), st.booleans())
def test_the_same_masks_as_the_whole(tiny, regex: str, seed: int, kept: int, in_parts: bool):
    """Along a random walk with steps back, with everything forgotten all the time or nothing."""
    try:
        whole = constraint_of(regex, regex_dfa(regex), tiny)
    except ConstraintError:
        return
    other = constraint_of(regex, lazy(regex, kept), tiny)
    other.masks._in_parts = in_parts
    rng, here, there = random.Random(seed), whole.start(), other.start()
    whole_bounds, other_bounds = (Bounds(c.dfa, c.vocabulary) for c in (whole, other))
    taken = 0
    for _ in range(12):
        np.testing.assert_array_equal(here.allowed(), there.allowed())
        assert here.allowed_count == there.allowed_count
        assert (here.is_final, here.done, here.forced()) == (
            there.is_final,
            there.done,
            there.forced(),
        )
        assert here.forced_tokens([]) == there.forced_tokens([])
        if not here.place[1]:
            nodes = other.dfa.nodes(there.state)
            ways = whole_bounds._ways.length[here.state]
            assert min(other_bounds._ways.length[node] for node in nodes) == ways
        for left in (1, 3):
            one, two = (c._closer.legal(p, left) for c, p in ((whole, here), (other, there)))
            if one is not None and two is not None:
                assert set(ids_of(two.words)) >= set(tiny.eos_ids) & set(ids_of(one.words))
        legal = [i for i in ids_of(here.allowed()) if i not in tiny.eos_ids]
        if taken and (not legal or rng.random() < 0.3):
            back = rng.randint(1, taken)
            here.rollback(back)
            there.rollback(back)
            taken -= back
        elif legal:
            token = rng.choice(legal)
            here.advance(token)
            there.advance(token)
            taken += 1


@pytest.mark.parametrize("regex", LARGE)
def test_large_automata_work(tokenizer, regex: str):
    began = time.process_time()
    dfa = regex_dfa(regex)
    assert not dfa.complete
    constraint = constraint_of(regex, dfa, tokenizer)
    constraint.start().allowed()
    assert time.process_time() - began < 4  # usually under 0.5
    assert constraint.n_states is None
    rng, cursor, ids = random.Random(7), constraint.start(), []
    closer = constraint.closer(80)
    while not cursor.done and len(ids) < 80:
        mask = closer.legal(cursor, 80 - len(ids)) or masks.Mask(cursor.allowed(), 0)
        token = rng.choice(ids_of(mask.words))
        if token in tokenizer.eos_ids:
            break
        cursor.advance(token)
        ids.append(token)
    assert cursor.is_final
    pattern = regex.replace(r"(a?){0,5000}", "a{0,5000}").replace(
        r"(((a{1,10}){1,10}){1,10}){1,10}", "a{1,10000}"
    )
    pattern = pattern.replace("(?:a|aa|aaa|aaaa){1,1000}", "a{1,4000}")
    pattern = pattern.replace("(?:[a-z]{0,50}){0,50}", "[a-z]{0,2500}")
    assert re.fullmatch(pattern, tokenizer.to_bytes(ids).decode())
    cursor.rollback(len(ids))
    np.testing.assert_array_equal(cursor.allowed(), constraint.start().allowed())


def test_memory_is_bounded_and_numbers_stay_valid(tiny):
    """A thousand times more states than are kept; old cursors still know where they are."""
    regex = r"[a-z]*[aeiou][a-z]{20}"
    dfa = lazy(regex, 200_000)
    constraint = constraint_of(regex, dfa, tiny)
    whole = constraint_of(regex, lazy(regex, 1 << 28), tiny)
    rng, trail = random.Random(0), []
    here, there = constraint.start(), whole.start()
    for _ in range(60):
        trail.append(here.copy())
        legal = [i for i in ids_of(here.allowed()) if i not in tiny.eos_ids]
        token = rng.choice(legal)
        here.advance(token)
        there.advance(token)
        assert len(dfa._kept.number) < dfa._max_kept + 5_000
    assert len(dfa) > 2 * dfa._max_kept
    assert dfa.nbytes < 4_000_000
    np.testing.assert_array_equal(here.allowed(), there.allowed())
    constraint.masks._masks.clear()
    for n, old in enumerate(reversed(trail), 1):
        there.rollback(1)
        np.testing.assert_array_equal(old.allowed(), there.allowed())
        if n % 7 == 0:
            here.rollback(7)
            assert here.state == old.state


def test_several_threads(tiny):
    regex = r"[a-z]*[aeiou][a-z]{12}"
    constraint = constraint_of(regex, lazy(regex, 100_000), tiny)
    whole, wrong = constraint_of(regex, regex_dfa(regex), tiny), []

    def work(seed: int) -> None:
        rng, here, there = random.Random(seed), constraint.start(), whole.start()
        for _ in range(12):
            if not np.array_equal(here.allowed(), there.allowed()):
                wrong.append(seed)
            token = rng.choice([i for i in ids_of(there.allowed()) if i not in tiny.eos_ids])
            here.advance(token)
            there.advance(token)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_was_seen_is_drawn(tiny):
    constraint = compile_constraint(regex=r"x=(a|b)*a(a|b){14}", tokenizer=tiny)
    cursor = constraint.start()
    cursor.advance_many(tiny.encode_plain("x=abba"))
    plain, compressed = constraint.graph()
    assert 5 < len(plain.nodes) < 2_000
    assert cursor.state in {node.id for node in plain.nodes}
    assert any(edge.label == "x=" for edge in compressed.edges)


@pytest.mark.parametrize("regex", [CHARACTER, r"\d{4}-\d{2}", "a{0,5000}", r"(a*)*b"])
def test_what_fits_is_built_whole(regex: str):
    dfa = regex_dfa(regex)
    assert dfa.complete
    assert len(dfa) <= len(minimize(dfa))


def test_an_engine_follows_them():
    with Engine(kv_tokens=3_000) as engine:
        for regex in (r"(a|b)*a(a|b){14}", r"[a-z ]*[aeiou][a-z ]{20}", r".*foo.{0,200}bar.*"):
            out = engine.generate("x", {"regex": regex, "max_new_tokens": 50, "on_budget": "close"})
            assert re.fullmatch(regex, out["text"]), out["text"]
            cut = engine.generate("x", {"regex": regex, "max_new_tokens": 20, "temperature": 1})
            assert cut["text"]
        engine.check()


def test_shortest_ways_go_through_empty_moves():
    back = lazy("(?:abc|)(?:x|yy?)z").backwards()
    assert shortest_ways(back, [1] * len(back.labels)).length[0] == 2
