"""The names, parameters and attributes that programs written for SGLang use."""

from __future__ import annotations

import importlib
import inspect

import pytest
from PIL import Image as Pictures

import sglnb as sgl
from sglnb.language import (
    ChoicesDecision,
    ChoicesSamplingMethod,
    SglConstantText,
    SglExprList,
    SglGen,
    SglImage,
    SglRoleBegin,
    SglRoleEnd,
    SglSelect,
    SglVideo,
)
from sglnb.testing import ScriptedBackend

PUBLIC = """
    Engine Runtime assistant assistant_begin assistant_end flush_cache function gen gen_int
    gen_string get_server_info global_config greedy_token_selection image select
    separate_reasoning set_default_backend system system_begin system_end
    token_length_normalized unconditional_likelihood_normalized user user_begin user_end video
    BaseBackend
"""

MODULES = {
    "ir": "REGEX_INT REGEX_FLOAT REGEX_BOOL REGEX_STR SglArgument SglConstantText SglExpr "
    "SglExprList SglFork SglFunction SglGen SglImage SglRoleBegin SglRoleEnd SglSamplingParams "
    "SglSelect SglSeparateReasoning SglVariable SglVarScopeBegin SglVarScopeEnd SglVideo",
    "choices": "ChoicesDecision ChoicesSamplingMethod token_length_normalized",
    "interpreter": "ProgramState ProgramStateGroup StreamExecutor",
    "chat_template": "ChatTemplate get_chat_template",
    "backend.base_backend": "BaseBackend",
}
LATER = {"SglArgument"}  # belongs to tracing


ORDER = """
    name max_tokens min_tokens n stop stop_token_ids stop_regex temperature top_p top_k min_p
    frequency_penalty presence_penalty ignore_eos return_logprob logprob_start_len
    top_logprobs_num return_text_in_logprobs dtype choices choices_method regex
"""


def test_names():
    assert [name for name in PUBLIC.split() if not hasattr(sgl, name)] == []
    for module, names in MODULES.items():
        found = importlib.import_module(f"sglnb.lang.{module}")
        assert [n for n in names.split() if not hasattr(found, n) and n not in LATER] == []


def test_the_order_of_gens_parameters():
    order = ORDER.split()
    assert list(inspect.signature(sgl.gen).parameters)[: len(order)] == order
    expr = sgl.gen("x", 9, 1, 2, ["\n"], [7], "[.]", 0.5, 0.9, 5, 0.1, 0.2, 0.3, True)
    assert expr.sampling_params == {
        "max_new_tokens": 9,
        "min_new_tokens": 1,
        "n": 2,
        "stop": ["\n"],
        "stop_token_ids": [7],
        "stop_regex": "[.]",
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.3,
        "ignore_eos": True,
    }
    assert list(inspect.signature(sgl.select).parameters) == [
        "name",
        "choices",
        "temperature",
        "choices_method",
    ]
    assert sgl.gen_int("x", 5, 2, "\n").sampling_params["n"] == 2


def test_run_takes_sglangs_arguments():
    @sgl.function
    def program(s, q):
        s += q + sgl.gen("x")

    backend = ScriptedBackend()
    state = program.run(
        q="hi",
        max_new_tokens=5,
        n=1,
        stop=[],
        stop_token_ids=[],
        stop_regex=[],
        temperature=1.0,
        top_p=1.0,
        top_k=-1,
        min_p=0.0,
        frequency_penalty=0.0,
        presence_penalty=0.0,
        ignore_eos=False,
        return_logprob=True,
        logprob_start_len=0,
        top_logprobs_num=1,
        return_text_in_logprobs=True,
        stream=False,
        backend=backend,
        use_thread=False,
    )
    assert state["x"] == "ok"
    assert backend.calls[0].options["return_text_in_logprobs"] is True
    for option in ("use_thread", "stream"):
        assert option not in backend.calls[0].params
    rows = program.run_batch([("a",), ("b",)], max_new_tokens=5, backend=backend, num_threads=2)
    assert [row.text() for row in rows] == ["aok", "bok"]


def test_the_insides_that_sglangs_tests_look_at():
    @sgl.function(num_api_spec_tokens=64)
    def program(s, q, more=""):
        s += sgl.user(q)
        s += sgl.assistant(sgl.gen("x"))

    assert program.arg_names == ["q", "more"]
    assert program.bind(q="hi").bind_arguments == {"q": "hi"}
    state = program.run(q="hi", backend=ScriptedBackend())
    ex = state.stream_executor
    state.sync()
    assert ex.variables == {"x": "ok"}
    assert ex.text_ == state.text()
    assert ex.messages_ == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ok"},
    ]
    assert ex.meta_info["x"]["completion_tokens"] == 1
    assert ex.arguments == {"q": "hi"}
    assert ex.num_api_spec_tokens == 64
    with pytest.raises(ValueError, match="num_api_spec_tokens: must be"):
        sgl.function(num_api_spec_tokens=0)
    assert sgl.function(api_num_spec_tokens=8)(program.func).num_api_spec_tokens == 8


