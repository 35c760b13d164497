"""Decode steps that are started before their tokens are known change nothing that anyone sees."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_random_runs import FlyingRunner

from sglnb.errors import RequestAborted
from sglnb.runtime import Engine

PROMPTS = ["The capital of Italy is", "Data: ", "Count: 1, 2, 3,", "Once upon a time"]
ITEM = r'\{"name": "[A-Z][a-z]{1,8}", "age": [1-9][0-9]?, "city": "[A-Z][a-z]{1,8}"\}'
SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a", "b"]}'  # noqa: E501
CASES = {
    "greedy": {"temperature": 0},
    "sampled": {"temperature": 1.2, "top_p": 0.9, "min_p": 0.02, "seed": 5},
    "jumps": {"temperature": 0, "regex": ITEM, "max_new_tokens": 60},
    "rewinds": {"temperature": 0, "regex": ITEM, "retokenize": "rewind", "max_new_tokens": 60},
    "closes": {"temperature": 1, "seed": 3, "json_schema": SCHEMA, "max_new_tokens": 20},
    "stops": {"temperature": 0, "stop": [" the", ","]},
    "several": {"temperature": 1, "seed": 1, "n": 3},
    "penalised": {"temperature": 0, "repetition_penalty": 1.3, "frequency_penalty": 0.4},
    "biased": {"temperature": 0, "logit_bias": {300: 3.0}, "min_new_tokens": 4},
}


@pytest.fixture(scope="module")
def engines(engine):
    """One that takes steps ahead, and one that does not."""
    with Engine(kv_tokens=4000) as ahead:
        ahead._core.runner.__class__ = FlyingRunner
        yield ahead, engine


def told(results):
    """What a caller sees, but for the time it took."""
    out = []
    for result in results:
        for one in result if isinstance(result, list) else [result]:
            meta = {k: v for k, v in one["meta_info"].items() if k not in VOLATILE}
            out.append((one["text"], one["output_ids"], meta))
    return out


VOLATILE = ("id", "seconds", "e2e_latency", "cached_tokens")


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(CASES)), min_size=1, max_size=5),
    top=st.sampled_from([None, 0, 3]),
    start=st.sampled_from([-1, 2]),
)
def test_the_same_comes_out(engines, names, top, start):
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(len(names))]
    params = [{"max_new_tokens": 12 + 3 * i, **CASES[name]} for i, name in enumerate(names)]
    asked = {}
    if top is not None:
        asked = {"return_logprob": True, "top_logprobs_num": top, "logprob_start_len": start}
    before = FlyingRunner.flights
    answers = []
    for engine in engines:
        engine.cache.flush()
        answers.append(told(engine.generate(prompts, params, **asked)))
        engine.check()
    for (text, ids, meta), (want, want_ids, want_meta) in zip(*answers, strict=True):
        assert text == want
        assert ids == want_ids
        for name, value in want_meta.items():
            assert meta[name] == close(value), name
    assert FlyingRunner.flights > before


def close(value):
    """Equal, log-probabilities but for rounding: other batches add up in another order."""
    if isinstance(value, float):
        return pytest.approx(value, abs=2e-4)
    if isinstance(value, (list, tuple)):
        return type(value)(close(one) for one in value)
    return value


def test_an_abort_between_two_steps(engines):
    ahead, _ = engines
    core, step = ahead._core, ahead._core.step
    requests = []

    def then_abort():
        step()
        if requests and requests[0].new_tokens == 5:
            requests[0].abort()

    core.step = then_abort
    try:
        params = {"max_new_tokens": 20, "temperature": 0, "ignore_eos": True}
        requests += [ahead.submit(prompt, params) for prompt in PROMPTS[:2]]
        with pytest.raises(RequestAborted):
            requests[0].result(60)
        assert len(requests[1].result(60).output_ids) == 20
    finally:
        core.step = step
    ahead.check()
    ahead.cache.flush()
    assert ahead.metrics()["kv_used"] == 0


def test_release_and_resume_with_a_step_under_way(engines):
    ahead, _ = engines
    params = {"max_new_tokens": 10, "temperature": 0}
    want = ahead.generate(PROMPTS[0], params)["text"]
    ahead.release()
    ahead.resume()
    ahead._core.runner.__class__ = FlyingRunner
    assert ahead.generate(PROMPTS[0], params)["text"] == want
    ahead.resize(3000)
    assert ahead.generate(PROMPTS[0], params)["text"] == want
    ahead.check()
