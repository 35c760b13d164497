"""Sampling parameters through the engine: what each does, and which mistakes are told."""

from __future__ import annotations

import pytest
import torch

from sglnb.errors import ConstraintError, EngineError
from sglnb.events import RequestScheduled
from sglnb.runtime import Engine, scheduler

ITALY = "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n<|im_start|>assistant\n"
GREEDY = {"temperature": 0}
LONG = GREEDY | {"ignore_eos": True}


@pytest.fixture(autouse=True)
def books(engine):
    yield
    engine.check()


@pytest.fixture(scope="module")
def reference(model_dir):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)


@pytest.mark.parametrize("penalty", [0.6, 1.3, 2.0])
def test_repetition_penalty_is_that_of_transformers(engine, reference, penalty):
    params = GREEDY | {"repetition_penalty": penalty, "max_new_tokens": 30, "ignore_eos": True}
    ids = engine.tokenizer.encode(ITALY)
    want = reference.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=30,
        do_sample=False,
        repetition_penalty=penalty,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert engine.generate(ITALY, params)["output_ids"] == want[0, len(ids) :].tolist()


@pytest.mark.parametrize(("frequency", "presence"), [(0.8, 0.0), (0.0, 1.7), (-0.5, -1.0), (2, 2)])
def test_frequency_and_presence_count_the_output(engine, reference, frequency, presence):
    """Token by token: logits - frequency * times - presence * (times > 0)."""
    params = LONG | {
        "frequency_penalty": frequency,
        "presence_penalty": presence,
        "max_new_tokens": 20,
    }
    prompt = engine.tokenizer.encode(ITALY)
    ids = engine.generate(ITALY, params)["output_ids"]
    with torch.no_grad():
        logits = reference(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].double()
    for at, token in enumerate(ids):
        row = logits[at].clone()
        for seen in set(ids[:at]):
            row[seen] -= frequency * ids[:at].count(seen) + presence
        best = row.max()
        assert row[token] >= best - 1e-3
    if frequency > 0 or presence > 0:
        plain = engine.generate(ITALY, LONG | {"max_new_tokens": 20})["output_ids"]
        assert len(set(ids)) >= len(set(plain))


def test_penalties_survive_retraction(shared_data, monkeypatch):
    """Counts are of the text, so a request that was thrown out and came back is penalised alike."""
    monkeypatch.setattr(scheduler, "RESERVE", 2)  # admit more than there is room for
    params = {"temperature": 0, "frequency_penalty": 1.0, "max_new_tokens": 60, "ignore_eos": True}
    folder = str(shared_data / "checkpoints" / "stories260K")
    with Engine(folder, kv_tokens=600) as engine:
        alone = engine.generate([[1, 5], [1, 9], [1, 20]], params)
    with Engine(folder, kv_tokens=100) as engine:
        crowded = engine.generate([[1, 5], [1, 9], [1, 20]], params)
        assert engine.metrics()["retractions"] > 0
        engine.check()
    assert [r["output_ids"] for r in crowded] == [r["output_ids"] for r in alone]


def test_logit_bias_forbids_and_forces(engine):
    plain = engine.generate(ITALY, GREEDY)["output_ids"]
    forced = engine.generate(ITALY, LONG | {"logit_bias": {"77": 1e4}, "max_new_tokens": 5})
    assert forced["output_ids"] == [77] * 5
    without = engine.generate(ITALY, GREEDY | {"logit_bias": {plain[0]: -1e9}})["output_ids"]
    assert plain[0] not in without
    scored = engine.generate(
        ITALY, LONG | {"logit_bias": {77: 1e4}, "max_new_tokens": 1}, return_logprob=True
    )
    assert scored["meta_info"]["output_token_logprobs"][0][0] < -1, "the model's own probability"


def test_a_processor_of_transformers_is_taken(engine):
    from transformers import NoBadWordsLogitsProcessor

    plain = engine.generate(ITALY, GREEDY)["output_ids"]
    bad = NoBadWordsLogitsProcessor([[plain[0]]], eos_token_id=2)
    out = engine.generate(ITALY, GREEDY | {"custom_logit_processor": bad})["output_ids"]
    want = engine.generate(ITALY, GREEDY | {"logit_bias": {plain[0]: -1e9}})["output_ids"]
    assert out == want


