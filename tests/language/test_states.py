"""One state: order, variables, roles, scopes, errors, life after the program."""

from __future__ import annotations

import threading

import pytest

import sglnb.language as sgl
from sglnb.language import GenerationError, SglVariable, UnknownVariable
from sglnb.testing import CharTokenizer, Failure, ScriptedBackend


@pytest.fixture
def s(backend):
    state = sgl.start_state(backend)
    yield state
    sgl.finish_run(state)


@pytest.fixture
def h(held):
    state = sgl.start_state(held)
    yield state
    sgl.finish_run(state, KeyboardInterrupt())


def test_text_and_generations_stand_in_order(s, backend):
    s += "a"
    s += sgl.gen("x") + "b" + sgl.gen("y", max_tokens=5)
    assert (s["x"], s["y"], s.text()) == ("ok", "ok", "aokbok")
    assert [c.prompt for c in backend.calls] == ["a", "aokb"]
    assert backend.calls[1].params == {"max_new_tokens": 5}
    assert [c.name for c in backend.calls] == ["x", "y"]
    assert {c.run for c in backend.calls} == {s.run_id}


def test_appending_never_waits(h, held):
    h += "a" + sgl.gen("x") + "b" + sgl.gen("y") + "c"
    assert len(held.held) == 1
    assert "x" not in h
    held.release()
    held_again(held)
    assert "x" in h
    assert held.held[0].prompt == "a<x>b"
    held.release()
    assert h.text() == "a<x>b<y>c"


def held_again(held):
    """The next request is sent by another thread; wait for it."""
    for _ in range(500):
        if held.held:
            return
        threading.Event().wait(0.01)
    raise AssertionError("no request came")


def test_requests_are_never_sent_from_the_engines_thread(h, held):
    sent_from = []
    submit = held.submit

    def spy(*args, **kwargs):
        sent_from.append(threading.current_thread())
        return submit(*args, **kwargs)

    held.submit = spy
    h += sgl.gen("x") + sgl.gen("y")
    engine = threading.Thread(target=held.release)
    engine.start()
    held_again(held)
    engine.join()
    assert sent_from[0] is threading.current_thread()
    assert sent_from[1] not in (engine, sent_from[0])


def test_variables_can_be_set_and_read_at_once(h, held):
    h += sgl.gen("x")
    h["k"] = [1, 2]
    assert h["k"] == [1, 2]  # though the generation before it is not done
    held.release()
    h.sync()
    assert h.get_var("k") == [1, 2]
    assert h.variables == {"x": "<x>", "k": [1, 2]}
    assert h.get_meta_info("k") is None
    assert h.get_meta_info("x")["id"]


def test_the_last_value_of_a_name_counts(h, held):
    h += sgl.gen("x")
    h["x"] = "mine"
    assert h["x"] == "mine"
    held.release()
    h.sync()
    assert h["x"] == "mine"
    assert h.text() == "<x>"
    h += sgl.gen("x")
    held.release()
    assert h["x"] == "<x>"


def test_a_name_used_twice_waits_for_the_second(h, held):
    h += sgl.gen("x")
    held.release()
    assert h["x"] == "<x>"
    h += "more" + sgl.gen("x")
    got = []
    reader = threading.Thread(target=lambda: got.append(h["x"]))
    reader.start()
    reader.join(0.05)
    assert reader.is_alive()
    assert got == []
    held.held[0].answer = "second"
    held.release()
    reader.join(5)
    assert got == ["second"]


def test_unknown_variables_are_told_with_the_known_ones(s):
    s += sgl.gen("x")
    s.sync()
    with pytest.raises(UnknownVariable, match="no variable 'y' in this state; it has: x"):
        s["y"]
    with pytest.raises(KeyError):
        s.get_meta_info("y")


