"""Ctrl-C and stop: requests are aborted, what is there is kept, the state goes on."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest

import sglnb.language as sgl
from sglnb.errors import RequestAborted
from sglnb.language import GenerationAborted
from sglnb.testing import ScriptedBackend


def ctrl_c(after: float = 0.2) -> None:
    """Interrupt the main thread, where tests run."""
    main = threading.main_thread().ident
    threading.Timer(after, lambda: signal.pthread_kill(main, signal.SIGINT)).start()


def test_ctrl_c_while_reading_in_a_cell_keeps_the_partial_text(held):
    s = sgl.start_state(held)
    s += sgl.user("hi")
    s += sgl.assistant("Sure: " + sgl.gen("x") + " and " + sgl.gen("y"))
    held.held[0].say("half an ans")
    ctrl_c()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as interrupt:
        s["x"]
    sgl.finish_run(s, interrupt.value)
    assert time.monotonic() - start < 1.5
    assert held.calls[0].aborted
    assert len(held.calls) == 1
    assert s["x"] == "half an ans"
    assert "y" not in s
    assert s.get_meta_info("x")["finish_reason"]["type"] == "abort"
    assert isinstance(s.error(), RequestAborted)
    with pytest.raises(GenerationAborted, match="'y' was never made"):
        s["y"]
    # The message was closed, and the conversation goes on.
    assert s.messages()[-1] == {"role": "assistant", "content": "Sure: half an ans"}
    s += sgl.user("go on") + sgl.assistant(sgl.gen("z"))
    held.release(len(held.held))
    assert s["z"] == "<z>"
    assert s.error() is None
    assert held.kinds().count("run_ended") == 1


@pytest.mark.parametrize("read", [lambda s: s.text(), lambda s: s.sync(), lambda s: s["x"]])
def test_ctrl_c_in_run_is_raised_and_aborts(held, read):
    @sgl.function
    def program(s):
        s += "a" + sgl.gen("x")
        read(s)

    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        program.run(backend=held)
    assert held.calls[0].aborted
    assert held.kinds()[-2:] == ["state_ended", "run_ended"]


def test_ctrl_c_in_text_iter(held):
    s = sgl.start_state(held)
    s += sgl.gen("x")
    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        list(s.text_iter("x"))
    assert held.calls[0].aborted
    sgl.finish_run(s)


def test_ctrl_c_in_an_async_stream(held):
    """A kernel turns it into a cancellation of the cell's task."""

    @sgl.function
    def program(s):
        s += "a" + sgl.gen("x")

    async def cell():
        state = program.run(backend=held, stream=True)
        reader = asyncio.create_task(anext(state.text_async_iter("x")))
        await asyncio.sleep(0.2)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        return state

    state = asyncio.run(cell())
    assert held.calls[0].aborted
    assert isinstance(state.error(), RequestAborted)


def test_ctrl_c_in_join_stops_all_branches(held):
    @sgl.function
    def program(s):
        s += "a"
        group = s.fork(3)
        group += sgl.gen("x")
        group.join()

    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        program.run(backend=held)
    assert all(r.aborted for r in held.calls if r.purpose == "gen")


def test_ctrl_c_in_run_batch(held):
    @sgl.function
    def program(s, i):
        s += f"{i}" + sgl.gen("x")
        s["x"]
        s += sgl.gen("never")

    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        program.run_batch([{"i": i} for i in range(5)], backend=held, num_threads=2)
    time.sleep(0.3)
    assert all(r.aborted for r in held.calls)
    assert len(held.calls) == 2
    assert held.kinds()[-1] == "run_ended"


def test_ctrl_c_in_an_inner_program_stops_the_outer_run(held):
    @sgl.function
    def inner(s):
        s += sgl.gen("x")
        s["x"]

    @sgl.function
    def outer(s):
        s += sgl.gen("y")
        inner()

    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        outer.run(backend=held)
    assert [r.aborted for r in held.calls] == [True, True]


