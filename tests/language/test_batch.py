"""Batches of iterators and of tables; what is left of one that was interrupted."""

from __future__ import annotations

import threading
import time

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_interrupts import ctrl_c

import sglnb.language as sgl
from sglnb import Engine
from sglnb.language import BatchInterrupted, GenerationError
from sglnb.testing import Failure, ScriptedBackend


def reply(prompt, call):
    return Failure(RuntimeError("CUDA OOM"), after="par") if "bad" in prompt else f"<{prompt}>"


@pytest.fixture
def threaded():
    return ScriptedBackend(reply, mode="thread", delay=lambda call: 0.002 * (len(call.prompt) % 5))


@sgl.function
def echo(s, q):
    s += str(q) + sgl.gen("a")
    s["a"]


@sgl.function
async def async_echo(s, q):
    s += str(q) + sgl.gen("a")
    await s["a"]


@sgl.function
def unread(s, q):
    s += str(q) + sgl.gen("a")


PROGRAMS = [echo, async_echo, unread]


@pytest.mark.parametrize("program", PROGRAMS)
@settings(max_examples=15, deadline=None)
@given(
    words=st.lists(st.sampled_from(["a", "bad", "ccc", "dd"]), max_size=12),
    threads=st.sampled_from([1, 2, "auto"]),
    lazy=st.booleans(),
    generator_style=st.booleans(),
)
def test_every_row_gives_what_it_gives_alone(program, words, threads, lazy, generator_style):
    backend = ScriptedBackend(reply, mode="thread", delay=lambda c: 0.001 * (len(c.prompt) % 3))
    rows = [{"q": w} for w in words]
    states = program.run_batch(
        iter(rows) if lazy else rows,
        backend=backend,
        num_threads=threads,
        generator_style=generator_style,
    )
    states = list(states)
    assert rows == [{"q": w} for w in words]
    assert [s.text() for s in states] == ["badpar" if w == "bad" else f"{w}<{w}>" for w in words]
    assert [s.error() is not None for s in states] == [w == "bad" for w in words]
    kinds = backend.kinds()
    assert kinds.count("run_started") == kinds.count("run_ended") == 1
    assert kinds.count("state_started") == kinds.count("state_ended") == len(words)


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_iterator_is_taken_from_when_there_is_room(threaded, program):
    taken = []

    def rows():
        for i in range(10_000_000):
            taken.append(i)
            yield {"q": i}

    states = program.run_batch(rows(), backend=threaded, num_threads=3, generator_style=True)
    assert taken == []
    for i in range(20):
        assert next(states)["a"] == f"<{i}>"
        assert len(taken) <= i + 1 + 6
    states.close()
    assert threaded.kinds()[-1] == "run_ended"
    assert len(threaded.of("gen")) <= 26


def test_a_slow_row_holds_back_only_what_comes_after_it():
    backend = ScriptedBackend(reply, mode="thread", delay=lambda c: 0.2 if c.prompt == "0" else 0)
    start = time.monotonic()
    states = echo.run_batch(
        ({"q": i} for i in range(40)), backend=backend, num_threads=4, generator_style=True
    )
    assert [s.text() for s in states] == [f"{i}<{i}>" for i in range(40)]
    assert time.monotonic() - start < 1


def test_bad_rows_of_an_iterator_are_rows_that_failed(threaded):
    rows = ({"q": "a"}, "nonsense", {"wrong": 1}, {"q": "b"})
    states = echo.run_batch(iter(rows), backend=threaded)
    assert [s.error() is None for s in states] == [True, False, False, True]
    with pytest.raises(TypeError, match="row 1 must be a dict of arguments"):
        states[1]["a"]


def test_an_iterator_that_raises_loses_nothing(threaded):
    def rows():
        yield {"q": "a"}
        yield {"q": "b"}
        raise OSError("the file ended")

    with pytest.raises(OSError, match="the file ended"):
        echo.run_batch(rows(), backend=threaded)
    assert [s["a"] for s in echo.last_batch] == ["<a>", "<b>"]
    seen = []
    with pytest.raises(OSError, match="the file ended"):  # noqa: PT012
        for state in echo.run_batch(rows(), backend=threaded, generator_style=True):
            seen.append(state["a"])
    assert seen == ["<a>", "<b>"]


