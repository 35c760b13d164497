"""A compiled program does what the plain one does, with more of it at once."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traced_programs import answer, by_character, do, main, programs, score

import sglnb.language as sgl
from sglnb.errors import RequestAborted
from sglnb.language import BranchError, GenerationError, TraceError
from sglnb.testing import ScriptedBackend


def scripted(mode: str, seed: int) -> ScriptedBackend:
    rng = random.Random(seed)
    return by_character(
        lambda prompt, call: answer(prompt),
        mode=mode,
        delay=lambda call: rng.random() * 0.004,
        score=score,
    )


@pytest.mark.parametrize("mode", ["inline", "thread"])
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs(), seed=st.integers(0, 99))
def test_a_compiled_program_writes_what_the_plain_one_does(mode, program, seed):
    backend = scripted(mode, seed)
    plain = main.run(program, "ARG", backend=backend)
    compiled = main.compile(backend=backend)
    state = compiled.run(program, "ARG")
    assert state.text() == plain.text()
    assert state.error() is None
    assert plain.error() is None
    assert state.variables == plain.variables
    assert state.messages() == plain.messages()
    assert state.ret_value == plain.ret_value
    assert sgl.wait_run(plain, 10)
    assert sgl.wait_run(state, 10)
    prompts = sorted(str(c.prompt) for c in backend.calls if c.run == plain.run_id)
    assert sorted(str(c.prompt) for c in backend.calls if c.run == state.run_id) == prompts
    kinds = backend.kinds()
    assert kinds.count("state_started") == kinds.count("state_ended")
    assert kinds.count("run_ended") == 2


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs(), after=st.floats(0, 0.02), seed=st.integers(0, 99))
def test_a_compiled_program_that_is_stopped_comes_to_rest_and_goes_on(program, after, seed):
    backend = scripted("thread", seed)
    states = []

    @sgl.function
    def whole(s):
        states.append(s)
        do(s, program, "ARG")

    compiled = whole.compile(backend=backend)
    timer = None
    try:
        state = compiled.run()
        timer = threading.Timer(after, state.abort)
        timer.start()
    finally:
        if timer is not None:
            timer.join()
    assert sgl.wait_run(state, 10)
    state.sync()
    assert state.error() is None or isinstance(state.error(), RequestAborted)
    before = state.text()
    state += sgl.user("go on") + sgl.assistant(sgl.gen("last"))
    assert state["last"] == answer(before + "user:\ngo on\n\nassistant:\n")


# -- what is won ------------------------------------------------------------------------------


@sgl.function
def expand(s, tip):
    s += "Expand: " + tip + "\n" + sgl.gen("more")


@sgl.function
def two_topics(s, first, second):
    one = expand.run(first)
    s += "1. " + one["more"] + "\n"
    two = expand.run(second)
    s += "2. " + two["more"] + "\n" + sgl.gen("summary")


def names(backend: ScriptedBackend) -> list[str]:
    return [request.name for request in backend.held]


def in_flight(backend: ScriptedBackend, run) -> list[list[str]]:
    """Run the program in a thread; the names of the generations in flight at each moment."""
    box, seen = [], []
    thread = threading.Thread(target=lambda: box.append(run()))
    thread.start()
    while True:
        for _ in range(200):
            if backend.held or (box and box[0].stream_executor.idle):
                break
            threading.Event().wait(0.005)
        if not backend.held:
            break
        seen.append(sorted(names(backend)))
        backend.release(len(backend.held))
    thread.join(5)
    assert not thread.is_alive()
    return seen


def test_states_that_do_not_need_each_other_are_in_flight_together(held):
    plain = in_flight(held, lambda: two_topics.run("a", "b", backend=held))
    assert plain == [["more"], ["more"], ["summary"]]
    compiled = two_topics.compile(backend=held)
    assert in_flight(held, lambda: compiled.run("a", "b")) == [["more", "more"], ["summary"]]


def test_branches_do_not_wait_for_a_variable_that_was_read_before_them(held):
    @sgl.function
    def program(s):
        s += "Q" + sgl.gen("a")
        branches = s.fork(2)
        branches[0] += sgl.gen("left")
        s += branches[0]["left"]
        branches[1] += sgl.gen("right") + "."
        s += branches[1]["right"]

    assert in_flight(held, lambda: program.run(backend=held)) == [["a"], ["left"], ["right"]]
    compiled = program.compile(backend=held)
    assert in_flight(held, compiled.run) == [["a"], ["left", "right"]]


def test_run_does_not_wait(held):
    compiled = two_topics.compile(backend=held)
    state = compiled.run("a", "b")
    assert names(held) == ["more", "more"]
    assert state.text  # nothing was waited for
    held.release(2)
    threading.Event().wait(0.01)
    while "summary" not in names(held):
        threading.Event().wait(0.005)
    held.release()
    assert state["summary"] == "<summary>"
    assert state.text() == "1. <more>\n2. <more>\n<summary>"


def test_a_long_chain_of_states_that_wait_for_each_other(held):
    @sgl.function
    def link(s, before):
        s += "." + before

    @sgl.function
    def program(s):
        s += sgl.gen("x")
        text = s["x"]
        for _ in range(600):
            text = link.run(text).text()
        s += text

    state = program.compile(backend=held).run()
    assert names(held) == ["x"]
    held.release()
    assert state.text() == "<x>" + "." * 600 + "<x>"


# -- batches, arguments, options --------------------------------------------------------------


def test_batches_bind_and_options(backend):
    compiled = expand.compile(backend=backend)
    states = compiled.run_batch([{"tip": "a"}, {"tip": "b"}], temperature=0, stop="x")
    assert [s.text() for s in states] == ["Expand: a\nok", "Expand: b\nok"]
    gens = backend.of("gen")
    assert [call.params for call in gens] == [{"temperature": 0, "stop": ["x"]}] * 2
    assert compiled.bind(tip="z").run().text() == "Expand: z\nok"
    assert repr(compiled) == "CompiledFunction(expand(s, tip))"


def test_options_of_a_nested_program_are_its_own(backend):
    @sgl.function
    def program(s):
        other = expand.run("x", temperature=0.5)
        s += other["more"] + sgl.gen("y")

    program.compile(backend=backend).run(temperature=0, max_new_tokens=7).sync()
    assert [call.params for call in backend.of("gen")] == [
        {"temperature": 0.5, "max_new_tokens": 7},
        {"temperature": 0, "max_new_tokens": 7},
    ]


def test_arguments_may_decide_what_a_program_does(backend):
    @sgl.function
    def program(s, items, style=None):
        if style is not None:
            s += f"In the style of {style}: "
        for i, item in enumerate(items):
            s += f"{i}. {item.upper()}\n"
        s += sgl.gen("x")

    compiled = program.compile(backend=backend)
    for kwargs in ({"items": ["a", "b"]}, {"items": [], "style": "noir"}):
        assert compiled.run(**kwargs).text() == program.run(**kwargs, backend=backend).text()


def test_a_missing_argument_is_told_as_in_a_run(backend):
    with pytest.raises(TypeError, match="missing a required argument: 'tip'"):
        expand.compile(backend=backend).run()
    with pytest.raises(TypeError, match="missing a required argument: 'tip'"):
        expand.compile(backend=backend).run(tips="x")


def test_it_belongs_to_the_program_that_calls_it(backend):
    compiled = expand.compile()

    @sgl.function
    def outer(s):
        other = compiled("x")
        s += other["more"] + "." + s.text()

    state = outer.run(backend=backend)
    assert state.text() == "ok."
    assert {call.run for call in backend.calls} == {state.run_id}
    assert outer.trace(backend=backend).complete
    assert outer.compile(backend=backend).run().text() == "ok."


# -- what cannot be compiled ------------------------------------------------------------------


def test_a_step_that_depends_on_the_model_is_told_with_its_line(backend):
    @sgl.function
    def program(s, q):
        s += q + sgl.gen("x")
        if s["x"] == "yes":
            s += "!"

    with pytest.raises(TraceError, match=r"test_compile.py:\d+ \(`if s\[\"x\"\] == \"yes\":`\)"):
        program.compile(backend=backend)
    assert backend.calls == []


def test_one_behind_an_argument_is_told_when_it_runs(backend):
    @sgl.function
    def program(s, q):
        s += f"{q}" + sgl.gen("x")
        s += s["x"].strip()

    compiled = program.compile(backend=backend)
    with pytest.raises(TraceError, match=r"\.strip\(\) of variable 'x'"):
        compiled.run("q")
    assert backend.of("gen") == []


# -- when it goes wrong -----------------------------------------------------------------------


def test_an_error_is_told_where_its_result_is_read():
    backend = ScriptedBackend(
        lambda prompt, call: RuntimeError("no luck") if "bad" in prompt else "fine", mode="thread"
    )
    state = two_topics.compile(backend=backend).run("bad", "good")
    with pytest.raises(GenerationError, match=r"gen\('more'\).*no luck"):
        state["summary"]
    assert state.text() == "1. "


@pytest.mark.parametrize("mode", ["inline", "thread"])
@pytest.mark.parametrize("join", ["gather_variable", "concate_and_append"])
@pytest.mark.parametrize("on_error", ["raise", "keep"])
def test_a_branch_that_fails_loses_nothing_of_the_others(mode, join, on_error):
    backend = ScriptedBackend(
        lambda prompt, call: RuntimeError("no luck") if "1" in prompt else "fine", mode=mode
    )

    @sgl.function
    def program(s):
        branches = s.fork(3)
        branches += lambda i: f"{i}:" + sgl.gen("x") + "."
        branches.join(join, on_error=on_error)
        s += "after"

    state = program.compile(backend=backend).run()
    error = state.error()
    if on_error == "keep":
        assert error is None
        assert state.text() == ("after" if join == "gather_variable" else "0:fine.2:fine.after")
    else:
        assert isinstance(error.cause, BranchError)
        assert [e is None for e in error.cause.errors] == [True, False, True]
    if join == "gather_variable":
        assert state["x"] == ["fine", None, "fine"]
        assert state.get_meta_info("x")[0]["finish_reason"]["type"] == "stop"
    assert sgl.wait_run(state, 10)


# -- on the engine ----------------------------------------------------------------------------


@sgl.function
def survey(s, topic):
    s += sgl.user("Name one thing about " + topic + ".")
    s += sgl.assistant(sgl.gen("thing", max_tokens=8))
    branches = s.fork(2)
    branches += sgl.user("Go on.")
    for branch in branches:
        branch += sgl.assistant(sgl.gen("more", max_tokens=6))
        s += sgl.user("So: " + branch["more"])
    branches.join()
    s += sgl.assistant(sgl.select("verdict", choices=["good", "bad"]))


def test_on_the_engine_the_greedy_text_is_the_same(engine):
    compiled = survey.compile(backend=engine)
    plain = survey.run("the sea", backend=engine, temperature=0)
    state = compiled.run("the sea", temperature=0)
    assert state.text() == plain.text()
    assert state.variables == plain.variables
    assert state.messages() == plain.messages()
    drawn = [f.run("the sea", backend=engine, seed=5) for f in (survey, compiled)]
    assert drawn[0].text() == drawn[1].text() != plain.text()
    engine.check()
