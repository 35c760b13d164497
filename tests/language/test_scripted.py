"""The scripted backend: forms of a script, how replies are cut, when they come, what is kept."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sglnb as sgl
from sglnb.language import GenerationError
from sglnb.testing import CharTokenizer, Failure, ScriptedBackend, WordTokenizer


@sgl.function
def two(s, **params):
    s += "Q: " + sgl.gen("x", **params) + " then " + sgl.gen("y")


@pytest.mark.parametrize(
    "replies",
    [
        {"x": "one", "y": "two"},
        {"x": ["one", "more"], "y": lambda prompt: "two" if prompt == "Q: one then " else "?"},
        ["one", "two"],
        lambda prompt: "two" if "then" in prompt else "one",
        lambda prompt, request: {"x": "one", "y": "two"}[request.name],
    ],
)
@pytest.mark.parametrize("mode", ["inline", "thread", "instant"])
def test_forms_of_a_script(replies, mode):
    state = two.run(backend=ScriptedBackend(replies, mode))
    assert (state["x"], state["y"]) == ("one", "two")
    assert state.text() == "Q: one then two"


def test_a_script_that_has_no_answer_says_so_at_the_variable():
    state = two.run(backend=ScriptedBackend({"x": "one"}))
    with pytest.raises(GenerationError, match=r"none for gen\('y'\); there are: 'x'"):
        state["y"]
    state = two.run(backend=ScriptedBackend(["one"]))
    with pytest.raises(GenerationError, match=r"all 1 are used; gen\('y'\) gets none"):
        state["y"]
    with pytest.raises(TypeError, match="replies: must be"):
        ScriptedBackend(3)
    with pytest.raises(ValueError, match="mode: must be one of inline"):
        ScriptedBackend(mode="fast")


def test_a_list_is_not_changed_and_an_unnamed_gen_is_none():
    replies = ["a", "b"]
    backend = ScriptedBackend({None: replies})
    s = sgl.start_state(backend)
    s += sgl.gen() + sgl.gen()
    sgl.finish_run(s)
    assert s.text() == "ab"
    assert replies == ["a", "b"]


@pytest.mark.parametrize(
    ("params", "text", "reason"),
    [
        ({}, "One two, three.", {"type": "stop", "matched": None}),
        ({"stop": ","}, "One two", {"type": "stop", "matched": ","}),
        ({"stop": ["three", " two"]}, "One", {"type": "stop", "matched": " two"}),
        ({"stop": ",", "no_stop_trim": True}, "One two,", {"type": "stop", "matched": ","}),
        ({"stop_regex": "t[a-z]{3}"}, "One two, ", {"type": "stop", "matched": "thre"}),
        ({"max_tokens": 3}, "One two,", {"type": "length", "length": 3}),
        ({"max_tokens": 2, "stop": "three"}, "One two", {"type": "length", "length": 2}),
        ({"regex": "[A-Z].*", "stop": ","}, "One two", {"type": "stop", "matched": ","}),
    ],
)
@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_replies_are_cut_as_a_models_text(params, text, reason, mode):
    backend = ScriptedBackend({"x": "One two, three.", "y": "end"}, mode)
    state = two.run(backend=backend, **{}) if not params else _run(backend, params)
    info = state.get_meta_info("x")
    assert state["x"] == text
    assert info["finish_reason"] == reason
    assert info["prompt_tokens"] == 3
    assert info["completion_tokens"] == len(WordTokenizer().encode(text))
    assert backend.calls[0].text == text


def _run(backend, params):
    s = sgl.start_state(backend)
    s += "Q: " + sgl.gen("x", **params)
    sgl.finish_run(s)
    return s


def test_a_reply_that_the_constraint_forbids_is_a_mistake_in_the_script():
    state = _run(ScriptedBackend("twelve"), {"dtype": int})
    with pytest.raises(GenerationError, match="'twelve' does not match the gen's regex"):
        state["x"]
    assert _run(ScriptedBackend("12 apples"), {"dtype": int})["x"] == "12"


@pytest.mark.parametrize("mode", ["inline", "thread", "manual"])
def test_failures_on_demand(mode):
    backend = ScriptedBackend({"x": Failure(RuntimeError("lost"), after="half an ans")}, mode)
    s = sgl.start_state(backend)
    s += sgl.gen("x")
    if mode == "manual":
        backend.wait()
        backend.release()
    with pytest.raises(GenerationError, match="lost"):
        s["x"]
    assert s.text() == "half an ans"
    sgl.finish_run(s)


def test_selects_choose_what_the_table_says():
    backend = ScriptedBackend({"tool": "search", "n": "eyes"})

    @sgl.function
    def program(s):
        s += "I use a " + sgl.select("tool", ["calculator", "search", "search engine"])
        s += " and my " + sgl.gen("n", choices=["yes", "eyes"])
        s += sgl.select("free", [" first", " second"])

    for method in (None, "greedy_token_selection"):
        state = program.run(backend=backend)
        assert (state["tool"], state["n"], state["free"]) == ("search", "eyes", " first")
        assert method or len(state.get_meta_info("tool")["input_token_logprobs"]) == 3


def test_words_come_one_by_one_at_their_pace():
    backend = ScriptedBackend("a b c d", "thread", delay=0.02, pace=0.01)
    started = time.monotonic()
    state = two.run(backend=backend, stream=True)
    assert list(state.text_iter("x")) == ["a", " b", " c", " d"]
    assert time.monotonic() - started > 0.05


def test_a_hundred_requests_share_one_thread():
    backend = ScriptedBackend("a b", "thread", delay=0.05)
    before, started = threading.active_count(), time.monotonic()
    s = sgl.start_state(backend)
    group = s.fork(100)
    group += sgl.gen("x")
    assert threading.active_count() <= before + 1
    group.join()
    assert time.monotonic() - started < 2
    assert s["x"] == ["a b"] * 100
    sgl.finish_run(s)


def test_an_aborted_request_says_no_more():
    backend = ScriptedBackend("a b c d", "thread", pace=0.05)
    s = sgl.start_state(backend)
    s += sgl.gen("x")
    assert next(s.text_iter("x")) == "a"
    s.abort()
    sgl.finish_run(s)
    assert s.text() in ("a", "a b")
    time.sleep(0.15)
    assert backend.calls[0].text == s.text()


def test_calls_keep_what_was_asked():
    backend = ScriptedBackend()
    state = two.run(backend=backend, temperature=0.5, return_logprob=True)
    first, second = backend.of("gen")
    assert (first.name, first.prompt, second.prompt) == ("x", "Q: ", "Q: ok then ")
    assert first.params["temperature"] == 0.5
    assert first.run == state.run_id
    assert first.options == {"return_logprob": True}
    info = state.get_meta_info("x")
    assert [lp for lp, _, _ in info["output_token_logprobs"]] == [-1.0]
    assert info["input_token_logprobs"] == []
    assert backend.get_server_info()["requests"] == 2


def test_instant_requests_leave_no_trace():
    backend = ScriptedBackend("ok", "instant")
    assert two.run(backend=backend).text() == "Q: ok then ok"
    assert backend.calls == []


@pytest.mark.parametrize("make", [WordTokenizer, lambda: CharTokenizer(merges=("ab", " b"))])
@given(text=st.text())
def test_tokenizers_lose_nothing(make, text):
    tokenizer = make()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(text) == ids
