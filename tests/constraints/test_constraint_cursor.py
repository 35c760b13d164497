"""Cursors move forward, back and apart; compiled constraints are shared."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
from constraint_tools import CHARACTER, HARRY

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import compile_constraint, compiler
from sglnb.runtime.tokenizer import Tokenizer


def snapshot(cursor) -> tuple:
    return (
        cursor.state,
        cursor.is_final,
        cursor.done,
        cursor.forced(),
        cursor.allowed_count,
        cursor.allowed().tobytes(),
    )


def test_rollback_and_copy_are_exact(tiny):
    rng = random.Random(3)
    constraint = compile_constraint(regex="(日本|日月|[a-c]+|😀){1,9}.", tokenizer=tiny)
    cursor = constraint.start()
    trail = [snapshot(cursor)]
    for _ in range(300):
        twin = cursor.copy()
        if rng.random() < 0.4:
            n = rng.randint(0, len(trail) - 1)
            cursor.rollback(n)
            trail = trail[: len(trail) - n]
        else:
            bits = np.unpackbits(cursor.allowed().view(np.uint8), bitorder="little")
            cursor.advance(int(rng.choice(np.flatnonzero(bits))))
            trail.append(snapshot(cursor))
        assert snapshot(cursor) == trail[-1]
        assert twin.copy().allowed() is twin.allowed()
    cursor.rollback(len(trail) - 1)
    assert snapshot(cursor) == snapshot(constraint.start())
    with pytest.raises(ValueError, match="rollback"):
        cursor.rollback(1)
    with pytest.raises(ValueError, match="rollback"):
        cursor.rollback(-1)


def test_a_wrong_token_does_not_move_the_cursor(tiny):
    constraint = compile_constraint(regex="yes|no", tokenizer=tiny)
    cursor = constraint.start()
    before = snapshot(cursor)
    for token in (*tiny.eos_ids, 0, -1, tiny.vocab_size, *tiny.encode_plain("maybe")):
        with pytest.raises(ConstraintError, match="not allowed"):
            cursor.advance(token)
        assert not cursor.allows(token)
    with pytest.raises(ConstraintError):
        cursor.advance_many([*tiny.encode_plain("ye"), *tiny.encode_plain("x")])
    assert snapshot(cursor) == before


def test_the_end(tiny):
    (eos,) = tiny.eos_ids
    cursor = compile_constraint(regex="ab?", tokenizer=tiny).start()
    assert not cursor.is_final
    assert not cursor.allows(eos)
    cursor.advance_many(tiny.encode_plain("a"))
    assert cursor.is_final
    assert not cursor.done
    assert cursor.allows(eos)
    cursor.advance(eos)
    assert cursor.done
    assert cursor.allowed_count == 1
    assert cursor.allows(eos)
    cursor.advance(eos)
    cursor.rollback(2)
    assert not cursor.done
    assert cursor.allows(eos)
    cursor.advance_many(tiny.encode_plain("b"))
    assert cursor.done
    assert cursor.allowed_count == 1


def test_compiled_once_and_shared(tiny):
    first = compile_constraint(regex="[a-f]+", tokenizer=tiny)
    assert compile_constraint(regex="[a-f]+", tokenizer=tiny) is first
    assert compile_constraint(choices=["[a-f]+"], tokenizer=tiny) is not first
    other = Tokenizer(tiny.hf)
    assert compile_constraint(regex="[a-f]+", tokenizer=other) is not first
    assert (first.kind, first.source, first.n_states) == ("regex", "[a-f]+", 2)
    assert first.compile_ms > 0


def test_threads_compile_once(tiny, monkeypatch):
    calls, got = [], []
    build = compiler.regex_dfa
    monkeypatch.setattr(compiler, "regex_dfa", lambda regex: calls.append(1) or build(regex))
    tokenizer = Tokenizer(tiny.hf)
    ready = threading.Barrier(6)

    def work():
        ready.wait()
        constraint = compile_constraint(regex=CHARACTER, tokenizer=tokenizer)
        got.append(constraint)
        assert constraint.accepts(HARRY)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 6
    assert len(set(map(id, got))) == 1
    assert len(calls) == 1


def test_failures_are_remembered_and_the_cache_is_bounded(tiny, monkeypatch):
    calls = []
    build = compiler.regex_dfa
    monkeypatch.setattr(compiler, "regex_dfa", lambda regex: calls.append(regex) or build(regex))
    monkeypatch.setattr(compiler, "MAX_CACHED", 3)
    tokenizer = Tokenizer(tiny.hf)
    for _ in range(3):
        with pytest.raises(ConstraintError, match="unterminated"):
            compile_constraint(regex="[", tokenizer=tokenizer)
    assert calls == ["["]
    for regex in ("a", "b", "a", "c", "d", "a", "b"):
        compile_constraint(regex=regex, tokenizer=tokenizer)
    assert calls == ["[", "a", "b", "c", "d", "b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of regex, choices, json_schema"),
        ({"regex": "a", "choices": ["a"]}, "regex and choices: give only one"),
        ({"regex": 3}, "expected a string, got int"),
        ({"choices": []}, "the list is empty"),
        ({"choices": "yes"}, "expected a list of strings, got str"),
        ({"choices": ["a", 1]}, r"choices\[1\]: expected a string, got int"),
        ({"choices": ["\ud800"]}, "surrogate"),
    ],
)
def test_wrong_arguments(tiny, arguments, message):
    with pytest.raises(ConstraintError, match=message):
        compile_constraint(**arguments, tokenizer=tiny)