def test_expressions_have_their_attributes(tmp_path):
    assert SglConstantText("a").value == "a"
    assert (SglRoleBegin("user").role, SglRoleEnd("user").role) == ("user", "user")
    expr = "a" + sgl.gen("x")
    assert isinstance(expr, SglExprList)
    assert [type(e) for e in expr.expr_list] == [SglConstantText, SglGen]
    select = sgl.gen("x", choices=["a", "b"])
    assert isinstance(select, SglSelect)
    assert (select.name, select.choices, select.temperature) == ("x", ["a", "b"], 0.0)
    frames = [Pictures.new("RGB", (2, 2), (i, 0, 0)) for i in range(9)]
    frames[0].save(tmp_path / "cat.png")
    assert sgl.image(str(tmp_path / "cat.png")).path == "cat.png"
    video = sgl.video(frames, 3)
    assert isinstance(video, SglVideo)
    assert video.num_frames == 3
    assert all(isinstance(e, SglImage) for e in video.expr_list)
    s = sgl.start_state(ScriptedBackend())
    s += "See: " + video + sgl.gen("x")
    assert s.text() == "See: <image><image><image>ok"
    sgl.finish_run(s)


def test_a_choices_method_of_ones_own():
    class Shortest(ChoicesSamplingMethod):
        def __call__(self, *, choices, normalized_prompt_logprobs, **measured):
            return ChoicesDecision(min(choices, key=len), {"seen": sorted(measured)})

    s = sgl.start_state(ScriptedBackend())
    s += "text:" + sgl.select("x", ["long one", "one"], choices_method=Shortest())
    assert s["x"] == "one"
    assert "input_token_logprobs" in s.get_meta_info("x")["seen"]
    sgl.finish_run(s)


def test_global_config(monkeypatch):
    backend = ScriptedBackend()
    s = sgl.start_state(backend)
    monkeypatch.setattr(sgl.global_config, "skip_special_tokens_in_output", False)
    s += sgl.gen("x") + sgl.gen("y", skip_special_tokens=True)
    sgl.finish_run(s)
    assert [c.params["skip_special_tokens"] for c in backend.calls] == [False, True]
    with pytest.warns(UserWarning, match="verbosity: no effect"):
        sgl.global_config.verbosity = 2
    with pytest.raises(AttributeError, match="global_config has no 'verbose'"):
        sgl.global_config.verbose = 2
    sgl.global_config.default_backend = backend
    assert sgl.get_default_backend() is backend
    sgl.global_config.default_backend = None


def test_runtime_says_what_to_use():
    with pytest.raises(TypeError, match=r"use sgl\.Engine\(model\)"):
        sgl.Runtime(model_path="x")


def test_module_level_calls_reach_the_engine(engine):
    engine.generate("One two three four five", {"max_new_tokens": 1})
    nodes = len(engine.cache.snapshot())
    assert sgl.flush_cache(engine) is True
    assert len(engine.cache.snapshot()) < nodes
    assert sgl.get_server_info(engine)["model"] == engine.model_name
    with pytest.raises(TypeError, match="backend: "):
        sgl.flush_cache(object())


def test_meta_info_has_sglangs_names(engine):
    s = sgl.start_state(engine)
    s += "One two" + sgl.gen(
        "x",
        max_tokens=3,
        ignore_eos=True,
        return_logprob=True,
        logprob_start_len=0,
        top_logprobs_num=2,
        return_text_in_logprobs=True,
    )
    info = s.get_meta_info("x")
    assert info["completion_tokens"] == 3
    assert info["finish_reason"] == {"type": "length", "length": 3}
    assert {"id", "cached_tokens", "e2e_latency", "forced_tokens", "seconds"} <= info.keys()
    assert 0 < info["e2e_latency"] == info["seconds"] < 60
    assert len(info["input_token_logprobs"]) == info["prompt_tokens"]
    logprob, token, text = info["output_token_logprobs"][0]
    assert logprob < 0 <= token
    assert text == engine.tokenizer.pieces[token]
    assert [len(top) for top in info["output_top_logprobs"]] == [2, 2, 2]
    sgl.finish_run(s)