def test_a_processor_that_raises_fails_its_request_alone(engine):
    def broken(ids, logits):
        if ids.shape[1] > 17:
            raise KeyError("oops")
        return logits * 1

    def allows_all(ids, logits):
        return torch.zeros_like(logits)

    bad = engine.submit(ITALY, LONG | {"custom_logit_processor": broken})
    good = engine.submit(ITALY, LONG | {"max_new_tokens": 20})
    held = engine.submit(
        ITALY, {"temperature": 1, "regex": "[0-9]{8}", "custom_logit_processor": allows_all}
    )
    with pytest.raises(KeyError, match="oops"):
        bad.result(20)
    assert len(bad.output_ids) == 3
    assert bad.meta_info["finish_reason"]["type"] == "abort"
    assert len(good.result(20).output_ids) == 20
    assert held.result(20).text.isdigit(), "the mask has the last word"


def test_broken_logits_fail_their_request_alone(engine, monkeypatch):
    """Fault injection: NaN in the first row of one step."""
    model = engine._core.runner.model
    real, calls = model.forward, []

    def broken(*args):
        logits = real(*args)
        calls.append(1)
        if len(calls) == 4:
            logits[0] = float("nan")
        return logits

    monkeypatch.setattr(model, "forward", broken)
    requests = [engine.submit(ITALY, LONG | {"max_new_tokens": 12}) for _ in range(3)]
    assert all(r.wait(20) for r in requests)
    failed = [r for r in requests if r.error is not None]
    assert len(failed) == 1
    assert isinstance(failed[0].error, EngineError)
    assert "NaN or infinite" in failed[0].meta_info["finish_reason"]["message"]
    assert all(len(r.output_ids) == 12 for r in requests if r.error is None)


# -- seeds and siblings --------------------------------------------------------------------

SEEDED = [
    {"temperature": 1.0, "seed": 5},
    {"temperature": 1.4, "seed": 5, "top_p": 0.9, "repetition_penalty": 1.2},
    {"temperature": 0.8, "seed": 2**64 + 1, "top_k": 40, "min_p": 0.01},
]


@pytest.mark.parametrize("params", SEEDED)
def test_a_seeded_text_does_not_know_its_neighbours(engine, params):
    params = params | {"max_new_tokens": 24, "ignore_eos": True}
    engine.cache.flush()
    cold = engine.generate(ITALY, params)["output_ids"]
    assert engine.generate(ITALY, params)["output_ids"] == cold, "cache warm"
    others = [
        (ITALY.replace("Italy", f"{i} lands"), {"temperature": 1.1, "max_new_tokens": 10 + i})
        for i in range(31)
    ]
    engine.cache.flush()
    asked = [*others[:13], (ITALY, params), *others[13:]]
    batch = engine.generate([p for p, _ in asked], [q for _, q in asked])
    assert batch[13]["output_ids"] == cold


@pytest.mark.parametrize("prompt", [ITALY, "Once upon a time there was"])
def test_siblings_compute_their_prompt_once(engine, prompt):
    engine.cache.flush()
    seen = engine.events.next_seq
    params = {"temperature": 2.5, "seed": 3, "n": 6, "max_new_tokens": 8, "ignore_eos": True}
    out = engine.generate(prompt, params)
    assert len(out) == 6
    assert len({tuple(r["output_ids"]) for r in out}) == 6, "each draws its own"
    assert out[0]["output_ids"] == engine.generate(prompt, params | {"n": 1})["output_ids"]
    assert [r["output_ids"] for r in engine.generate(prompt, params)] == [
        r["output_ids"] for r in out
    ]
    length = len(engine.tokenizer.encode(prompt))
    engine.check()
    events = list(engine.events.since(seen))
    spans = [(e.start, e.end) for e in events if isinstance(e, RequestScheduled)][:6]
    assert spans == [(0, length)] + [(length - 1, length)] * 5, "the rest only need its last logits"
    assert [r["meta_info"]["cached_tokens"] for r in out] == [0] + [length - 1] * 5


