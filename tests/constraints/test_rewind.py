"""``retokenize="rewind"``: the text is tokenized again, and slots, locks and events stay right."""

from __future__ import annotations

import json
import random
import re

import pytest
from constraint_tools import CHARACTER

from sglnb.runtime import Engine
from sglnb.runtime.trace import as_trace
from sglnb.viz.reduce_tokens import initial_tokens, reduce_tokens

REGEXES = [
    CHARACTER,
    r'\{"name": "[A-Z][a-z]{1,12}", "age": [0-9]{1,3}\}',
    r"[a-z]{1,9}ing, [a-z]{1,9}ed\.",
    r"(日本|日中)語テスト[一-三]です",
    r"Hello, world: [0-9]{2,4}th street",
]
SCHEMA = {
    "type": "object",
    "properties": {"first name": {"type": "string", "maxLength": 12}, "n": {"type": "integer"}},
    "required": ["first name", "n"],
    "additionalProperties": False,
}
REWIND = {"retokenize": "rewind", "max_new_tokens": 300, "temperature": 1.0}


def told(engine, since: int, rid: str) -> list[int]:
    """The output as the events tell it."""
    prompt, out = [], []
    for event in engine.events.since(since):
        if getattr(event, "rid", "") != rid:
            continue
        if event.kind == "request_arrived":
            prompt = list(event.ids)
        if event.kind == "tokens":
            both = prompt + out
            keep = len(both) - event.replaced
            prompt, out = both[: min(keep, len(prompt))], both[len(prompt) : keep]
            out += event.ids
    return out


@pytest.mark.parametrize("source", [*({"regex": r} for r in REGEXES), {"json_schema": SCHEMA}])
def test_texts_match_and_events_tell_the_tokens(engine, source):
    replaced = 0
    for seed in range(4):
        since = engine.events.next_seq
        request = engine.submit("Write: ", {**source, **REWIND, "seed": seed}).result(60)
        if "regex" in source:
            assert re.fullmatch(source["regex"], request.text)
        else:
            assert set(json.loads(request.text)) == {"first name", "n"}
        assert engine.tokenizer.decode(request.output_ids).strip() == request.text.strip()
        assert told(engine, since, request.rid) == request.output_ids
        events = [e for e in engine.events.since(since) if e.kind == "tokens"]
        replaced += sum(e.replaced for e in events)
        assert all(e.how == "retokenized" for e in events if e.replaced)
        forced = sum(len(e.ids) for e in events if e.how == "forced")
        assert request.meta_info["forced_tokens"] == forced
        assert forced > 0 or "ing, " in str(source)
        engine.check()
    assert replaced > 0 or any(part in str(source) for part in ("Hello", "日", "ing, "))


def test_the_text_behind_a_jump_is_canonical(engine):
    regex = r" [a-z]{1,9} is the end\."
    for seed in range(5):
        out = engine.generate("Now", REWIND | {"regex": regex, "seed": seed})
        assert engine.tokenizer.encode_plain("Now" + out["text"])[-4:] == out["output_ids"][-4:]


def test_the_prompts_end_heals(engine):
    """A prompt that ends inside a word is joined to the certain text behind it."""
    tokenizer = engine.tokenizer
    (word,) = tokenizer.encode_plain(" together")
    out = engine.generate("We go tog", REWIND | {"regex": "ether[.!]", "seed": 1})
    assert out["text"][:-1] == "ether"
    assert out["output_ids"][0] == word
    plain = engine.generate("We go tog", {"regex": "ether[.!]", "seed": 1, "max_new_tokens": 9})
    assert word not in plain["output_ids"]
    engine.check()


