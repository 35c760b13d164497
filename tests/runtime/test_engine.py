"""What a caller of the engine may count on."""

from __future__ import annotations

import math
import threading
import time
from itertools import pairwise

import pytest
import torch

from sglnb.errors import ConstraintError, ContextLengthError, EngineError, RequestAborted
from sglnb.events import RequestFinished, RequestMatched, StepRan, TokensGenerated
from sglnb.runtime import Engine

ITALY = "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n<|im_start|>assistant\n"
GREEDY = {"temperature": 0}
LONG = GREEDY | {"ignore_eos": True}


@pytest.fixture(autouse=True)
def books(engine):
    yield
    engine.check()


def test_generate_replies_as_sglang_does(engine):
    out = engine.generate(ITALY, GREEDY)
    assert out["text"] == "The capital of Italy is Rome."
    meta = out["meta_info"]
    assert meta["finish_reason"] == {"type": "stop", "matched": 2}
    assert meta["completion_tokens"] == len(out["output_ids"]) == 9
    assert meta["prompt_tokens"] == 15
    assert engine.generate([ITALY, ITALY], GREEDY)[1]["text"] == out["text"]


def test_stream_grows_to_the_same_text(engine):
    texts = [r["text"] for r in engine.generate(ITALY, GREEDY, stream=True)]
    assert texts[-1] == "The capital of Italy is Rome."
    assert all(b.startswith(a) for a, b in pairwise(texts))
    assert len(texts) > 3