def test_variable_of_another_state(held):
    a, b = sgl.start_state(held), sgl.start_state(held)
    a += sgl.gen("x")
    b += "got " + SglVariable("x", a) + "!"
    assert b.stream_executor.text_ == "got "
    held.release()
    assert b.text() == "got <x>!"
    b += SglVariable("x", a)
    assert b.text() == "got <x>!<x>"
    b += SglVariable("nope", a)
    assert isinstance(b.error(), GenerationError)
    assert isinstance(b.error().cause, UnknownVariable)
    sgl.finish_run(b)
    sgl.finish_run(a)


# -- roles and scopes ----------------------------------------------------------------------


def test_roles_and_messages(s):
    s += sgl.system("sys") + sgl.user("hi")
    with s.assistant():
        s += sgl.gen("a")
    s.user("more")
    assert s.text() == "system:\nsys\n\nuser:\nhi\n\nassistant:\nok\n\nuser:\nmore\n\n"
    assert s.messages() == [
        {"role": "system", "content": "sys"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "more"},
    ]


def test_begin_and_end(s):
    s += sgl.user_begin() + "hi" + sgl.user_end() + sgl.assistant_begin() + sgl.gen("a")
    s += sgl.assistant_end()
    assert [m["role"] for m in s.messages()] == ["user", "assistant"]


def test_without_a_template_the_assistant_stops_before_another_role(s, backend):
    s += sgl.user("hi") + sgl.assistant(sgl.gen("a")) + sgl.gen("free")
    s.sync()
    assert "\n\nuser:\n" in backend.calls[0].params["stop"]
    assert "stop" not in backend.calls[1].params


def test_a_role_inside_a_role_is_told_at_once_and_harms_nothing(s):
    with s.user():
        s += "hi"
        with pytest.raises(ValueError, match="assistant message cannot begin inside a user"):
            s += sgl.assistant("no")
    with pytest.raises(ValueError, match="no message is open"):
        s += sgl.user_end()
    assert s.error() is None
    assert s.messages() == [{"role": "user", "content": "hi"}]


def test_var_scope(s):
    s += "a"
    with s.var_scope("all"):
        s += "b" + sgl.gen("x") + "c"
    with pytest.raises(ZeroDivisionError), s.var_scope("half"):  # noqa: PT012
        s += "d"
        raise ZeroDivisionError
    s += "e"
    assert (s["all"], s["half"], s.text()) == ("bokc", "d", "abokcde")


# -- errors --------------------------------------------------------------------------------


def failing(prompt, call):
    return (
        Failure(RuntimeError("CUDA OOM"), after="par") if call.name == "bad" else f"<{call.name}>"
    )


def test_what_came_after_the_failure_says_so():
    s = sgl.start_state(ScriptedBackend(failing, mode="manual"))
    s += sgl.gen("bad") + sgl.gen("after")
    s.stream_executor.run.backend.release()
    with pytest.raises(GenerationError, match=r"'after' was never made: gen\('bad'\).*CUDA OOM"):
        s["after"]
    assert s.error().name == "bad"
    sgl.finish_run(s)


def test_an_error_at_submit_is_the_variables_error():
    s = sgl.start_state(ScriptedBackend(lambda prompt, call: ValueError("prompt: too long")))
    s += "a" + sgl.gen("x")
    with pytest.raises(GenerationError, match="prompt: too long"):
        s["x"]
    sgl.finish_run(s)


def test_each_reader_gets_its_own_exception():
    s = sgl.start_state(ScriptedBackend(failing))
    s += sgl.gen("bad")
    errors = []
    for _ in range(2):
        with pytest.raises(GenerationError) as e:
            s["bad"]
        errors.append(e.value)
    assert errors[0] is not errors[1]
    sgl.finish_run(s)


# -- life after the program ----------------------------------------------------------------


