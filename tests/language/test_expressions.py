"""Expressions, and mistakes in them, which are told where they are written."""

from __future__ import annotations

import inspect

import pytest

import sglnb.language as sgl
from sglnb.errors import ConstraintError
from sglnb.language import SglConstantText, SglExprList, SglGen, SglRoleBegin, SglSelect
from sglnb.language.sampling import DTYPE_REGEX, resolve


def test_expressions_add_up_flat():
    expr = "a" + sgl.gen("x") + "b" + (sgl.gen("y") + "c")
    assert isinstance(expr, SglExprList)
    assert [type(e).__name__ for e in expr.expr_list] == [
        "SglConstantText",
        "SglGen",
        "SglConstantText",
        "SglGen",
        "SglConstantText",
    ]
    assert isinstance(sgl.user("q"), SglExprList)
    assert isinstance(sgl.user(), SglRoleBegin)


def test_adding_does_not_change_the_parts():
    a, b = "1" + sgl.gen("x"), sgl.gen("y") + "2"
    both = a + b
    assert (len(a.expr_list), len(b.expr_list), len(both.expr_list)) == (2, 2, 4)


def test_an_f_string_with_an_open_expression_is_refused():
    with pytest.raises(TypeError, match="f-string"):
        f"Q: {sgl.gen('x')}"
    assert repr(sgl.gen("x")) == "Gen('x')"


@pytest.mark.parametrize("value", [None, 3, ["a"]])
def test_only_text_and_expressions_can_be_added(value):
    with pytest.raises(TypeError, match="cannot append"):
        sgl.gen("x") + value


def test_text_that_is_not_unicode_is_told_on_its_line(backend):
    state = sgl.start_state(backend)
    for append in (
        lambda: state.__iadd__("caf\ud83d"),
        lambda: state.user("caf\ud83d"),
        lambda: sgl.gen("x") + "caf\ud83d",
    ):
        with pytest.raises(ValueError, match=r"lone surrogate '\\ud83d' at position 3.*replace"):
            append()
    state += "fine \U0001f600"
    assert state.text() == "fine \U0001f600"
    sgl.finish_run(state)


def test_gen_with_choices_is_a_select():
    expr = sgl.gen("x", choices=["a", "b"], choices_method="greedy_token_selection")
    assert isinstance(expr, SglSelect)
    assert expr.choices_method is sgl.greedy_token_selection


