"""Constraints in the engine: what comes out matches, jumped or not."""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import pytest

PROMPT = "<|im_start|>user\nAnswer.<|im_end|>\n<|im_start|>assistant\n"
REGEXES = [
    r'\{"name": "[A-Z][a-z]{1,12}", "age": [0-9]{1,3}\}',
    r"(\+\d{1,2} )?\d{3}-\d{4}",
    r"[a-z]+(, [a-z]+){2}\.",
    r"(日本|日中)語テスト[一-三]",
    r"caf(é|è) (au lait|noir)",
    r"(?i:yes|no)(!{1,3})?",
    r"\w+@\w+\.(com|org)",
]
FORCED = ["Hello, world: nothing else will do.", r"日本語テスト", "x = 12345\n", '{"a": [1, 2, 3]}']


@pytest.mark.parametrize("jump", [True, False])
def test_finished_outputs_match_the_regex(engine, jump):
    asked = [
        {"temperature": 1.0, "seed": seed, "regex": regex, "max_new_tokens": 40}
        for regex in REGEXES
        for seed in range(4)
    ]
    results = engine.generate([PROMPT] * len(asked), [q | {"jump_forward": jump} for q in asked])
    engine.check()
    ended = 0
    for params, result in zip(asked, results, strict=True):
        reason = result["meta_info"]["finish_reason"]["type"]
        if reason == "stop":
            ended += 1
            assert re.fullmatch(params["regex"], result["text"])
        else:
            assert reason == "length"
        assert (result["meta_info"]["forced_tokens"] > 0) <= jump
    assert ended > len(asked) // 2


@pytest.mark.parametrize("text", FORCED)
def test_forced_text_needs_no_model(engine, text):
    params = {"temperature": 0, "regex": re.escape(text), "max_new_tokens": 60}
    steps = engine.metrics()["steps"]
    jumped = engine.generate(PROMPT, params)
    assert engine.metrics()["steps"] == steps, "no forward pass at all"
    walked = engine.generate(PROMPT, params | {"jump_forward": False})
    assert jumped["text"] == walked["text"] == text
    canonical = engine.tokenizer.encode_plain(text)
    assert jumped["output_ids"] == canonical
    assert jumped["meta_info"]["forced_tokens"] == len(canonical)


@pytest.mark.parametrize("retokenize", ["hold-back", "rewind"])
def test_jumps_with_all_else(engine, retokenize):
    """Jump-forward with log-probabilities, a stream, several texts, stop strings and a budget, all
    at once and at random."""
    rng, reasons, forced = random.Random(retokenize), Counter(), 0
    for seed in range(14):
        regex, stop = rng.choice(REGEXES), rng.choice([None, None, ["e"], ['",', "lait"], "-4"])
        params = {
            "regex": regex, "n": rng.choice([1, 3]), "max_new_tokens": rng.choice([4, 14, 40]),
            "temperature": rng.choice([0, 1.2]), "seed": seed, "on_budget": "cut",
            "retokenize": retokenize, **({} if stop is None else {"stop": stop}),
        }  # fmt: skip
        last: dict[int, dict] = {}
        for part in engine.generate(PROMPT, params, stream=True, return_logprob=True):
            index = part.get("index", 0)
            assert index not in last or part["text"].startswith(last[index]["text"])
            last[index] = part
        again = engine.generate(PROMPT, params)
        again = [again] if params["n"] == 1 else again
        assert [last[i]["text"] for i in sorted(last)] == [one["text"] for one in again]
        for one in last.values():
            text, ids, info = one["text"], one["output_ids"], one["meta_info"]
            reason, scores = info["finish_reason"], info["output_token_logprobs"]
            assert [i for _, i, _ in scores] == ids
            assert all(score is not None and score <= 1e-5 for score, _, _ in scores)
            assert len(ids) == info["completion_tokens"] <= params["max_new_tokens"]
            forced += info["forced_tokens"]
            matched = reason.get("matched")
            reasons[reason["type"], isinstance(matched, str)] += 1
            if reason["type"] == "length":
                assert len(ids) == params["max_new_tokens"]
            elif isinstance(matched, str):
                assert matched in ([stop] if isinstance(stop, str) else stop)
                assert matched not in text
            else:
                assert re.fullmatch(regex, text)
    assert forced > 50
    assert min(reasons["stop", False], reasons["stop", True], reasons["length", False]) > 2
    engine.check()


def test_choices_are_taken_whole(engine):
    choices = ["Rome", "Rome, Italy", "Paris", "<b>bold</b>", "日本"]
    for seed in range(5):
        params = {"temperature": 1.2, "seed": seed, "choices": choices}
        assert engine.generate(PROMPT, params)["text"] in choices


def test_a_jump_respects_budget_and_stop(engine):
    params = {"temperature": 0, "regex": "abcdef ghijk lmnop"}
    cut = engine.generate(PROMPT, params | {"max_new_tokens": 3, "on_budget": "cut"})
    assert len(cut["output_ids"]) == 3
    assert cut["meta_info"]["finish_reason"]["type"] == "length"
    assert engine.generate(PROMPT, params | {"stop": "gh"})["text"] == "abcdef "


def test_least_tokens_hold_where_the_constraint_lets_them(engine):
    longer = {"temperature": 0, "regex": "[a-z]*", "min_new_tokens": 5, "max_new_tokens": 30}
    assert engine.generate(PROMPT, longer)["meta_info"]["completion_tokens"] >= 5
    ends = {"temperature": 0, "regex": "abc", "min_new_tokens": 9, "max_new_tokens": 30}
    assert engine.generate(PROMPT, ends)["text"] == "abc"


def test_events_count_what_the_mask_left(engine):
    seen = engine.events.next_seq
    regex = r'\{"n": [1-3]\}'
    engine.submit(PROMPT, {"temperature": 0, "regex": regex}, run="r").result()
    engine.check()
    tokens = [e for e in engine.events.since(seen) if e.kind == "tokens"]
    assert {e.how for e in tokens} == {"sampled", "forced"}
    digit = next(e for e in tokens if e.how == "sampled" and e.pieces[0].strip() in "123")
    assert 1 <= digit.allowed[0] <= 12
    assert 0 <= digit.mass[0] <= 1
    assert [digit.fsm_before] != digit.fsm_after
    assert json.dumps([e.to_dict() for e in tokens])