def test_threads_are_for_bodies_that_wait(threaded):
    def threads():
        return sum(t.name.startswith("sglnb-batch") for t in threading.enumerate())

    most = 0

    @sgl.function
    def quick(s, q):
        nonlocal most
        s += f"{q}" + sgl.gen("a")
        most = max(most, threads())

    held = ScriptedBackend(lambda p, c: "ok", mode="manual")
    states = quick.run_batch(
        ({"q": q} for q in range(30)), backend=held, generator_style=True, num_threads=30
    )
    threading.Timer(0.3, lambda: held.release(30)).start()
    assert len(list(states)) == 30
    assert most < 15  # 30 rows in progress, each with its body over at once
    most = 0

    @sgl.function
    def waiting(s, q):
        nonlocal most
        s += f"{q}" + sgl.gen("a")
        s["a"]
        most = max(most, threads())

    waiting.run_batch([{"q": q} for q in range(200)], backend=threaded)
    assert most <= 64


def test_the_consumer_of_a_generator_is_not_part_of_the_run(threaded):
    for state in echo.run_batch([{"q": "a"}], backend=threaded, generator_style=True):
        assert echo.run("x", backend=threaded).run_id != state.run_id


@pytest.mark.parametrize("program", [echo, async_echo])
@pytest.mark.parametrize("table", [False, True])
def test_ctrl_c_keeps_what_is_there(program, table):
    backend = ScriptedBackend(lambda p, c: f"<{p}>", mode="manual")

    def answer_three():
        while len(backend.held) < 3:
            time.sleep(0.01)
        backend.release(3)
        while len(backend.held) < 2:
            time.sleep(0.01)
        backend.held[0].say("half")
        ctrl_c(0.1)

    threading.Thread(target=answer_three, daemon=True).start()
    rows = [{"q": i} for i in range(9)]
    with pytest.raises(BatchInterrupted, match=r"3 of 9 rows are done; they are in .*last_batch"):
        program.run_batch(pd.DataFrame(rows) if table else rows, backend=backend, num_threads=3)
    assert all(r.done for r in backend.calls)
    out = program.last_batch
    if table:
        assert out.a.tolist()[:4] == ["<0>", "<1>", "<2>", "half"]
        assert out.error.tolist()[-1] == "not run"
        assert out.error.isna().tolist()[:4] == [True] * 3 + [False]
        out = out.state.tolist()
    assert [s.text() for s in out[:4]] == ["0<0>", "1<1>", "2<2>", "3half"]
    assert out[-3:] == [None] * 3
    out[3] += "more"  # it was stopped, and goes on
    assert out[3].text() == "3halfmore"
    assert backend.kinds().count("run_ended") == 1


def test_a_table(threaded):
    @sgl.function
    def program(s, q, n=0):
        s += f"{q}" + sgl.gen("a")
        s["twice"] = [n, n]
        branches = s.fork(2)
        branches += "." + sgl.gen("b")
        branches.join()

    table = pd.DataFrame(
        {"q": ["a", "bad", "c"], "n": [1, 2, 3], "other": 0}, index=["x", "y", "z"]
    )
    before = table.copy()
    out = program.run_batch(table, backend=threaded)
    pd.testing.assert_frame_equal(table, before)
    assert list(out.index) == ["x", "y", "z"]
    assert list(out.columns) == [
        "a", "twice", "b", "error", "tokens", "cached", "forced", "seconds", "state",
    ]  # fmt: skip
    assert (out.a["x"], out.a["z"], out.a.isna().tolist()) == ("<a>", "<c>", [False, True, False])
    assert out.twice["z"] == [3, 3]
    assert out.error.isna().tolist() == [True, False, True]
    assert "CUDA OOM" in out.error["y"]
    assert (out.seconds > 0).all()
    assert str(out.tokens.dtype) == "Int64"
    state = out.state["z"]
    state += "on"
    assert state.text() == "c<c>on"
    assert len(table.join(out)) == 3
    assert "ProgramState" in repr(out)
    out._repr_html_()