def test_choices_may_be_written_instead():
    words = ("a", "b")
    expr = sgl.gen("x", choices=words, choices_method="trie", temperature=1, timeout=3)
    assert isinstance(expr, SglGen)
    assert expr.sampling_params == {"choices": ["a", "b"], "temperature": 1}


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: sgl.gen("x", n=0), ValueError, "n: must be"),
        (lambda: sgl.gen("x", n=2, pick=2), ValueError, "pick: must be 0 to 1"),
        (lambda: sgl.gen("x", pick="best"), ValueError, "pick: must be the index"),
        (lambda: sgl.gen("x", max_tokens=-1), ValueError, "max_tokens: must be"),
        (lambda: sgl.gen("x", min_tokens=5, max_tokens=2), ValueError, "min_tokens: must be"),
        (lambda: sgl.gen("x", temperature=-1), ValueError, "temperature: must be"),
        (lambda: sgl.gen("x", top_p=0), ValueError, "top_p: must be"),
        (lambda: sgl.gen("x", stop=[""]), ValueError, "stop: must be"),
        (lambda: sgl.gen("x", regex="("), ConstraintError, "regex: "),
        (lambda: sgl.gen("x", regex=3), ValueError, "regex: must be a string"),
        (lambda: sgl.gen("x", regex="a", dtype=int), ValueError, "dtype and regex"),
        (
            lambda: sgl.gen("x", regex="a", choices=["a"]),
            ValueError,
            "choices and regex: give only one",
        ),
        (lambda: sgl.gen("x", dtype=dict), ValueError, "dtype: must be one of"),
        (lambda: sgl.gen("x", choices=[]), ValueError, "choices: must be"),
        (lambda: sgl.gen("x", choices="ab"), ValueError, "choices: must be"),
        (lambda: sgl.gen("x", choices_method="x"), ValueError, "choices_method: needs"),
        (lambda: sgl.gen("x", choices_method="trie"), ValueError, "choices_method: needs"),
        (
            lambda: sgl.gen("x", choices=["a", ""], choices_method="trie"),
            ValueError,
            "choices: must be non-empty strings",
        ),
        (
            lambda: sgl.gen("x", choices=["a", "b\ud800"], choices_method="trie"),
            ValueError,
            "choices: has a lone surrogate",
        ),
        (
            lambda: sgl.select("x", ["a"], choices_method="trie"),
            ValueError,
            "choices_method: must be one of",
        ),
        (lambda: sgl.select("x"), ValueError, "choices: is missing"),
        (lambda: sgl.select("x", ["a", ""]), ValueError, "choices: must be non-empty strings"),
        (lambda: sgl.select("x", ["a"], temperature=1), ValueError, "temperature: "),
        (lambda: sgl.select("x", ["a"], temperature="0"), ValueError, "temperature: select takes"),
        (lambda: sgl.select("x", ["a"], temperature=None), ValueError, "temperature: select takes"),
        (lambda: sgl.select("x", ["a", "b\ud800"]), ValueError, "choices: has a lone surrogate"),
        (lambda: sgl.select("x", ["a"], choices_method="best"), ValueError, "choices_method: "),
        (lambda: sgl.gen(3), TypeError, "name: must be a string"),
        (lambda: sgl.gen("x", top_logprobs_num=-1), ValueError, "top_logprobs_num: "),
    ],
)
def test_mistakes_name_the_argument(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_min_tokens_alone_may_be_over_the_default_maximum():
    assert sgl.gen("x", min_tokens=500).sampling_params == {"min_new_tokens": 500}


def test_an_expression_knows_its_line():
    line = inspect.currentframe().f_lineno + 1
    for expr in (sgl.gen("x"), sgl.gen_int("x"), sgl.gen_string(), sgl.select("x", ["a"])):
        assert expr.where == (__file__, line)


def test_gen_wins_over_run_and_nothing_of_the_callers_is_kept_or_changed():
    stop = ["\n"]
    expr = sgl.gen("x", stop=stop, temperature=0.5, dtype=int, return_logprob=True)
    defaults = {"temperature": 1.0, "top_p": 0.9, "stop": ["never"]}
    params, options = resolve(expr, defaults, stop=("<end>",), stop_token_ids=(7,))
    assert params == {
        "temperature": 0.5,
        "top_p": 0.9,
        "regex": DTYPE_REGEX["int"],
        "stop": ["\n", " ", "<end>"],
        "stop_token_ids": [7],
    }
    assert options == {"return_logprob": True}
    stop.append("later")
    again, _ = resolve(expr, defaults, stop=("<end>",), stop_token_ids=(7,))
    assert again == params
    assert defaults["stop"] == ["never"]


def test_every_parameter_of_gen_comes_under_its_own_name():
    given = {
        "max_tokens": 9,
        "min_tokens": 1,
        "n": 2,
        "stop": ["a"],
        "stop_token_ids": [3],
        "stop_regex": ["b"],
        "temperature": 0.1,
        "top_p": 0.2,
        "top_k": 4,
        "min_p": 0.3,
        "frequency_penalty": 0.4,
        "presence_penalty": 0.5,
        "repetition_penalty": 0.6,
        "logit_bias": {7: 0.7},
        "custom_logit_processor": lambda ids, logits: logits,
        "seed": 8,
        "no_stop_trim": True,
        "ignore_eos": True,
        "skip_special_tokens": False,
        "return_logprob": True,
        "logprob_start_len": 0,
        "top_logprobs_num": 2,
        "token_ids_logprob": [5],
        "return_text_in_logprobs": True,
        "return_entropy": True,
        "regex": "a+",
        "on_budget": "cut",
        "jump_forward": False,
        "retokenize": "rewind",
        "lora": "mine",
    }
    renamed = {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens"}
    expected = {renamed.get(name, name): value for name, value in given.items()}
    assert sgl.gen("x", **given).sampling_params == expected
    apart = {"name", "dtype", "choices", "choices_method", "type", "pick", "timeout"}
    constraints = {"json_schema", "grammar", "whitespace", "lenient"}
    constraints |= {"tools", "tool_style", "when", "max_calls", "expression", "scope"}
    assert set(inspect.signature(sgl.gen).parameters) == given.keys() | apart | constraints


@pytest.mark.parametrize(
    "given",
    [
        {"json_schema": '{"type": "integer"}', "whitespace": "compact", "lenient": True},
        {"grammar": 'start: "a"'},
    ],
)
def test_every_constraint_of_gen_comes_under_its_own_name(given):
    assert sgl.gen("x", **given).sampling_params == given


def test_tools_and_expressions_come_under_their_own_names():
    def look(n: int) -> int:
        """Look."""

    params = sgl.gen("x", tools=[look], tool_style="python", when="<call>", max_calls=2)
    assert list(params.sampling_params) == ["tools"]
    assert "look" in params.sampling_params["tools"].source
    params = sgl.gen("x", expression=float, scope={"price": float})
    assert list(params.sampling_params) == ["expression"]


def test_ignore_eos_also_ignores_the_templates_end():
    params, _ = resolve(SglGen("x", {"ignore_eos": True}), {}, stop_token_ids=(7,))
    assert "stop_token_ids" not in params


def test_one_expression_can_go_to_many_states(backend):
    expr = SglConstantText("x") + sgl.gen("a")
    states = [sgl.start_state(backend) for _ in range(2)]
    for s in states:
        s += expr
        assert s["a"] == "ok"
        sgl.finish_run(s)
