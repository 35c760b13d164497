"""Random regexes against independent oracles: ``re``, and brute force over the vocabulary."""

from __future__ import annotations

import random
import re
from functools import cache

import numpy as np
from constraint_tools import Writer, near, regexes, texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.compiler import regex_dfa

PAIRS = 10_000
_LENGTH = 14


def test_ten_thousand_pairs_agree_with_fullmatch():
    """Texts of the automaton, those with a mistake, and any."""
    pairs = matching = 0

    @settings(max_examples=800, deadline=None, database=None)
    @given(regexes, st.lists(texts, min_size=2, max_size=4), st.integers(0, 2**32))
    def check(regex: str, tried: list[str], seed: int) -> None:
        nonlocal pairs, matching
        pattern, rng = re.compile(regex), random.Random(seed)
        try:
            dfa = regex_dfa(regex)
        except ConstraintError:  # nothing can match
            assert not any(map(pattern.fullmatch, tried))
            return
        write = Writer(dfa)
        written = [write(rng, rng.randint(0, 6)) for _ in range(6)]
        for text in written:
            assert pattern.fullmatch(text), text
        wrong = [near(text, rng) for text in written for _ in range(2)]
        for text in (*tried, *wrong):
            if len(text) <= _LENGTH:  # re may take exponential time
                pairs += 1
                expected = pattern.fullmatch(text) is not None
                assert dfa.matches(text) == expected, text
                matching += expected
        pairs += len(written)
        matching += len(written)

    check()
    assert pairs >= PAIRS
    assert pairs * 0.2 < matching < pairs * 0.8


def test_tokens_agree_with_fullmatch(tokenizer):
    """The same through the masks of each tokenizer."""

    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(regexes, st.lists(texts, min_size=1, max_size=3), st.integers(0, 2**32))
    def check(regex: str, tried: list[str], seed: int) -> None:
        rng = random.Random(seed)
        try:
            constraint = compile_constraint(regex=regex, tokenizer=tokenizer)
        except ConstraintError:
            return
        write = Writer(constraint.dfa)
        written = [write(rng, rng.randint(0, 4)) for _ in range(2)]
        for text in written:
            assert constraint.accepts(text), text
        for text in (*tried, *(near(text, rng) for text in written)):
            if len(text) <= _LENGTH:
                assert constraint.accepts(text) == bool(re.fullmatch(regex, text)), text

    check()


@cache
def becoming() -> dict[bytes, np.ndarray]:
    """For each proper beginning of a character's bytes, every character that begins so."""
    out: dict[bytes, list[int]] = {}
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x110000)):
        raw = chr(code).encode()
        for n in range(1, len(raw)):
            out.setdefault(raw[:n], []).append(code)
    return {begun: np.array(codes) for begun, codes in out.items()}


class Beginnings:
    """Whether bytes can be the beginning of an accepted text, by trying. Every state of the
    automaton can reach an end, as other tests show."""

    def __init__(self, dfa):
        self.dfa = dfa
        self._known: dict[tuple[int, bytes], bool] = {}

    def __contains__(self, raw: bytes) -> bool:
        whole = raw.decode("utf-8", errors="ignore")
        if not raw.startswith(whole.encode()):
            return False
        state = 0
        for char in whole:
            state = self.dfa.rows[state].get(self.dfa.alphabet.class_of(ord(char)))
            if state is None:
                return False
        rest = raw[len(whole.encode()) :]
        if not rest:
            return True
        known = self._known.get((state, rest))
        if known is None:
            codes = becoming().get(rest, np.array([], dtype=np.int64))
            classes = np.unique(self.dfa.alphabet.classify(codes)).tolist()
            known = self._known[state, rest] = bool(set(classes) & set(self.dfa.rows[state]))
        return known


@settings(max_examples=25, deadline=None)
@given(regexes, st.integers(0, 2**32))
def test_masks_equal_brute_force_over_the_vocabulary(tiny, regex: str, seed: int):
    """After a random beginning, which may end inside a character; and all of it taken back."""
    rng = random.Random(seed)
    try:
        constraint = compile_constraint(regex=regex, tokenizer=tiny)
    except ConstraintError:
        return
    text = Writer(constraint.dfa)(rng, 4).encode()
    raw = text[: rng.randint(0, len(text))]
    cursor, before = constraint.start(), constraint.start().allowed()
    for byte in raw:
        cursor.advance(constraint.vocabulary.byte_token[byte])
    bits = np.unpackbits(cursor.allowed().view(np.uint8), bitorder="little")
    got = bits[: tiny.vocab_size].astype(bool)
    beginnings = Beginnings(constraint.dfa)
    want = [piece is not None and raw + piece in beginnings for piece in tiny.token_bytes]
    for eos in tiny.eos_ids:
        want[eos] = _ends(regex, raw)
    assert np.flatnonzero(got != want).tolist() == []
    cursor.rollback(len(raw))
    assert cursor.allowed() is before


def _ends(regex: str, raw: bytes) -> bool:
    try:
        return re.fullmatch(regex, raw.decode()) is not None
    except UnicodeDecodeError:
        return False
