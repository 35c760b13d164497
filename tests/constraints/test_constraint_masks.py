"""Token masks against brute force, and walks through them."""

from __future__ import annotations

import random
import re
from functools import cache

import numpy as np
import pytest
from constraint_tools import CHARACTER, HARRY, finish, regexes
from hypothesis import given, settings
from hypothesis import strategies as st

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import compile_constraint, masks


def unpack(words: np.ndarray, size: int) -> np.ndarray:
    return np.unpackbits(words.view(np.uint8), bitorder="little")[:size].astype(bool)


class Extendable:
    """Brute force: can these bytes be the beginning of an accepted text?"""

    def __init__(self, dfa):
        self.dfa = dfa

    @cache  # noqa: B019
    def beginnings(self, state: int) -> frozenset[bytes]:
        """Every proper beginning of a character that is legal in ``state``."""
        out = set()
        for c in self.dfa.rows[state]:
            for lo, hi in self.dfa.alphabet.sets[c]:
                for code in range(max(lo, 0x80), hi + 1):
                    raw = chr(code).encode()
                    out.update(raw[:n] for n in range(1, len(raw)))
        return frozenset(out)

    def __call__(self, raw: bytes) -> bool:
        whole = raw.decode("utf-8", errors="ignore")
        if not raw.startswith(whole.encode()):
            return False
        state = 0
        for char in whole:
            state = self.dfa.rows[state].get(self.dfa.alphabet.class_of(ord(char)))
            if state is None:
                return False
        rest = raw[len(whole.encode()) :]
        return not rest or rest in self.beginnings(state)


