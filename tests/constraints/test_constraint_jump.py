"""Jump-forward writes what is certain, in canonical tokens, and nothing more."""

from __future__ import annotations

import random
import re

import pytest
from constraint_tools import CHARACTER, HARRY, regexes, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import compile_constraint

PROMPTS = ["", "The answer is ", "Q: hi\nA:", "json: ", "x", "  ", "é", "日"]
PARTS = ["name", '"', ": ", ", ", "{", "}", "\n", "    ", "  ", "the ", "don't", "123", "."]
PARTS += ["ing", "tion", "日本", "😀", "é", "_", "==", "//", "Answer", "'s", "\r\n", "[]", "0x"]
VALUES = [
    (r"[a-z]{1,6}", ["cat", "answer", "q"]),
    (r"\d{1,4}", ["7", "2024"]),
    (r"[ \n]{0,3}", ["", " ", "\n  "]),
    (r"(cat|category|cats)", ["cat", "category", "cats"]),
    (r"\w+", ["été", "tion9", "the"]),
    (r'[^"\n]{0,8}', ["", " a: b,", "1 é"]),
    (r"(s|ss|)", ["", "s", "ss"]),
    (r"[\u4e00-\u4e10]{1,3}", ["一", "丁七"]),
]


def encode_after(tokenizer, prompt: str, text: str) -> tuple[list[int], list[int]] | None:
    """(prompt ids, canonical ids of ``text`` after it); None if a token spans the seam."""
    anchor = "\n" if tokenizer.encode_plain("a") != tokenizer.encode_plain("\na")[-1:] else ""
    before = tokenizer.encode_plain(anchor + prompt)
    joint = tokenizer.encode_plain(anchor + prompt + text)
    return (before, joint[len(before) :]) if joint[: len(before)] == before else None


def follow(constraint, prompt_ids: list[int], want: list[int]) -> int:
    """Write ``want`` with jump-forward, the model being an oracle; returns how many tokens
    were forced."""
    cursor, done, forced = constraint.start(), 0, 0
    while done < len(want):
        tokens = cursor.forced_tokens(prompt_ids + want[:done])
        assert tokens == want[done : done + len(tokens)]
        forced += len(tokens)
        tokens = tokens or want[done : done + 1]
        cursor.advance_many(tokens)
        done += len(tokens)
    assert cursor.is_final
    return forced


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_wholly_forced_text_is_canonical(tokenizer, prompt: str):
    rng = random.Random(prompt)
    for _ in range(12):
        text = "".join(rng.choices(PARTS, k=rng.randint(1, 8)))
        pair = encode_after(tokenizer, prompt, text)
        cursor = compile_constraint(regex=re.escape(text), tokenizer=tokenizer).start()
        assert cursor.forced() == text
        if pair is not None:
            assert cursor.forced_tokens(pair[0]) == pair[1]


def test_templates_stay_canonical(tokenizer):
    rng = random.Random(11)
    written = forced = 0
    for _ in range(25):
        regex = text = ""
        for _ in range(rng.randint(1, 4)):
            literal = "".join(rng.choices(PARTS, k=rng.randint(1, 3)))
            value, samples = rng.choice(VALUES)
            regex += re.escape(literal) + value
            text += literal + rng.choice(samples)
        pair = encode_after(tokenizer, rng.choice(PROMPTS), text)
        if pair is not None:
            constraint = compile_constraint(regex=regex, tokenizer=tokenizer)
            forced += follow(constraint, *pair)
            written += len(pair[1])
    assert forced > written / 5


def test_a_record_is_mostly_forced(tokenizer):
    constraint = compile_constraint(regex=CHARACTER, tokenizer=tokenizer)
    prompt, want = encode_after(tokenizer, "Describe Harry.\n", HARRY)
    assert follow(constraint, prompt, want) > len(want) / 2


def test_held_back_while_a_token_could_run_on(tokenizer):
    """A certain word is not written yet if its plural would be another single token."""
    (whole,) = tokenizer.encode_plain(" dog")[-1:]
    (plural,) = tokenizer.encode_plain(" dogs")[-1:]
    if tokenizer.token_bytes[whole] != b" dog" or tokenizer.token_bytes[plural] != b" dogs":
        pytest.skip("this vocabulary has no token for ' dog' and ' dogs'")
    recent = tokenizer.encode_plain("The")
    cursor = compile_constraint(regex=" dog(s|!)", tokenizer=tokenizer).start()
    assert cursor.forced() == " dog"
    assert cursor.forced_tokens(recent) == []
    assert cursor.allows(whole)
    assert cursor.allows(plural)
    cursor = compile_constraint(regex=" dog[!?]", tokenizer=tokenizer).start()
    assert cursor.forced_tokens(recent) == [whole]


def test_never_past_a_legal_end_nor_inside_a_character(tokenizer):
    cursor = compile_constraint(regex="abc(def)?", tokenizer=tokenizer).start()
    assert cursor.forced() == "abc"
    cursor = compile_constraint(regex="caf(é|è)", tokenizer=tokenizer).start()
    assert cursor.forced() == "caf"
    text = tokenizer.to_bytes(cursor.forced_tokens([])).decode()
    assert "caf".startswith(text)
    inside = compile_constraint(regex="(日|旦)x", tokenizer=tokenizer)
    cursor = inside.start()
    cursor.advance(inside.vocabulary.byte_token[0xE6])
    assert cursor.forced() == ""
    assert cursor.forced_tokens([]) == []
    assert not cursor.is_final


@settings(max_examples=80, deadline=None)
@given(regexes, st.integers(0, 2**32))
def test_forced_tokens_are_legal_and_spell_the_forced_text(tiny, regex: str, seed: int):
    rng = random.Random(seed)
    try:
        constraint = compile_constraint(regex=regex, tokenizer=tiny)
    except ConstraintError:
        return
    text = sample(constraint.dfa, rng)
    if text is None:
        return
    cursor, done = constraint.start(), []
    while text_left := text.encode()[len(tiny.to_bytes(done)) :]:
        forced = cursor.forced()
        if forced:
            assert text_left.startswith(forced.encode())
        tokens = cursor.forced_tokens(done)
        assert forced.encode().startswith(tiny.to_bytes(tokens))
        tokens = tokens or [constraint.vocabulary.byte_token[text_left[0]]]
        cursor.advance_many(tokens)
        done += tokens
    assert cursor.is_final
    assert tiny.decode(done) == text


def test_only_recent_tokens_matter(tiny):
    cursor = compile_constraint(regex="hello world", tokenizer=tiny).start()
    recent = tiny.encode_plain("Say: ")
    assert cursor.forced_tokens([5, 6, 7] * 10_000 + recent) == cursor.forced_tokens(recent)
    assert cursor.forced_tokens([2, *recent]) == cursor.forced_tokens(recent)


def test_a_long_forced_text_comes_in_parts(tiny):
    text = "The quick brown fox jumps. " * 200
    cursor = compile_constraint(regex=re.escape(text), tokenizer=tiny).start()
    ids: list[int] = []
    while not cursor.done:
        tokens = cursor.forced_tokens(ids)
        cursor.advance_many(tokens)
        ids += tokens
    assert ids == tiny.encode_plain(text)