def test_leaving_a_stream_early_frees_the_request(engine):
    for _ in engine.generate(ITALY, LONG | {"max_new_tokens": 400}, stream=True):
        break
    deadline = time.monotonic() + 10
    while engine.metrics()["running"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.metrics()["running"] == 0


@pytest.mark.parametrize(
    ("stop", "text"),
    [(" is", "The capital of Italy"), (["Rome", "of It"], "The capital "), ("xyz", None)],
)
def test_stop_strings_are_trimmed(engine, stop, text):
    out = engine.generate(ITALY, GREEDY | {"stop": stop})
    if text is not None:
        assert out["text"] == text
        assert out["meta_info"]["finish_reason"]["type"] == "stop"
        kept = engine.generate(ITALY, GREEDY | {"stop": stop, "no_stop_trim": True})["text"]
        assert kept.startswith(text)
        assert kept.endswith(out["meta_info"]["finish_reason"]["matched"])
    else:
        assert out["text"] == "The capital of Italy is Rome."


def test_no_part_of_a_stop_string_is_streamed(engine):
    stop = "Italy is Rome"
    for out in engine.generate(ITALY, GREEDY | {"stop": stop}, stream=True):
        assert "Ital" not in out["text"]


def test_lengths(engine):
    out = engine.generate(ITALY, GREEDY | {"max_new_tokens": 3})
    assert out["meta_info"]["finish_reason"] == {"type": "length", "length": 3}
    assert len(out["output_ids"]) == 3
    longer = engine.generate(ITALY, GREEDY | {"min_new_tokens": 20, "max_new_tokens": 30})
    assert longer["meta_info"]["completion_tokens"] >= 20
    ended = engine.generate(ITALY, LONG | {"max_new_tokens": 30, "stop_token_ids": [16]})
    assert ended["output_ids"][-1] == 16
    nothing = engine.generate(ITALY, GREEDY | {"max_new_tokens": 0})
    assert nothing["output_ids"] == []


def test_logprobs_are_the_models_own(engine, model_dir):
    from transformers import AutoModelForCausalLM

    out = engine.generate(
        ITALY,
        {"temperature": 0.7, "seed": 5, "max_new_tokens": 12, "ignore_eos": True},
        return_logprob=True,
        logprob_start_len=0,
        top_logprobs_num=3,
    )
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    prompt = engine.tokenizer.encode(ITALY)
    ids = prompt + out["output_ids"]
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    meta = out["meta_info"]
    both = meta["input_token_logprobs"] + meta["output_token_logprobs"]
    assert [i for _, i, _ in both] == ids
    assert both[0][0] is None
    for at, (logprob, token, _) in enumerate(both[1:]):
        assert logprob == pytest.approx(want[at, token].item(), abs=1e-3)
    for at, top in enumerate(meta["output_top_logprobs"], len(prompt) - 1):
        values, best = want[at].topk(3)
        assert [i for _, i, _ in top] == best.tolist()
        assert [lp for lp, _, _ in top] == pytest.approx(values.tolist(), abs=1e-3)


@pytest.mark.parametrize("start", [1, 5, 14, 15])
def test_scoring_starts_where_asked_and_reuses_the_rest(engine, start):
    engine.generate(ITALY, GREEDY | {"max_new_tokens": 0})
    out = engine.generate(
        ITALY, {"max_new_tokens": 0}, return_logprob=True, logprob_start_len=start
    )
    meta = out["meta_info"]
    assert len(meta["input_token_logprobs"]) == 15 - start
    assert all(lp is not None for lp, _, _ in meta["input_token_logprobs"])
    assert meta["cached_tokens"] == min(start - 1, 14)


def test_a_seed_makes_the_text_a_function_of_the_prompt(engine):
    params = {"temperature": 1.0, "seed": 11, "top_p": 0.95, "max_new_tokens": 20}
    engine.cache.flush()
    alone = engine.generate(ITALY, params)["output_ids"]
    assert engine.generate(ITALY, params)["output_ids"] == alone
    others = [ITALY.replace("Italy", c) for c in ("Peru", "Oslo", "France", "Japan")] * 7
    batch = engine.generate([*others, ITALY], params)
    assert batch[-1]["output_ids"] == alone
    texts = {tuple(engine.generate(ITALY, params | {"seed": s})["output_ids"]) for s in range(8)}
    assert len(texts) > 1


def test_two_requests_with_the_same_prefix_in_one_batch(engine):
    """The second waits for the first one's prefill and hits; no slot is used after its free."""
    engine.cache.flush()
    head = "Some long common beginning, word after word, to be shared by all. " * 4
    seen = engine.events.next_seq
    tails = ["One", "Two", "Three", "Four"]
    results = engine.generate([head + t for t in tails], LONG | {"max_new_tokens": 5})
    cached = [r["meta_info"]["cached_tokens"] for r in results]
    assert cached[0] == 0
    assert all(c > 40 for c in cached[1:])
    engine.check()
    matched = [e for e in engine.events.since(seen) if isinstance(e, RequestMatched)]
    assert [e.cached for e in matched] == cached
    engine.cache.flush()
    alone = engine.generate(head + "Three", LONG | {"max_new_tokens": 5})
    assert alone["output_ids"] == results[2]["output_ids"]


def test_prefill_and_decode_share_steps(engine):
    engine.cache.flush()
    seen = engine.events.next_seq
    first = engine.submit(ITALY, LONG | {"max_new_tokens": 60})
    while len(first.output_ids) < 3:
        time.sleep(0.001)
    engine.submit("A prompt that comes later " * 8, LONG | {"max_new_tokens": 5}).result()
    first.result()
    steps = [e for e in engine.events.since(seen) if isinstance(e, StepRan)]
    assert any(s.prefill and s.decode for s in steps)
    assert any(len(s.decode) == 2 for s in steps)


def test_abort_keeps_the_text(engine):
    request = engine.submit(ITALY, LONG | {"max_new_tokens": 1000})
    while len(request.output_ids) < 5:
        time.sleep(0.001)
    request.abort()
    assert request.wait(10)
    assert request.text.startswith("The capital of")
    assert request.meta_info["finish_reason"]["type"] == "abort"
    with pytest.raises(RequestAborted, match="stopped"):
        request.result()


def test_abort_by_run_and_of_waiting_requests(engine):
    mine = [engine.submit(ITALY, LONG | {"max_new_tokens": 900}, run="a") for _ in range(3)]
    other = engine.submit(ITALY, GREEDY, run="b")
    engine.abort(run="a")
    assert all(r.wait(10) for r in mine)
    assert other.result(10).text == "The capital of Italy is Rome."


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temperature": -1}, "temperature: must be a number at least 0, got -1"),
        ({"top_p": 0}, "top_p: .*over 0 and at most 1"),
        ({"top_k": 0}, "top_k: .*-1 for all"),
        ({"max_new_tokens": 1.5}, "max_new_tokens: must be a whole number"),
        ({"max_tokens": 5}, "unknown name 'max_tokens'.*max_new_tokens"),
        ({"stop": [""]}, "stop: must be non-empty strings"),
        ({"regex": "a", "choices": ["b"]}, "only one of them"),
        ({"choices": []}, "choices: must be a non-empty list"),
        ({"min_new_tokens": 9, "max_new_tokens": 3}, "min_new_tokens: .*at most 3"),
    ],
)
def test_wrong_parameters_are_named(engine, params, message):
    with pytest.raises(ValueError, match=message):
        engine.generate(ITALY, params)
    assert engine.generate(ITALY, GREEDY)["text"]


def test_a_bad_regex_is_refused_at_once(engine):
    with pytest.raises(ConstraintError):
        engine.generate(ITALY, GREEDY | {"regex": "[a-"})


def test_a_constraint_is_built_once(engine):
    params = GREEDY | {"regex": "(yes|no), [a-z]{4}", "max_new_tokens": 8}
    seen = engine.events.next_seq
    for _ in range(2):
        engine.generate(ITALY, params)
    built = [e for e in engine.events.since(seen) if e.kind == "constraint_compiled"]
    assert len(built) == 1
    assert built[0].source == "regex: (yes|no), [a-z]{4}"
    assert built[0].compressed_states < built[0].states


