"""The engine brings constrained texts to a legal end within ``max_new_tokens``."""

from __future__ import annotations

import json
import random
import re

import jsonschema
import pytest
from constraint_tools import CHARACTER
from test_budget import SCHEMAS

import sglnb as sgl
from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import compile_constraint

PROMPT = "Answer: "
REGEXES = [
    r"[a-z ]{3,40}\.",
    r'\{"name": "[\w ]{1,16}", "age": [0-9]{1,3}\}',
    r"(\+\d{1,2} )?\d{3}-\d{4}",
    r"[a-z]+(, [a-z]+){2}\.",
    r"(caf|th)é (au lait|noir)+!",
    r"\w+@\w+\.(com|org)",
    CHARACTER,
]


def least(engine, **source) -> int:
    constraint = compile_constraint(tokenizer=engine.tokenizer, **source)
    return next(n for n in range(1, 300) if constraint.closer(n))


@pytest.mark.parametrize("jump", [True, False])
def test_random_budgets_in_one_batch(engine, jump):
    rng = random.Random(jump)
    params = []
    for regex in REGEXES:
        few = least(engine, regex=regex)
        params += [{"regex": regex, "max_new_tokens": few + rng.randint(0, 12)} for _ in range(4)]
    for schema in SCHEMAS:
        few = least(engine, json_schema=schema)
        params += [
            {"json_schema": schema, "max_new_tokens": few + rng.randint(0, 20)} for _ in "ab"
        ]
    extra = {"on_budget": "close", "jump_forward": jump, "temperature": 1.5}
    for i, one in enumerate(params):
        one |= extra | {"seed": i, "min_new_tokens": rng.choice([0, 0, 5])}
        one["min_new_tokens"] = min(one["min_new_tokens"], one["max_new_tokens"])
    results = engine.generate([PROMPT] * len(params), params)
    engine.check()
    closed = 0
    for one, result in zip(params, results, strict=True):
        meta, text = result["meta_info"], result["text"]
        assert meta["completion_tokens"] <= one["max_new_tokens"]
        assert meta["constraint_met"]
        if "regex" in one:
            assert re.fullmatch(one["regex"], text)
        else:
            jsonschema.validate(json.loads(text), one["json_schema"])
        closed += meta["closed_by_budget"]
        if meta["finish_reason"]["type"] == "length":
            assert meta["closed_by_budget"]
    assert closed > len(params) / 3


def test_the_same_seed_gives_the_same_text_whatever_ran_before(engine):
    few = least(engine, regex=REGEXES[1])
    params = {"regex": REGEXES[1], "max_new_tokens": few + 3, "on_budget": "close", "seed": 3}
    first = engine.generate(PROMPT, params)
    engine.generate([PROMPT] * 5, params | {"max_new_tokens": few, "seed": None})
    assert engine.generate(PROMPT, params)["output_ids"] == first["output_ids"]


def test_enough_room_changes_nothing(engine):
    params = {"regex": r"[a-z]{2,8}!", "seed": 5, "max_new_tokens": 100}
    plain = engine.generate(PROMPT, params)
    roomy = engine.generate(PROMPT, params | {"on_budget": "close"})
    assert plain["output_ids"] == roomy["output_ids"]
    assert not roomy["meta_info"]["closed_by_budget"]


def test_cut_error_and_close(engine):
    regex = r"[a-z ]{80,200}\."
    params = {"regex": regex, "max_new_tokens": least(engine, regex=regex) + 1, "seed": 1}
    cut = engine.generate(PROMPT, params)
    assert cut["meta_info"]["finish_reason"]["type"] == "length"
    assert not cut["meta_info"]["constraint_met"]
    assert not re.fullmatch(regex, cut["text"])
    request = engine.submit(PROMPT, params | {"on_budget": "error"})
    with pytest.raises(ConstraintError, match=r"regex: the text was cut after .* raise max_tokens"):
        request.result()
    assert request.text == cut["text"]
    closed = engine.generate(PROMPT, params | {"on_budget": "close"})
    assert re.fullmatch(regex, closed["text"])


def test_told_before_it_runs(engine):
    before = engine.metrics()["steps"]
    for source in ({"regex": CHARACTER}, {"choices": [" ".join("abcdefgh") * 3]}):
        with pytest.raises(ConstraintError, match="every text that satisfies it has at least"):
            engine.submit(PROMPT, {**source, "max_new_tokens": 12})
    with pytest.raises(ConstraintError, match="no text that satisfies it"):
        engine.submit(PROMPT, {"json_schema": SCHEMAS[0], "max_new_tokens": 5})
    with pytest.raises(ValueError, match="on_budget: must be 'close' or 'cut'"):
        engine.submit(PROMPT, {"regex": "a", "on_budget": "stop"})
    assert engine.metrics()["steps"] == before
    cut = engine.generate(PROMPT, {"regex": CHARACTER, "max_new_tokens": 12, "on_budget": "cut"})
    assert cut["meta_info"]["finish_reason"]["type"] == "length"


def test_events_and_scores_of_a_closed_text(engine):
    schema = {"type": "array", "items": {"type": "string", "minLength": 3}, "minItems": 1}
    seen = engine.events.next_seq
    closed = 0
    for seed in range(6):
        result = engine.generate(
            PROMPT,
            {"json_schema": schema, "max_new_tokens": 9, "seed": seed, "temperature": 1.5},
            return_logprob=True,
        )
        assert all(len(s) >= 3 for s in json.loads(result["text"]))
        scores = result["meta_info"]["output_token_logprobs"]
        assert [i for _, i, _ in scores] == result["output_ids"]
        assert all(score is not None for score, _, _ in scores)
        closed += result["meta_info"]["closed_by_budget"]
    events = engine.events.since(seen)
    assert closed > 0
    assert sum(e.closed_by_budget for e in events if e.kind == "request_finished") == closed
    assert any(e.how == "closing" for e in events if e.kind == "tokens")
    engine.check()


def test_streamed_with_n_and_a_stop(engine):
    params = {"json_schema": SCHEMAS[0], "max_new_tokens": 22, "n": 3, "temperature": 1.3}
    last = {}
    for part in engine.generate(PROMPT, params, stream=True):
        assert part["text"].startswith(last.get(part["index"], ""))
        last[part["index"]] = part["text"]
    assert len(last) == 3
    for text in last.values():
        jsonschema.validate(json.loads(text), SCHEMAS[0])
    stopped = engine.generate(PROMPT, params | {"n": 1, "stop": '"a"'})
    assert stopped["text"] == "{"


def test_in_a_program(engine):
    @sgl.function
    def program(s):
        s += "Items: " + sgl.gen("items", type=list[int], max_tokens=6, temperature=1.0)
        s += "\nText: " + sgl.gen("t", regex="[a-z]{90,200}!", max_tokens=40, on_budget="close")
        s += "\nMore: " + sgl.gen("e", regex="[a-z]{90,200}@", max_tokens=40, on_budget="error")

    state = program.run(backend=engine)
    assert all(isinstance(item, int) for item in state.value("items"))
    assert state["t"].endswith("!")
    assert state.get_meta_info("t")["closed_by_budget"]
    with pytest.raises(sgl.GenerationError, match="cut after 40 tokens"):
        state["e"]
    assert len(state.text().partition("More: ")[2]) > 40
