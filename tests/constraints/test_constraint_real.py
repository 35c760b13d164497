"""Regexes as people write them: all compile, and mean what ``re`` says they mean."""

from __future__ import annotations

import random
import re
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import regex as unicode
from conftest import load
from constraint_tools import Writer, near

from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.compiler import regex_dfa

_LINES = Path(__file__).with_name("real_regexes.txt").read_text(encoding="utf-8").split("\n")
REGEXES = [line for line in _LINES if line and not line.startswith("# ")]


def test_there_are_many_and_each_once():
    assert len(REGEXES) >= 150
    assert len(set(REGEXES)) == len(REGEXES)


@pytest.mark.parametrize("part", range(4))
def test_all_of_them_agree_with_fullmatch(part: int):
    """On texts written by the automaton, and on those with a small mistake."""
    rng = random.Random(part)
    for source in REGEXES[part::4]:
        dfa = regex_dfa(source)
        pattern = (unicode if r"\p{" in source else re).compile(source)
        write = Writer(dfa)
        for length in (0, 3, 20, 80):
            text = write(rng, length)
            assert pattern.fullmatch(text), (source, text)
            for _ in range(4):
                wrong = near(text, rng, '0aZ- ."é日\n')
                assert dfa.matches(wrong) == bool(pattern.fullmatch(wrong)), (source, wrong)


@pytest.mark.parametrize("name", ["sgl-tiny", "llama2", "qwen"])
def test_a_model_can_write_them(name: str):
    """Each text of the automaton can be written token by token; and the cost of it."""
    tokenizer, rng = load(name), random.Random(name)
    compile_constraint(regex="a", tokenizer=tokenizer)
    first = []
    for source in REGEXES[::3]:
        dfa = regex_dfa(source)
        text = Writer(dfa)(rng, 12)
        began = time.process_time()
        constraint = compile_constraint(regex=source, tokenizer=tokenizer)
        constraint.start().allowed()
        first.append(time.process_time() - began)
        assert constraint.accepts(text), (source, text)
        assert not constraint.accepts(text + "\0")
    assert statistics.median(first) < 0.05  # 0.003 on an idle machine
    assert np.percentile(first, 99) < 1.5  # 0.1
