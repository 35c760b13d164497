"""A list of texts: any characters, exactly these, also when there are thousands."""

from __future__ import annotations

import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.choices import choices_dfa
from sglnb.runtime.constraints.minimize import minimize


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=6), min_size=1, max_size=8), st.text(max_size=6))
def test_exactly_these(tiny, choices: list[str], other: str):
    constraint = compile_constraint(choices=choices, tokenizer=tiny)
    for text in {*choices, other, choices[0] + "x", choices[-1][:-1]}:
        assert constraint.accepts(text) == (text in choices)
    assert constraint.kind == "choices"
    assert json.loads(constraint.source) == list(dict.fromkeys(choices))


@pytest.mark.parametrize("choice", ["a.b*", "(", "\\d", "\n", "日本", " yes", '"', "a|b"])
def test_nothing_is_a_regex(tokenizer, choice: str):
    constraint = compile_constraint(choices=[choice, "other"], tokenizer=tokenizer)
    assert constraint.accepts(choice)
    assert constraint.accepts("other")
    assert not constraint.accepts("ab")
    assert not constraint.accepts("4")


def test_a_single_choice_is_all_forced(tokenizer):
    cursor = compile_constraint(choices=["Yes, indeed."], tokenizer=tokenizer).start()
    assert cursor.forced() == "Yes, indeed."
    cursor.advance_many(cursor.forced_tokens(tokenizer.encode_plain("Well?\n")))
    assert cursor.done


@pytest.mark.parametrize("letters", ["abcdefghij ", "".join(map(chr, range(0x4E00, 0x5600)))])
def test_thousands(tiny, letters: str):
    rng = random.Random(1)
    choices = ["".join(rng.choices(letters, k=rng.randint(1, 15))) for _ in range(4000)]
    started = time.process_time()
    constraint = compile_constraint(choices=choices, tokenizer=tiny)
    for choice in choices[:20]:
        assert constraint.accepts(choice)
        assert constraint.accepts(choice + "a") == (choice + "a" in choices)
    assert time.process_time() - started < 10  # usually under 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("abc日", max_size=6), min_size=1, max_size=30))
def test_choices_are_the_smallest_automaton_of_the_list(choices: list[str]):
    dfa = choices_dfa(tuple(dict.fromkeys(choices)))
    assert len(dfa) == len(minimize(dfa))
    for text in [*choices, *(text + "a" for text in choices), *(text[:-1] for text in choices)]:
        assert dfa.matches(text) == (text in choices), text


def test_a_hundred_thousand_choices(tiny):
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(3, 12))) for _ in range(100_000)]
    constraint = compile_constraint(choices=words, tokenizer=tiny)
    assert all(constraint.accepts(word) for word in words[:50])
    assert not constraint.accepts("abcdefghabcdefgh")