def test_n_gives_a_flat_list(engine):
    prompts = ["One, two,", "Red, green,"]
    params = {"temperature": 1.0, "n": 3, "seed": 1, "max_new_tokens": 4}
    out = engine.generate(prompts, params)
    assert len(out) == 6
    each = [engine.generate(p, params) for p in prompts]
    assert [r["output_ids"] for r in out] == [r["output_ids"] for part in each for r in part]
    with pytest.raises(ValueError, match="n: submit makes one request"):
        engine.submit("One", params)


def test_a_stream_of_several_texts_is_numbered(engine):
    params = {"temperature": 1.0, "n": 3, "seed": 1, "max_new_tokens": 6, "ignore_eos": True}
    last: dict[int, dict] = {}
    for update in engine.generate(ITALY, params, stream=True):
        before = last.get(update["index"], {"text": ""})["text"]
        assert update["text"].startswith(before)
        last[update["index"]] = update
    want = engine.generate(ITALY, params)
    assert [last[i]["output_ids"] for i in range(3)] == [r["output_ids"] for r in want]


def test_sampling_seed_is_another_name_of_seed(engine):
    params = {"temperature": 1.0, "max_new_tokens": 8}
    one = engine.generate(ITALY, params | {"sampling_seed": 9})["output_ids"]
    assert one == engine.generate(ITALY, params | {"seed": 9})["output_ids"]


# -- mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"frequency_penalty": 2.1}, "frequency_penalty: .*at least -2 and at most 2"),
        ({"presence_penalty": -3}, "presence_penalty: .*got -3"),
        ({"repetition_penalty": 0}, "repetition_penalty: .*over 0 and at most 2"),
        ({"n": 0}, "n: must be a whole number at least 1"),
        ({"logit_bias": [3]}, "logit_bias: must be a dict"),
        ({"logit_bias": {"a": 1}}, "logit_bias: 'a' is no token id"),
        ({"logit_bias": {3: "x"}}, "logit_bias: must be a number"),
        ({"logit_bias": {3: float("nan")}}, "logit_bias: must be a number"),
        ({"logit_bias": {9000: 1}}, "logit_bias: .*at most 8191, got 9000"),
        ({"stop_token_ids": [8192]}, "stop_token_ids: .*at most 8191"),
        ({"stop_regex": 3}, "stop_regex: must be non-empty strings, got 3"),
        ({"stop": 5}, "stop: must be non-empty strings, got 5"),
        ({"stop_regex": ""}, "stop_regex: must be non-empty"),
        ({"seed": 1, "sampling_seed": 2}, "sampling_seed: is another name"),
        ({"json_schema": "{"}, "json_schema: no JSON"),
        ({"ebnf": "root ::= x"}, "ebnf: Rule 'x' not found"),
        ({"structural_tag": "{}"}, "structural_tag: not possible yet"),
        ({"custom_params": {}}, "custom_params: not needed"),
        ({"custom_logit_processor": "x"}, "custom_logit_processor: must be callable"),
    ],
)
def test_wrong_parameters_are_named(engine, params, message):
    with pytest.raises(ValueError, match=message):
        engine.generate(ITALY, params)


@pytest.mark.parametrize(
    ("regex", "message"),
    [("[a-", "stop_regex: "), ("a*", "matches the empty text"), (r"(?<=a)b", "stop_regex: ")],
)
def test_bad_stop_regexes_are_refused_at_once(engine, regex, message):
    with pytest.raises(ConstraintError, match=message):
        engine.generate(ITALY, {"stop_regex": regex})


def test_absent_values_of_other_engines_do_no_harm(engine):
    params = GREEDY | {"json_schema": None, "ebnf": None, "sampling_seed": None}
    assert engine.generate(ITALY, params)["text"] == "The capital of Italy is Rome."