@pytest.mark.parametrize(
    ("regex", "prefixes"),
    [
        (r"\d{4}-\d{2}", ["", "20", "2024-", "2024-01"]),
        (
            r'\{"name": "[^"\\\n]*", "n": \d+\}',
            ["", '{"na', '{"name": "x y', '{"name": "x", "n": 4'],
        ),
        ("caf(é|è)!", ["", "caf", b"caf\xc3", "café"]),
        ("[日月火]+", ["", "日", b"\xe6", b"\xe6\x97", b"\xe7\x81"]),
        ("(😀|😁|🎉)x", ["", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98", "😀"]),
        (r"(yes|no)( it is)?\.?", ["", "yes", "no it"]),
        (r"[\u0400-\u04ff ]{0,3}", ["", "д", b"\xd0", "дд "]),
        (r"(?i)hello|\s+", ["", "HE", "\n "]),
    ],
)
def test_masks_equal_brute_force(tiny, regex: str, prefixes: list):
    constraint = compile_constraint(regex=regex, tokenizer=tiny)
    extendable = Extendable(constraint.dfa)
    for prefix in prefixes:
        raw = prefix if isinstance(prefix, bytes) else prefix.encode()
        cursor = constraint.start()
        for byte in raw:
            cursor.advance(constraint.vocabulary.byte_token[byte])
        got = unpack(cursor.allowed(), tiny.vocab_size)
        want = [piece is not None and extendable(raw + piece) for piece in tiny.token_bytes]
        for eos in tiny.eos_ids:
            want[eos] = bool(re.fullmatch(regex, raw.decode(errors="replace")))
        assert np.flatnonzero(got != want).tolist() == []
        assert cursor.allowed_count == sum(want)
        assert all(cursor.allows(i) == want[i] for i in range(0, tiny.vocab_size, 7))


@settings(max_examples=60, deadline=None)
@given(regexes, st.integers(0, 2**32))
def test_random_walks_can_always_finish(tiny, regex: str, seed: int):
    rng = random.Random(seed)
    try:
        constraint = compile_constraint(regex=regex, tokenizer=tiny)
    except ConstraintError:
        return
    cursor, raw = constraint.start(), b""
    for _ in range(rng.randint(0, 8)):
        legal = np.flatnonzero(unpack(cursor.allowed(), tiny.vocab_size))
        assert len(legal) == cursor.allowed_count
        assert set(tiny.eos_ids) & set(legal.tolist()) == (
            tiny.eos_ids if cursor.is_final else set()
        )
        legal = [i for i in legal.tolist() if i not in tiny.eos_ids]
        if not legal:
            assert cursor.done
            break
        token = rng.choice(legal)
        cursor.advance(token)
        raw += tiny.token_bytes[token]
    raw += finish(cursor, constraint)
    assert re.fullmatch(regex, raw.decode())


def test_the_mask_is_packed_and_read_only(tiny):
    words = compile_constraint(regex="a", tokenizer=tiny).start().allowed()
    assert words.dtype == np.int32
    assert words.shape == (-(-tiny.vocab_size // 32),)
    with pytest.raises(ValueError):
        words[0] = 1


def test_masks_are_shared_and_equal_ones_stored_once(tiny):
    constraint = compile_constraint(regex="x{0,3000}", tokenizer=tiny)
    first, second = constraint.start(), constraint.start()
    assert first.allowed() is second.allowed()
    second.advance(constraint.vocabulary.byte_token[ord("x")])
    assert first.allowed() is second.allowed()


@pytest.mark.parametrize("text", ["caf", "café", "cafè", "日本語", "😀🎉", "a\u0301"])
def test_multi_byte_characters(tokenizer, text: str):
    constraint = compile_constraint(
        regex=r"caf(é|è)|日本[語人]|[😀-😂]🎉|a\u0301", tokenizer=tokenizer
    )
    assert constraint.accepts(text) == (text != "caf")


def test_accepts_a_real_record(tokenizer):
    constraint = compile_constraint(regex=CHARACTER, tokenizer=tokenizer)
    assert constraint.accepts(HARRY)
    assert not constraint.accepts(HARRY[:-1])
    assert not constraint.accepts(HARRY + " ")
    assert not constraint.accepts(HARRY.replace("Alive", "Dead"))
    assert not constraint.accepts("\ud800")


def test_special_tokens_are_never_text(tokenizer):
    constraint = compile_constraint(regex="(?s).*", tokenizer=tokenizer)
    legal = unpack(constraint.start().allowed(), tokenizer.vocab_size)
    special = [i for i, raw in enumerate(tokenizer.token_bytes) if raw is None]
    assert {i for i in special if legal[i]} == set(tokenizer.eos_ids)
    name = tokenizer.pieces[special[0]]
    literal = compile_constraint(regex=re.escape(name) + "x", tokenizer=tokenizer)
    assert literal.accepts(name + "x")  # spelled out, by ordinary tokens
    assert special[0] not in literal.start().forced_tokens([])


def test_byte_twins_are_left_out(tokenizer):
    """SentencePiece has ``a`` twice, as a piece and as a byte: only the piece is legal."""
    constraint = compile_constraint(regex="a", tokenizer=tokenizer)
    assert constraint.start().allowed_count == 1


class Letters:
    """A tokenizer without byte tokens: it can spell only these pieces."""

    eos_ids = frozenset({0})

    def __init__(self, *pieces: str):
        self.token_bytes = [None, *(piece.encode() for piece in pieces)]
        self.vocab_size = len(self.token_bytes)
        self.hf = self

    def convert_ids_to_tokens(self, ids):
        return [f"piece{i}" for i in ids]

    def to_bytes(self, ids):
        return b"".join(self.token_bytes[i] for i in ids)

    def encode_plain(self, text: str) -> list[int]:
        known = {raw.decode(): i for i, raw in enumerate(self.token_bytes) if raw}
        return [known[c] for c in text if c in known]


def test_a_vocabulary_that_cannot_spell_everything():
    tokenizer = Letters("a", "b", "bc")
    constraint = compile_constraint(regex="a(bc|bd|c)", tokenizer=tokenizer)
    cursor = constraint.start()
    cursor.advance(1)
    assert not cursor.allows(2), "after 'ab' neither c nor d could be written"
    assert cursor.allows(3)
    assert cursor.allowed_count == 1
    with pytest.raises(ConstraintError):
        cursor.advance(2)
    with pytest.raises(ConstraintError, match="cannot spell"):
        compile_constraint(regex="ad*c", tokenizer=tokenizer)


@pytest.mark.parametrize("regex", [CHARACTER, r'"[^"\\\n]*"', r"(?s).*", r"\w{1,20}é+"])
def test_both_ways_of_walking_a_level_agree(tokenizer, monkeypatch, regex):
    """By lists of children, and by flat arrays of all nodes."""
    fsm = compile_constraint(regex=regex, tokenizer=tokenizer)
    states = random.Random(0).sample(range(len(fsm.dfa)), min(6, len(fsm.dfa)))
    found = []
    for price in (0, 1 << 40):
        monkeypatch.setattr(masks, "_DENSE", price)
        fresh = masks.TokenMasks(fsm.vocabulary, fsm.dfa)
        found.append([fresh(q, b"") for q in states])
    for by_list, by_array in zip(*found, strict=True):
        np.testing.assert_array_equal(by_list.words, by_array.words)
        assert by_list.count == by_array.count
