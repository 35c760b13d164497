"""Functions as programs: arguments, batches, streams, nesting."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from pandas import DataFrame

import sglnb.language as sgl
from sglnb.language import GenerationError, ProgramState
from sglnb.testing import Failure, ScriptedBackend


def named(prompt, call):
    if call.name == "bad":
        return RuntimeError("CUDA OOM")
    return f"<{call.name}>"


@sgl.function
def qa(s, question, suffix="?"):
    """Ask."""
    s += sgl.user(question + suffix)
    s += sgl.assistant(sgl.gen("answer"))
    return len(question)


def test_run_returns_the_state(backend):
    state = qa.run("hi", backend=backend)
    assert state["answer"] == "ok"
    assert state.ret_value == 2
    assert qa.run(question="hi", suffix="!", backend=backend).messages()[0]["content"] == "hi!"
    assert qa.__doc__ == "Ask."
    assert qa.__name__ == "qa"
    assert repr(qa) == "SglFunction(qa(s, question, suffix))"


def test_sampling_options_are_the_base_for_every_gen(backend):
    qa.run("hi", backend=backend, temperature=0, max_new_tokens=9, stop="x", seed=None)
    params = backend.calls[0].params
    assert (params["temperature"], params["max_new_tokens"]) == (0, 9)
    assert params["stop"][0] == "x"
    assert "seed" not in params
    with pytest.raises(ValueError, match="temperature: must be"):
        qa.run("hi", backend=backend, temperature=-1)
    with pytest.raises(ValueError, match="n: must be"):
        qa.run("hi", backend=backend, n=0)
    assert len(backend.calls) == 1


def test_a_parameter_named_as_an_option_is_the_functions_own(backend):
    @sgl.function
    def program(s, seed):
        s += f"{seed}" + sgl.gen("x")

    assert program.run(seed=7, backend=backend).text() == "7ok"
    assert "seed" not in backend.calls[0].params


def test_bind(backend):
    bound = qa.bind(question="hi").bind(suffix="!")
    assert bound.run(backend=backend).messages()[0]["content"] == "hi!"
    assert bound.run(suffix="", backend=backend).messages()[0]["content"] == "hi"
    assert qa.bind_arguments == {}
    assert "question='hi'" in repr(bound)
    with pytest.raises(TypeError, match="no parameter 'nope'; it has: question, suffix"):
        qa.bind(nope=1)


def test_what_cannot_be_a_program():
    with pytest.raises(TypeError, match=r"must be named 's'.*got 'state'"):
        sgl.function(lambda state: None)
    with pytest.raises(TypeError, match="must be named 's'"):
        sgl.function(lambda: None)

    async def later(s):
        yield

    def pieces(s):
        yield

    with pytest.raises(TypeError, match="later contains yield"):
        sgl.function(later)
    with pytest.raises(TypeError, match="pieces contains yield"):
        sgl.function(pieces)
    with pytest.raises(TypeError, match="needs a function"):
        sgl.function("x")
    assert isinstance(sgl.function()(lambda s: None), sgl.SglFunction)


def test_a_backend_must_have_the_methods(backend):
    with pytest.raises(TypeError, match="backend: str has no submit, abort, events, tokenizer"):
        qa.run("hi", backend="http://localhost")
    with pytest.raises(TypeError, match="backend: "):
        sgl.set_default_backend(object())
    sgl.set_default_backend(backend)
    try:
        assert sgl.get_default_backend() is backend
        assert qa.run("hi")["answer"] == "ok"
    finally:
        sgl.set_default_backend(None)


def test_an_error_in_the_body_is_raised_and_stops_the_run(held):
    @sgl.function
    def program(s):
        s += sgl.gen("x")
        raise ZeroDivisionError("body")

    with pytest.raises(ZeroDivisionError, match="body"):
        program.run(backend=held)
    assert held.calls[0].aborted
    ended = [e for e in held.events if e.kind == "run_ended"]
    assert [e.error for e in ended] == ["ZeroDivisionError: body"]
    with pytest.raises(TypeError, match="question"):
        qa.run(backend=held)


# -- nesting -------------------------------------------------------------------------------


def test_a_program_called_without_a_state_has_its_own_in_the_same_run(backend):
    @sgl.function
    def outer(s):
        inner = qa("inner")
        also = qa.run("also", temperature=0.5)
        s += inner["answer"] + also["answer"] + sgl.gen("x")

    state = outer.run(backend=backend, top_p=0.5)
    assert state.text() == "okokok"
    assert state.messages() == []
    assert backend.kinds().count("run_started") == 1
    assert {c.run for c in backend.calls} == {state.run_id}
    assert len({c.state for c in backend.calls}) == 3
    assert [c.params.get("top_p") for c in backend.calls] == [0.5, 0.5, 0.5]
    assert backend.calls[1].params["temperature"] == 0.5
    assert "temperature" not in backend.calls[2].params
    labels = [e.label for e in backend.events if e.kind == "state_started"]
    assert labels == ["outer", "qa", "qa"]


def test_a_program_called_with_a_state_works_on_it(backend):
    @sgl.function
    def outer(s):
        s += sgl.system("sys")
        s["n"] = qa(s, "hello")
        s += sgl.user("more")

    state = outer.run(backend=backend)
    assert [m["role"] for m in state.messages()] == ["system", "user", "assistant", "user"]
    assert state["n"] == 5
    assert state["answer"] == "ok"
    assert qa.bind(question="x")(state) == 1


def test_another_backend_is_another_run(backend):
    other = ScriptedBackend(lambda prompt, call: "other")

    @sgl.function
    def outer(s):
        s += qa.run("q", backend=other)["answer"]

    assert outer.run(backend=backend).text() == "other"
    assert other.kinds()[0] == "run_started"
    assert other.kinds()[-1] == "run_ended"


def test_an_inner_error_that_is_caught_harms_nothing():
    backend = ScriptedBackend(named)

    @sgl.function
    def inner(s):
        s += sgl.gen("bad")
        s["bad"]

    @sgl.function
    def outer(s):
        with pytest.raises(GenerationError):
            inner()
        s += "fine" + sgl.gen("x")

    assert outer.run(backend=backend).text() == "fine<x>"


def test_after_a_run_programs_are_on_their_own_again(backend):
    first, second = qa.run("a", backend=backend), qa.run("b", backend=backend)
    assert first.run_id != second.run_id
    s = sgl.start_state(backend, run="cell", title="cell 1", defaults={"temperature": 0})
    inside = qa.run("c", backend=backend)
    sgl.finish_run(s)
    assert inside.run_id == s.run_id == "cell"
    assert backend.calls[-1].params["temperature"] == 0
    assert qa.run("d", backend=backend).run_id not in ("cell", first.run_id)


def test_a_cell_with_a_wrong_option(backend):
    with pytest.raises(ValueError, match="top_p: must be"):
        sgl.start_state(backend, defaults={"top_p": 3})
    assert qa.run("x", backend=backend)["answer"] == "ok"


# -- batches -------------------------------------------------------------------------------


@sgl.function
def row(s, name, extra="e"):
    s += f"{name}" + sgl.gen(name)
    if name == "raise":
        raise ZeroDivisionError("body")
    s[name]


@pytest.mark.parametrize("threads", [1, 3, "auto"])
def test_one_bad_row_never_loses_the_others(threads):
    backend = ScriptedBackend(named, mode="thread", delay=lambda c: 0.01 * (len(c.prompt) % 3))
    rows = [{"name": n} for n in ("a", "bad", "bb", "raise", "ccc")] + [{"wrong": 1}]
    before = [dict(r) for r in rows]
    states = row.bind(extra="E").run_batch(rows, backend=backend, num_threads=threads)
    assert rows == before
    assert [s["a"] for s in states[:1]] == ["<a>"]
    assert (states[2]["bb"], states[4]["ccc"]) == ("<bb>", "<ccc>")
    errors = [s.error() for s in states]
    assert [e is None for e in errors] == [True, False, True, False, True, False]
    with pytest.raises(GenerationError, match="CUDA OOM"):
        states[1]["bad"]
    with pytest.raises(ZeroDivisionError):
        states[3]["other"]
    with pytest.raises(TypeError, match="wrong"):
        states[5]["x"]
    assert backend.kinds().count("run_started") == backend.kinds().count("run_ended") == 1
    assert sum(t.name.startswith("sglnb-batch") for t in threading.enumerate()) <= len(rows)


def test_batches_of_lists_and_of_nothing(backend):
    states = row.run_batch([["a"], ("b", "x")], backend=backend, temperature=0)
    assert [s.text() for s in states] == ["aok", "bok"]
    assert [c.params["temperature"] for c in backend.calls] == [0, 0]
    assert row.run_batch([], backend=backend) == []
    assert len(row.run_batch(({"name": n} for n in "xyz"), backend=backend)) == 3


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda b: row.run_batch([3], backend=b), TypeError, "batch_kwargs: row 0 must be"),
        (lambda b: row.run_batch([["a", "b", "c"]], backend=b), TypeError, "row 0 must be"),
        (lambda b: row.run_batch(3, backend=b), TypeError, "batch_kwargs: must be a list of rows"),
        (lambda b: row.run_batch("ab", backend=b), TypeError, "a DataFrame, got str"),
        (lambda b: row.run_batch({"name": "x"}, backend=b), TypeError, "a DataFrame, got dict"),
        (
            lambda b: row.run_batch(DataFrame({"nam": ["x"]}), backend=b),
            TypeError,
            "none of the columns",
        ),
        (lambda b: row.run_batch([], backend=b, num_threads=0), ValueError, "num_threads: must"),
        (lambda b: row.run_batch([], backend=b, name="x"), TypeError, "unknown option 'name'"),
        (lambda b: row.run_batch([], backend=b, top_p=2), ValueError, "top_p: must be"),
    ],
)
def test_mistakes_in_batches(backend, call, error, text):
    with pytest.raises(error, match=text):
        call(backend)
    assert backend.calls == []


def test_num_threads_bounds_the_rows_in_progress():
    live, most, lock = 0, 0, threading.Lock()

    def count(prompt, call):
        nonlocal live, most
        with lock:
            live, most = live + 1, max(most, live + 1)
        time.sleep(0.01)
        with lock:
            live -= 1
        return "ok"

    backend = ScriptedBackend(count)
    row.run_batch([{"name": f"n{i}"} for i in range(8)], backend=backend, num_threads=2)
    assert most == 2


def test_progress_bar(backend, capsys):
    row.run_batch([["a"], ["b"]], backend=backend, progress_bar=True)
    out = capsys.readouterr()
    assert "2/2" in out.err
    assert out.out == ""


def test_rows_can_call_programs(backend):
    @sgl.function
    def outer(s, q):
        s += qa(q)["answer"]

    states = outer.run_batch([{"q": "a"}, {"q": "b"}], backend=backend)
    assert [s.text() for s in states] == ["ok", "ok"]
    assert backend.kinds().count("run_started") == 1


# -- streams -------------------------------------------------------------------------------


def slow(prompt, call):
    oom = Failure(RuntimeError("CUDA OOM"), after="par")
    return oom if call.name == "bad" else f"<{call.name}-{call.name}>"


@sgl.function
def two(s, last="y"):
    s += "a" + sgl.gen("x")
    s += "b" + sgl.gen(last)


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_streamed_text_is_the_text(mode):
    backend = ScriptedBackend(slow, mode=mode)
    state = two.run(backend=backend, stream=True)
    pieces = list(state.text_iter())
    assert "".join(pieces) == state.text() == "a<x-x>b<y-y>"
    assert "".join(state.text_iter("x")) == "<x-x>"
    assert sgl.wait_run(state, 5)


def test_a_variable_is_streamed_as_it_comes(held):
    state = two.run(backend=held, stream=True)
    got = []
    reader = threading.Thread(target=lambda: got.extend(state.text_iter("y")))
    reader.start()
    wait_for(lambda: held.held)
    held.release()
    wait_for(lambda: held.held)
    for piece in ("1", "2"):
        held.held[0].say(piece)
        wait_for(lambda piece=piece: "".join(got).endswith(piece))
    held.held[0].answer = "123"
    held.release()
    reader.join(5)
    assert "".join(got) == "123"
    assert len(got) >= 3


def wait_for(ready):
    for _ in range(500):
        if ready():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def test_an_error_in_a_streamed_body_reaches_the_reader(backend):
    @sgl.function
    def program(s):
        s += "a" + sgl.gen("x")
        raise ZeroDivisionError("body")

    state = program.run(backend=backend, stream=True)
    with pytest.raises(ZeroDivisionError, match="body"):
        list(state.text_iter())
    with pytest.raises(ZeroDivisionError):
        state["later"]
    assert state["x"] == "ok"
    assert isinstance(state.error(), ZeroDivisionError)


def test_reading_a_streamed_state_waits_for_the_body():
    backend = ScriptedBackend(named)

    @sgl.function
    def program(s):
        time.sleep(0.1)
        s += sgl.gen("x")

    state = program.run(backend=backend, stream=True)
    assert state["x"] == "<x>"
    assert program.run(backend=backend, stream=True).text() == "<x>"


def test_streaming_inside_the_body(backend):
    @sgl.function
    def program(s):
        s += "a" + sgl.gen("x")
        s["pieces"] = list(s.text_iter()) + list(s.text_iter("x"))

    for stream in (False, True):
        state = program.run(backend=backend, stream=stream)
        assert "".join(state["pieces"]) == "aokok"


def test_text_iter_of_a_state_that_lives_on(backend):
    state = two.run(backend=backend)
    assert "".join(state.text_iter()) == "aokbok"
    state["k"] = 5
    assert list(state.text_iter("k")) == ["5"]


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_async_streams(mode):
    backend = ScriptedBackend(slow, mode=mode)

    async def read():
        state = two.run(backend=backend, stream=True)
        text = "".join([p async for p in state.text_async_iter()])
        pairs = [p async for p in state.text_async_iter("x", return_meta_data=True)]
        failed = two.run(last="bad", backend=backend, stream=True)
        with pytest.raises(GenerationError, match="CUDA OOM"):
            [p async for p in failed.text_async_iter("bad")]
        return text, pairs

    text, pairs = asyncio.run(read())
    assert text == "a<x-x>b<y-y>"
    assert "".join(p for p, _ in pairs) == "<x-x>"
    assert pairs[-1][1]["id"]


def test_states_are_program_states(backend):
    assert isinstance(qa("x", backend=backend), ProgramState)