@pytest.mark.parametrize("page_size", [1, 16])
def test_a_small_pool_under_random_load(page_size):
    """Requests with and without rewinds are retracted, aborted and cached side by side."""
    rng = random.Random(page_size)
    with Engine(kv_tokens=640, page_size=page_size, max_running=6, eviction="lfu") as engine:
        requests = []
        for i in range(40):
            source = rng.choice([{"regex": rng.choice(REGEXES)}, {"json_schema": SCHEMA}, {}])
            params = REWIND | source | {"seed": i, "max_new_tokens": rng.choice([20, 130])}
            if source:
                params |= {"on_budget": rng.choice(["cut", "close"])}
                params["max_new_tokens"] = 160 if params["on_budget"] == "close" else 40
            params["retokenize"] = rng.choice(["rewind", "hold-back"])
            params["frequency_penalty"] = rng.choice([0, 0.5])
            report = {"return_logprob": True} if rng.random() < 0.4 else {}
            prompt = rng.choice(["The cat sat", "Write: ", "Once upon a time in a land"])
            requests.append((params, engine.submit(prompt, params, **report)))
            if rng.random() < 0.1:
                rng.choice(requests)[1].abort()
            if i % 8 == 0:
                engine.check()
        for params, request in requests:
            request.wait(60)
            engine.check()
            full = "KV pool full" in str(request.meta_info["finish_reason"])
            if request.error is None and not full and params["retokenize"]:
                scores = request.meta_info.get("output_token_logprobs")
                if scores is not None:
                    assert [i for _, i, _ in scores] == request.output_ids
                    assert all(score is not None for score, _, _ in scores)
                if "regex" in params and params["on_budget"] == "close":
                    assert re.fullmatch(params["regex"], request.text)
        assert engine.metrics()["kv_locked"] == 0


def test_scores_are_those_of_the_tokens_that_stand(engine):
    """What was computed before a rewind is not told of tokens that came in its place."""
    params = REWIND | {"regex": REGEXES[1], "seed": 4}
    out = engine.generate("Write: ", params, return_logprob=True)
    ids = engine.tokenizer.encode("Write: ")
    again = engine.generate(
        ids + out["output_ids"],
        {"max_new_tokens": 0},
        return_logprob=True,
        logprob_start_len=len(ids),
    )
    one = [score for score, _, _ in out["meta_info"]["output_token_logprobs"]]
    two = [score for score, _, _ in again["meta_info"]["input_token_logprobs"]]
    assert one == pytest.approx(two, abs=1e-3)


def test_stop_stream_and_budget(engine):
    params = REWIND | {"regex": CHARACTER, "seed": 2}
    stopped = engine.generate("x ", params | {"stop": "blood st"})
    assert stopped["text"].endswith('"')
    assert stopped["meta_info"]["finish_reason"]["matched"] == "blood st"
    seen = ""
    for part in engine.generate("x ", params, stream=True):
        assert part["text"].startswith(seen)
        seen = part["text"]
    assert re.fullmatch(CHARACTER, seen)
    for budget in (110, 115, 130):
        close = {"max_new_tokens": budget, "on_budget": "close", "temperature": 2.0}
        out = engine.generate("x ", params | close)
        assert re.fullmatch(CHARACTER, out["text"])
        assert out["meta_info"]["completion_tokens"] <= budget
    engine.check()


def test_a_view_and_a_trace_follow(engine):
    since = engine.events.next_seq
    request = engine.submit("Write: ", REWIND | {"regex": CHARACTER, "seed": 5}).result(60)
    events = engine.events.since(since)
    view = initial_tokens()
    for event in events:
        reduce_tokens(view, event)
    assert [t["id"] for t in view["rows"][request.rid]["tokens"]] == request.ids
    (traced,) = as_trace(events, engine.tokenizer)
    assert traced.prompt + traced.output == request.ids


def test_the_masks_mass_is_told_to_those_who_ask(engine):
    params = {"regex": r"[a-z]{3} is certain", "seed": 1}
    meta = engine.generate("x", params, return_logprob=True)["meta_info"]
    masses, scores = meta["output_mask_mass"], meta["output_token_logprobs"]
    assert len(masses) == len(scores) == meta["completion_tokens"]
    assert sum(mass is None for mass in masses) == meta["forced_tokens"] > 0
    assert all(0 < mass <= 1 + 1e-5 for mass in masses if mass is not None)
    assert "output_mask_mass" not in engine.generate("x", params)["meta_info"]