def test_a_state_lives_on(backend):
    @sgl.function
    def program(s):
        s += "p" + sgl.gen("x")

    s = program.run(backend=backend)
    s += "q" + sgl.gen("y")
    assert s["y"] == "ok"
    assert s.text() == "pokqok"
    g = s.fork(2)
    g += sgl.gen("z")
    g.join()
    assert s["z"] == ["ok", "ok"]
    s += sgl.user("u")
    assert s.messages()[-1]["content"] == "u"


def test_run_returns_while_generations_go_on(held):
    @sgl.function
    def program(s):
        s += "p" + sgl.gen("x")

    s = program.run(backend=held)
    assert "running" in repr(s)
    assert not s.stream_executor.run.done
    held.release()
    assert s["x"] == "<x>"
    assert sgl.wait_run(s, 5)
    assert held.kinds()[-2:] == ["state_ended", "run_ended"]


# -- select --------------------------------------------------------------------------------


def test_select_scores_all_choices_on_the_same_text():
    # "e " is one token: choice " x" merges with the end of the text, choice "y" does not.
    tokenizer = CharTokenizer(merges=("e ",))
    likely = {ord("y"): -0.25, 2_000_000: -0.5, ord("x"): -1.5, ord("e"): -0.75}
    backend = ScriptedBackend(score=lambda i: likely.get(i, -9.0), tokenizer=tokenizer)
    s = sgl.start_state(backend)
    s += "the" + sgl.select("c", [" x", "y"])
    # common tokens: t, h. Then: "e " x -> (-0.5 - 1.5)/2; e y -> (-0.75 - 0.25)/2
    assert s["c"] == "y"
    assert s.text() == "they"
    info = s.get_meta_info("c")
    assert info["normalized_prompt_logprobs"] == [-1.0, -0.5]
    assert info["input_token_logprobs"][0] == [(-0.5, 2_000_000, "e "), (-1.5, ord("x"), "x")]
    calls = backend.of("select")
    assert [c.options["logprob_start_len"] for c in calls] == [2, 2]
    assert all(c.options["return_logprob"] and c.params["max_new_tokens"] == 0 for c in calls)
    (event,) = [e for e in backend.events if e.kind == "variable_set"]
    assert event.text == "y"
    assert event.choices == [[" x", -1.0], ["y", -0.5]]
    sgl.finish_run(s)


def test_unconditional_select_scores_the_bare_choices_too():
    backend = ScriptedBackend(score=lambda i: -1.0, tokenizer=CharTokenizer())
    s = sgl.start_state(backend)
    method = sgl.unconditional_likelihood_normalized
    s += "text" + sgl.select("c", ["ab", "cd"], choices_method=method)
    assert s["c"] == "ab"
    assert [c.prompt for c in backend.of("select")[2:]] == [[97, 98], [99, 100]]
    # (-1 - 0) and (-1 + 1), mean -0.5
    info = s.get_meta_info("c")
    assert info["normalized_unconditional_prompt_logprobs"] == [-0.5, -0.5]
    sgl.finish_run(s)


def test_select_without_text_before_it(s):
    s += sgl.select("c", ["a", "b"])
    with pytest.raises(GenerationError, match="append some text before the select"):
        s["c"]


def test_select_fails_with_its_first_request():
    s = sgl.start_state(ScriptedBackend({"c": RuntimeError("lost")}))
    s += "text:" + sgl.select("c", ["a", "b"])
    with pytest.raises(GenerationError, match=r"select\('c'\) at .*lost"):
        s["c"]
    sgl.finish_run(s)


# -- looks ---------------------------------------------------------------------------------


def test_repr_is_short_and_waits_for_nothing(h, held):
    h += "a" * 5000 + sgl.gen("x")
    assert repr(h) == "ProgramState(5,000 characters, running)"
    held.held[0].answer = "y" * 500
    held.release()
    assert len(repr(h)) < 140
    assert "x='yyy" in repr(h)


def test_mimebundle_has_plain_text(s):
    s += "a" + sgl.gen("x")
    bundle = s._repr_mimebundle_()
    assert bundle["text/plain"] == repr(s)