def test_prompts_that_do_not_fit(engine):
    with pytest.raises(ContextLengthError, match="context of 2,048 tokens"):
        engine.generate("word " * 3000, GREEDY)
    with pytest.raises(ValueError, match="must not be empty"):
        engine.generate([[]], GREEDY)
    with pytest.raises(ValueError, match=r"outside 0\.\.8191"):
        engine.generate([[9000]], GREEDY)
    near_end = engine.tokenizer.encode("word " * 2500)[:2045]
    out = engine.generate(near_end, LONG | {"max_new_tokens": 50})
    assert len(out["output_ids"]) == 3, "cut to what the context holds"


def test_one_failing_request_leaves_the_others_alone(engine, monkeypatch):
    """Fault injection: a constraint that raises in the middle of a batch."""
    good = engine.submit(ITALY, LONG | {"max_new_tokens": 40})
    bad = engine.submit(ITALY, LONG | {"max_new_tokens": 40, "regex": "[a-z ]{30,60}"})

    def broken():
        raise RuntimeError("broken cursor")

    bad.cursor.allowed = broken
    with pytest.raises(RuntimeError, match="broken cursor"):
        bad.result(20)
    assert len(good.result(20).output_ids) == 40


def test_a_failing_step_ends_its_batch_and_not_the_engine(engine, monkeypatch):
    model = engine._core.runner.model
    real, calls = model.forward, []

    def fails_once(*args):
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError("no memory for scores")
        return real(*args)

    monkeypatch.setattr(model, "forward", fails_once)
    request = engine.submit(ITALY, LONG | {"max_new_tokens": 20})
    with pytest.raises(EngineError, match="MemoryError: no memory for scores"):
        request.result(20)
    assert len(request.output_ids) == 2, "what was computed is kept"
    engine.check()
    assert engine.generate(ITALY, GREEDY)["text"] == "The capital of Italy is Rome."


def test_nobody_waits_for_ever_when_the_thread_dies(shared_data, monkeypatch):
    """Fault injection: a bug in the scheduler itself."""
    with Engine(str(shared_data / "checkpoints" / "stories260K"), kv_tokens=600) as engine:
        running = engine.submit([1], LONG | {"max_new_tokens": 400})
        while not running.output_ids:
            time.sleep(0.001)

        def broken():
            raise KeyError("a bug")

        monkeypatch.setattr(engine._core.scheduler, "next_step", broken)
        with pytest.raises(EngineError, match="thread died: KeyError"):
            running.result(5)
        with pytest.raises(EngineError, match="make a new one"):
            engine.submit([1], GREEDY)


def test_events_tell_the_whole_story(engine):
    engine.cache.flush()
    seen = engine.events.next_seq
    request = engine.submit(ITALY, GREEDY, run="run", state="s", name="answer").result()
    engine.check()  # between two steps: all events are out
    mine = [e for e in engine.events.since(seen) if getattr(e, "rid", "") == request.rid]
    kinds = [e.kind for e in mine]
    assert kinds[0] == "request_arrived"
    assert "request_finished" in kinds
    tokens = [i for e in mine if isinstance(e, TokensGenerated) for i in e.ids]
    assert tokens == request.output_ids
    first = next(e for e in mine if isinstance(e, TokensGenerated))
    assert len(first.top[0]) == 5
    assert first.top[0][0][1] == first.ids[0]
    assert math.isclose(first.top[0][0][2], first.logprobs[0], abs_tol=1e-4)
    end = next(e for e in mine if isinstance(e, RequestFinished))
    assert (end.prompt_tokens, end.completion_tokens, end.matched) == (15, 9, "<|im_end|>")


def test_many_threads_submit_at_once(engine):
    results: dict[int, str] = {}

    def work(i):
        results[i] = engine.generate(ITALY, GREEDY)["text"]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert set(results.values()) == {"The capital of Italy is Rome."}
    assert len(results) == 12


def test_two_engines_live_side_by_side_and_close(engine, shared_data):
    with Engine(str(shared_data / "checkpoints" / "stories260K"), kv_tokens=600) as other:
        assert other.generate([1], LONG | {"max_new_tokens": 5})["output_ids"]
        pending = other.submit([1], LONG | {"max_new_tokens": 400})
        assert engine.generate(ITALY, GREEDY)["text"]
    with pytest.raises(EngineError, match="shut down"):
        pending.result(5)
    with pytest.raises(EngineError, match="shut down"):
        other.generate([1], GREEDY)
    pending.abort()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "best"}, "policy: must be 'lpm' or 'dfs-weight' or .*, got 'best'"),
        ({"kv_tokens": 0}, "kv_tokens: must be a whole number at least 1"),
        ({"model": "./nothing/here"}, "model: no checkpoint at './nothing/here'"),
        ({"device": "tpu9"}, "device: 'tpu9' is no torch device"),
        ({"dtype": "int3"}, "dtype: must be 'auto', 'int8' or one of"),
    ],
)
def test_wrong_engine_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Engine(**arguments)