def test_the_seconds_of_a_row_are_its_own():
    backend = ScriptedBackend(
        reply, mode="thread", delay=lambda c: 0.3 if "slow" in c.prompt else 0
    )

    @sgl.function
    def program(s, q):
        s += q + sgl.gen("a")
        s.fork(2)  # which nobody joins
        s["a"]

    out = program.run_batch(pd.DataFrame({"q": ["a", "slow"]}), backend=backend)
    assert out.seconds[0] < 0.2 < out.seconds[1]


def test_strange_tables(threaded):
    @sgl.function
    def anything(s, **columns):
        s["got"] = columns

    out = anything.run_batch(pd.DataFrame({"a": [1], "error": ["e"]}), backend=threaded)
    assert out.got.tolist() == [{"a": 1, "error": "e"}]
    assert type(out.got[0]["a"]) is int
    assert len(echo.run_batch(pd.DataFrame({"q": []}), backend=threaded)) == 0
    double = pd.DataFrame([["a", "b"]], columns=["q", "q"])
    with pytest.raises(ValueError, match="several columns named 'q'"):
        echo.run_batch(double, backend=threaded)
    states = echo.run_batch(pd.DataFrame({"q": ["a"]}), backend=threaded, generator_style=True)
    assert [s["a"] for s in states] == ["<a>"]

    @sgl.function
    def clash(s, q):
        s["error"] = "mine"

    out = clash.run_batch(pd.DataFrame({"q": ["a"]}), backend=threaded)
    assert (out["error_"][0], out["error"][0]) == ("mine", None)


def test_a_row_that_takes_too_long():
    backend = ScriptedBackend(lambda p, c: "ok", mode="manual")

    def release():
        backend.wait(2)
        backend.held[1].say("hal")
        backend.release()

    for program in (echo, async_echo):
        backend.held.clear()
        threading.Thread(target=release).start()
        states = program.run_batch([{"q": 1}, {"q": 2}], backend=backend, timeout=0.2)
        assert [s.text() for s in states] == ["1ok", "2hal"]
        assert states[0].error() is None
        assert isinstance(states[1].error(), sgl.GenerationTimeout)
        assert states[1]["a"] == "hal"


def test_progress_of_what_has_no_length(threaded, capsys):
    echo.run_batch(iter([{"q": 1}, {"q": 2}]), backend=threaded, progress_bar=True)
    assert "2it" in capsys.readouterr().err


def test_errors_of_branches_are_the_branches_own(threaded):
    @sgl.function
    def program(s, q):
        group = s.fork(2)
        group += lambda i: ["good", "bad"][i] + sgl.gen("a")
        group.join(on_error="keep")
        return group

    (state,) = program.run_batch([{"q": 1}], backend=threaded)
    assert state["a"] == ["<good>", None]
    errors = state.ret_value.errors
    assert errors[0] is None
    assert isinstance(errors[1], GenerationError)
    retry = errors[1].state.before("a")
    assert retry.text() == "bad"


def test_a_table_on_the_engine():
    with Engine() as engine:
        table = pd.DataFrame({"q": [f"What is {i} + 1?" for i in range(6)]})

        @sgl.function
        def ask(s, q):
            s += sgl.user("Answer with a number. " * 10 + q)
            s += sgl.assistant(sgl.gen("n", regex="[0-9]{1,3} apples"))

        out = ask.run_batch(table, backend=engine, temperature=0, num_threads=1)
        assert out.n.str.endswith(" apples").all()
        assert (out.forced > 0).all()
        assert (out.tokens >= out.forced).all()
        assert (out.cached[1:] > 40).all()
        for state, tokens in zip(out.state, out.tokens, strict=True):
            assert state.get_meta_info("n")["completion_tokens"] == tokens
        engine.check()
