"""separate_reasoning: what the model thinks and what it says, whole and as it comes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sglnb as sgl
from sglnb.language import GenerationError, SglExprList, SglSeparateReasoning
from sglnb.language.reasoning import MODEL_TYPES, ReasoningMarkers, separate
from sglnb.testing import Failure, ScriptedBackend

QWEN, DEEPSEEK = MODEL_TYPES["qwen3"], MODEL_TYPES["deepseek-r1"]


@pytest.mark.parametrize(
    ("markers", "text", "reasoning", "said"),
    [
        (QWEN, "<think>\nhm\n</think>\n\nRome.", "hm", "Rome."),
        (QWEN, "Rome. \n", "", "Rome. \n"),
        (QWEN, " <think></think> Rome.", "", "Rome."),
        (QWEN, "<think>hm", "hm", ""),
        (QWEN, "<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        (QWEN, "Well: <think>a</think> yes", "a", "Well: yes"),
        (QWEN, "no </think> start", "", "no </think> start"),
        (DEEPSEEK, "hm</think>Rome.", "hm", "Rome."),
        (DEEPSEEK, "<think>\nhm</think>Rome.", "hm", "Rome."),
        (DEEPSEEK, "cut in the mid", "cut in the mid", ""),
        (DEEPSEEK, "I <think> so</think> yes", "I <think> so", "yes"),
        (ReasoningMarkers("[[", "]]"), "[[a]]b", "a", "b"),
    ],
)
def test_whole_texts(markers, text, reasoning, said):
    assert separate(text, markers) == (reasoning, said)


PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<th", "ink>", " ", "\n", "a", "<", "/"]))


@settings(max_examples=300)
@given(pieces=PIECES, opened=st.booleans())
def test_what_was_told_is_never_taken_back(pieces, opened):
    markers = ReasoningMarkers("<think>", "</think>", opened)
    text = "".join(pieces)
    told = separate("", markers, final=False)
    for end in range(len(text) + 1):
        now = separate(text[:end], markers, final=False)
        assert now.reasoning.startswith(told.reasoning)
        assert now.text.startswith(told.text)
        told = now
    final = separate(text, markers)
    assert final.reasoning.startswith(told.reasoning)
    assert final.text.startswith(told.text)


def test_the_expression_is_as_sglangs():
    gen = sgl.gen("x")
    expr = sgl.separate_reasoning(gen, model_type="qwen3")
    assert isinstance(expr, SglExprList)
    assert expr.expr_list[0] is gen
    tail = expr.expr_list[1]
    assert isinstance(tail, SglSeparateReasoning)
    assert (tail.model_type, tail.name) == ("qwen3", "x_reasoning_content")
    assert tail.process_name_for_reasoning("y") == "y_reasoning_content"
    assert repr(tail) == "SeparateReasoning(model_type=qwen3, name=x_reasoning_content)"


THOUGHT = "<think>\nlet me see\n</think>\n\nRome."


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_a_conversation_goes_on_with_what_was_said(mode):
    backend = ScriptedBackend({"x": THOUGHT, "y": "No thought."}, mode)

    @sgl.function
    def program(s):
        s += sgl.user("Capital?")
        s += sgl.assistant("Well: " + sgl.separate_reasoning(sgl.gen("x"), "qwen3") + "!")
        s += sgl.user("Sure?")
        with s.assistant():
            s += sgl.separate_reasoning("a" + sgl.gen("y") + "b", "qwen3")

    state = program.run(backend=backend)
    assert state["x"] == "Rome."
    assert state["x_reasoning_content"] == "let me see"
    assert (state["y"], state["y_reasoning_content"]) == ("No thought.", "")
    contents = [m["content"] for m in state.messages()]
    assert contents == ["Capital?", "Well: Rome.!", "Sure?", "aNo thought.b"]
    assert "think" not in backend.of("gen")[1].prompt
    assert state.get_meta_info("x")["completion_tokens"] > 10  # of all that was written


def test_both_stream_as_they_come():
    backend = ScriptedBackend({"x": THOUGHT}, "thread", pace=0.002)

    @sgl.function
    def program(s):
        s += "Q: " + sgl.separate_reasoning(sgl.gen("x"), "qwen3") + "."

    state = program.run(backend=backend, stream=True)
    reasoning = list(state.text_iter("x_reasoning_content"))
    assert "".join(reasoning) == "let me see"
    assert len(reasoning) > 1
    assert "".join(state.text_iter("x")) == "Rome."
    state = program.run(backend=backend, stream=True)
    assert "".join(state.text_iter()) == "Q: Rome.."


def test_forks_join_both():
    s = sgl.start_state(ScriptedBackend(THOUGHT))
    group = s.fork(2)
    group += sgl.separate_reasoning(sgl.gen("x"), ("<think>", "</think>"))
    group.join()
    assert s["x"] == ["Rome."] * 2
    assert s["x_reasoning_content"] == ["let me see"] * 2
    sgl.finish_run(s)


def test_the_hint_after_it_is_sent():
    """The cache holds the reasoning after the prompt, so what follows is new to it."""
    backend = ScriptedBackend(THOUGHT)
    s = sgl.start_state(backend)
    s += "Q: " + sgl.separate_reasoning(sgl.gen("x"), "qwen3")
    s.fork(2).join()
    assert [c.prompt for c in backend.of("prefill")] == ["Q: Rome."]
    sgl.finish_run(s)


def test_failures_and_stops():
    s = sgl.start_state(ScriptedBackend(Failure(RuntimeError("lost"), after="<think>a")))
    s += sgl.separate_reasoning(sgl.gen("x"), "qwen3")
    for name in ("x", "x_reasoning_content"):
        with pytest.raises(GenerationError, match="lost"):
            s[name]
    sgl.finish_run(s)

    backend = ScriptedBackend(THOUGHT, "manual")
    s = sgl.start_state(backend)
    s += "Q: " + sgl.separate_reasoning(sgl.gen("x"), "qwen3")
    s += sgl.separate_reasoning(sgl.gen("y"), "qwen3")
    backend.held[0].say("<think>let me")
    s.abort()
    s.sync()
    assert (s["x"], s["x_reasoning_content"], s.text()) == ("", "let me", "Q: ")
    with pytest.raises(GenerationError):
        s["y_reasoning_content"]
    sgl.finish_run(s)
    s += "on" + sgl.gen("z")
    backend.release(len(backend.held))
    assert s["z"] == THOUGHT


def test_mistakes():
    with pytest.raises(ValueError, match="there is no gen in it"):
        sgl.separate_reasoning("text", "qwen3")
    with pytest.raises(ValueError, match="the gen needs a name"):
        sgl.separate_reasoning(sgl.gen(), "qwen3")
    s = sgl.start_state(ScriptedBackend())
    with pytest.raises(ValueError, match=r"model_type: must be one of deepseek-r1.*got 'gpt'"):
        s += sgl.separate_reasoning(sgl.gen("x"), "gpt")
    with pytest.raises(ValueError, match="model_type: must be a name or the two markers"):
        s += sgl.separate_reasoning(sgl.gen("x"), ("<think>",))
    with pytest.raises(ValueError, match="must follow its gen"):
        s += sgl.separate_reasoning(sgl.gen("x"), "qwen3").expr_list[1]
    assert s.text() == ""
    sgl.finish_run(s)