def test_ctrl_c_while_a_request_is_being_sent():
    def interrupted(prompt, call):
        if call.name == "x":
            raise KeyboardInterrupt
        return "ok"

    s = sgl.start_state(ScriptedBackend(interrupted))
    with pytest.raises(KeyboardInterrupt):
        s += "a" + sgl.gen("x") + "b"
    assert s.text() == "a"
    assert isinstance(s.error(), RequestAborted)
    s += "c" + sgl.gen("y")
    assert s.text() == "acok"
    sgl.finish_run(s)


# -- stop from elsewhere -------------------------------------------------------------------


def test_stop_from_another_thread_ends_a_waiting_body(held):
    @sgl.function
    def program(s):
        s += "a" + sgl.gen("x")
        s["x"]

    threading.Timer(0.1, lambda: held.calls and stop_run(held)).start()
    with pytest.raises(RequestAborted, match=r"gen\('x'\) .*was stopped"):
        program.run(backend=held)


def stop_run(backend):
    backend.abort(run=backend.calls[0].run)


def test_a_stopped_body_cannot_go_on_asking(held):
    s = sgl.start_state(held)
    s += "a" + sgl.gen("x")
    s.abort()
    with pytest.raises(RequestAborted, match="the run was stopped"):
        s += sgl.gen("y")
    with pytest.raises(RequestAborted):
        s.fork(2)
    sgl.finish_run(s)
    s += sgl.gen("y")  # the next cell
    held.release(len(held.held))
    assert s["y"] == "<y>"


def test_stop_drops_the_queue_but_not_its_bookkeeping(held):
    s = sgl.start_state(held)
    s += sgl.user("hi")
    with s.assistant(), s.var_scope("all"):
        s += sgl.gen("x") + "tail" + sgl.gen("y")
        s["k"] = 1
    s += sgl.user("dropped")
    branch = s.fork(1)[0]
    branch += sgl.gen("z")
    held.held[0].say("part")
    s.abort()
    sgl.finish_run(s)
    assert (s["all"], s["k"], s["x"]) == ("part", 1, "part")
    assert [m["content"] for m in s.messages()] == ["hi", "part"]
    assert branch.text() == s.text()
    assert isinstance(branch.error(), RequestAborted)
    branch += sgl.user("on") + sgl.gen("z")
    held.release(len(held.held))
    assert branch["z"] == "<z>"


def test_an_exception_after_a_stop_still_closes_the_blocks(held):
    s = sgl.start_state(held)
    with pytest.raises(RequestAborted), s.assistant(), s.var_scope("all"):  # noqa: PT012
        s += sgl.gen("x")
        held.held[0].say("part")
        s.abort()
        s += "never"
    sgl.finish_run(s)
    assert s["all"] == "part"
    assert s.messages()[0]["content"] == "part"
    s += sgl.user("next")
    assert s.messages()[-1]["content"] == "next"
    assert s.error() is None


def test_a_block_whose_beginning_was_dropped(held):
    s = sgl.start_state(held)
    s += sgl.gen("x")
    with pytest.raises(ZeroDivisionError), s.user(), s.var_scope("v"):  # noqa: PT012
        s += "inside"
        s.abort()
        raise ZeroDivisionError
    sgl.finish_run(s)
    assert s.messages() == []
    assert s.text() == ""
    s += sgl.user("next")
    assert s.messages() == [{"role": "user", "content": "next"}]
    assert s.error() is None


def test_an_engine_that_was_shut_down_can_be_stopped(backend):
    from sglnb.errors import EngineError

    def closed(**kwargs):
        raise EngineError("shut down")

    backend.abort = closed
    s = sgl.start_state(backend)
    s.abort()
    sgl.finish_run(s)


def test_wait_run_times_out(held):
    s = sgl.start_state(held)
    s += sgl.gen("x")
    sgl.finish_run(s)
    assert not sgl.wait_run(s, 0.05)
    held.release()
    assert sgl.wait_run(s, 5)
