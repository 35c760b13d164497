"""Log-probabilities and entropies against transformers, with SGLang's names."""

from __future__ import annotations

import re

import pytest
import torch

ITALY = "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n<|im_start|>assistant\n"
IDS = [5, 77, 4000]
ALL = {
    "return_logprob": True,
    "top_logprobs_num": 4,
    "token_ids_logprob": IDS,
    "return_entropy": True,
    "return_text_in_logprobs": True,
}


@pytest.fixture(autouse=True)
def books(engine):
    yield
    engine.check()


@pytest.fixture(scope="module")
def distribution(model_dir):
    """ids -> log-probabilities [n, vocab]; row i tells of token i + 1."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)

    def of(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0].log_softmax(-1)

    return of


def check(meta: dict, ids: list[int], start: int, prompt_len: int, want: torch.Tensor, engine):
    """Every reported number, for the tokens from ``start`` on."""
    for side, span in (
        ("input", range(start, prompt_len)),
        ("output", range(prompt_len, len(ids))),
    ):
        scored = meta[f"{side}_token_logprobs"]
        tops, given = meta[f"{side}_top_logprobs"], meta[f"{side}_token_ids_logprobs"]
        assert len(scored) == len(tops) == len(given) == len(span)
        for at, (logprob, token, text), top, named in zip(span, scored, tops, given, strict=True):
            assert (token, text) == (ids[at], engine.tokenizer.pieces[ids[at]])
            if at == 0:
                assert logprob is top is named is None
                continue
            row = want[at - 1]
            assert logprob == pytest.approx(row[token].item(), abs=1e-3)
            values = row.topk(4).values.tolist()
            assert [lp for lp, _, _ in top] == pytest.approx(values, abs=1e-3)
            assert [row[i].item() for _, i, _ in top] == pytest.approx(values, abs=1e-3)
            assert [i for _, i, _ in named] == IDS
            assert [lp for lp, _, _ in named] == pytest.approx(row[IDS].tolist(), abs=1e-3)
    rows = want[prompt_len - 1 : len(ids) - 1]
    entropy = -(rows.exp() * rows).sum(-1)
    assert meta["output_token_entropy"] == pytest.approx(entropy.tolist(), abs=2e-3)


@pytest.mark.parametrize("start", [0, 1, 7, 14, 15])
def test_from_any_start_under_any_sampling(engine, distribution, start):
    params = {
        "temperature": 0.6,
        "seed": 5,
        "top_p": 0.9,
        "repetition_penalty": 1.4,
        "logit_bias": {"77": 3.0},
        "max_new_tokens": 10,
        "ignore_eos": True,
    }
    out = engine.generate(ITALY, params, logprob_start_len=start, **ALL)
    prompt = engine.tokenizer.encode(ITALY)
    ids = prompt + out["output_ids"]
    check(out["meta_info"], ids, start, len(prompt), distribution(ids), engine)


@pytest.mark.parametrize(
    ("regex", "extra"),
    [
        (re.escape("All of this is forced."), {}),  # no draw at all
        (r'\{"n": [1-3], "rest": "forced as well"\}', {}),  # forced at both ends
        (re.escape("cut off somewhere in the middle"), {"max_new_tokens": 4}),
        (re.escape("one two three four"), {"stop": "three"}),
    ],
)
def test_forced_tokens_are_scored_up_to_the_very_end(engine, distribution, regex, extra):
    params = {"temperature": 0, "regex": regex, "max_new_tokens": 40, "on_budget": "cut", **extra}
    plain = engine.generate(ITALY, params)
    out = engine.generate(ITALY, params, logprob_start_len=3, **ALL)
    assert out["text"] == plain["text"]
    assert out["output_ids"] == plain["output_ids"]
    assert out["meta_info"]["finish_reason"] == plain["meta_info"]["finish_reason"]
    assert out["meta_info"]["forced_tokens"] > 0
    prompt = engine.tokenizer.encode(ITALY)
    ids = prompt + out["output_ids"]
    check(out["meta_info"], ids, 3, len(prompt), distribution(ids), engine)


def test_trailing_forced_text_costs_no_pass_unless_scored(engine):
    params = {"temperature": 0, "regex": "nothing but this", "max_new_tokens": 40}
    steps = engine.metrics()["steps"]
    engine.generate(ITALY, params)
    assert engine.metrics()["steps"] == steps
    engine.generate(ITALY, params, return_entropy=True)
    assert engine.metrics()["steps"] == steps + 1


def test_an_abort_while_the_end_is_scored_keeps_the_text(engine):
    request = engine.submit(
        ITALY, {"temperature": 0, "regex": "one two three four", "stop": "th"}, return_logprob=True
    )
    request.abort()
    assert request.wait(10)
    assert request.text in ("one two ", "")


def test_only_what_was_asked_for_is_told(engine):
    params = {"temperature": 0, "max_new_tokens": 2}
    meta = engine.generate(ITALY, params)["meta_info"]
    assert not [key for key in meta if "logprob" in key or "entropy" in key]
    meta = engine.generate(ITALY, params, return_entropy=True)["meta_info"]
    assert [key for key in meta if "logprob" in key or "entropy" in key] == ["output_token_entropy"]
    meta = engine.generate(ITALY, params, return_logprob=True, logprob_start_len=-1)["meta_info"]
    assert meta["input_token_logprobs"] == []
    assert [text for _, _, text in meta["output_token_logprobs"]] == [None, None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_logprobs_num": -1}, "top_logprobs_num: must be a whole number"),
        ({"top_logprobs_num": 9000}, "top_logprobs_num: .*at most 8192"),
        ({"token_ids_logprob": [9000]}, "token_ids_logprob: .*at most 8191"),
        ({"logprob_start_len": 16}, "logprob_start_len: must be 0 to 15"),
        ({"return_logprobs": True}, "return_logprobs: unknown option; known: return_logprob,"),
    ],
)
def test_wrong_options_are_named(engine, options, message):
    with pytest.raises(ValueError, match=message):
        engine.generate(ITALY, {"temperature": 0}, **options)


def test_the_entropy_of_runs_is_told_and_is_that_of_the_distribution(engine):
    from sglnb.runtime.logit_reader import LogitReader
    from sglnb.runtime.report import Report

    logits = torch.randn(5, 1000) * 8
    logits[:, 900:] = -float("inf")
    logits[0, 1:] = -float("inf")
    logits[1, :900] = 1.0
    reader = LogitReader(logits, [Report()] * 5, [0] * 5, [0, 1, 3])
    found = [score.entropy for score in reader.scores(torch.zeros(5, dtype=torch.long))]
    assert found[2] is None
    assert found[4] is None
    exact = torch.distributions.Categorical(logits=logits[:, :900].double()).entropy()
    for row in (1, 3):
        assert found[row] == pytest.approx(float(exact[row]), abs=1e-4)
    assert found[0] == pytest.approx(0, abs=1e-6)
    since = engine.events.next_seq
    engine.submit("Once", {"max_new_tokens": 3}, run="a run").result(60)
    engine.generate("Once", {"max_new_tokens": 3})
    seen, unseen = [], []
    rids = {e.rid: e.run for e in engine.events.since(since) if e.kind == "request_arrived"}
    for event in engine.events.since(since):
        if event.kind == "tokens":
            (seen if rids[event.rid] else unseen).extend(event.entropy)
    assert all(value >= 0 for value in seen)
    assert unseen == [None] * len(unseen)
