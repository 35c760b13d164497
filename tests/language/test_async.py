"""``async def`` programs, and awaiting plain ones."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest
from test_interrupts import ctrl_c

import sglnb.language as sgl
from sglnb import Engine
from sglnb.errors import RequestAborted
from sglnb.language import GenerationError, UnknownVariable
from sglnb.testing import ScriptedBackend


def reply(prompt, call):
    return RuntimeError("CUDA OOM") if call.name == "bad" else f"<{call.name}>"


@pytest.fixture
def threaded():
    """Answers after a moment, on a thread."""
    return ScriptedBackend(reply, mode="thread", delay=lambda call: 0.01)


@sgl.function
async def qa(s, question):
    s += sgl.user(question)
    s += sgl.assistant(sgl.gen("answer"))
    s["where"] = threading.current_thread().name
    return await s["answer"]


@sgl.function
def plain(s, question):
    s += sgl.user(question)
    s += sgl.assistant(sgl.gen("answer"))
    s["where"] = threading.current_thread().name
    return s["answer"]


def test_the_body_really_runs_without_a_loop_here(threaded):
    state = qa.run("hi", backend=threaded)
    assert state.ret_value == state["answer"] == "<answer>"
    assert state["where"] == "sglnb-async"
    assert [m["content"] for m in state.messages()] == ["hi", "<answer>"]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    again = qa("hi", backend=threaded)
    assert again.ret_value == "<answer>"
    assert all(sgl.wait_run(each, 5) for each in (state, again))
    kinds = threaded.kinds()
    assert kinds.count("run_started") == kinds.count("run_ended") == 2


@pytest.mark.parametrize("program", [qa, plain])
def test_awaited_in_a_running_loop(threaded, program):
    async def cell():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticker = asyncio.create_task(tick())
        states = await asyncio.gather(
            *(program.run_async(f"q{i}", backend=threaded, temperature=0) for i in range(5))
        )
        ticker.cancel()
        return states, ticks

    states, ticks = asyncio.run(cell())
    assert ticks > 3
    assert [s.ret_value for s in states] == ["<answer>"] * 5
    assert [s["answer"] for s in states] == ["<answer>"] * 5
    assert [s.messages()[0]["content"] for s in states] == [f"q{i}" for i in range(5)]
    assert len({s.run_id for s in states}) == 5
    own = threading.current_thread().name
    assert {s["where"] for s in states} == ({own} if program is qa else {"sglnb-plain"})
    assert threaded.calls[0].params["temperature"] == 0


def test_unread_generations_are_over_when_it_returns(threaded):
    @sgl.function
    async def lazy(s):
        s += "a" + sgl.gen("x")

    async def cell():
        state = await lazy.run_async(backend=threaded)
        return state.variables

    assert asyncio.run(cell()) == {"x": "<x>"}


def test_all_that_reads_is_awaited(threaded):
    @sgl.function
    async def program(s):
        s += sgl.user("hi") + sgl.gen("x")
        with s.assistant(), s.var_scope("v"):
            s += sgl.gen("y")
        seen = [await s["x"], await s.get_var("v"), (await s.get_meta_info("y"))["id"]]
        await s.sync()
        seen += [await s.text(), len(await s.messages()), await s.error(), "x" in s, "z" in s]
        group = s.fork(2)
        group += lambda i: f"{i}" + sgl.gen("z")
        seen.append(await group[1]["z"])
        await group.join()
        seen.append(await s["z"])
        async with s.copy() as t:
            t += sgl.gen("w")
        seen.append(await s["w"])
        seen.append("".join([piece async for piece in t.text_async_iter("w")]))
        back = await s.before("z")
        assert await back.text() == await s.text()
        assert (await (await s.at("x")).text()).endswith("<x>")
        s += "gone"
        await s.undo()
        assert "<x>" in await s.save()
        a, b = await asyncio.gather(s["x"], s["y"])
        return [*seen, a, b, await asyncio.wait_for(s["v"], 5)]

    out = program.run(backend=threaded).ret_value
    assert out == [
        "<x>", "<y>", "q2", "user:\nhi\n\n<x>assistant:\n<y>\n\n", 2, None, True, False,
        "<z>", ["<z>", "<z>"], ["<w>"], "<w>", "<x>", "<y>", "<y>",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "misuse",
    [
        lambda v: f"{v}",
        lambda v: v + "x",
        lambda v: "x" + v,
        lambda v: v == "yes",
        lambda v: bool(v),
        lambda v: int(v),
        lambda v: v.strip(),
        lambda v: v[0],
        lambda v: "a" in v,
        lambda v: str(v),
        lambda v: len(v),
        lambda v: list(v),
    ],
)
def test_a_forgotten_await_is_told(backend, misuse):
    @sgl.function
    async def program(s):
        s += sgl.gen("x")
        misuse(s["x"])

    with pytest.raises(TypeError, match=r"s\['x'\] was not awaited; in an async program: await"):
        program.run(backend=backend)


def test_more_forgotten_awaits(backend):
    @sgl.function
    async def append(s):
        s += sgl.gen("x")
        s += s["x"]

    @sgl.function
    async def iterate(s):
        for _ in s.text_iter():
            pass

    @sgl.function
    async def join(s):
        s.fork(2).join()

    with pytest.raises(TypeError, match=r"<s\['x'\] without await>"):
        append.run(backend=backend)
    with pytest.raises(TypeError, match="async for piece in text_async_iter"):
        iterate.run(backend=backend)
    with pytest.warns(RuntimeWarning, match="never awaited"):
        join.run(backend=backend)


def test_errors_are_the_real_ones(threaded):
    @sgl.function
    async def program(s):
        s += "a" + sgl.gen("bad")
        with pytest.raises(UnknownVariable):
            await (await s.before("bad"))["nope"]
        await s["bad"]

    with pytest.raises(GenerationError, match=r"gen\('bad'\) .*CUDA OOM") as caught:
        program.run(backend=threaded)
    assert caught.value.state.before("bad").text() == "a"

    @sgl.function
    async def retry(s):
        s += "a" + sgl.gen("bad")
        try:
            await s["bad"]
        except GenerationError:
            await s.undo()
            s["bad"] = "fallback"
        return await s["bad"]

    assert retry.run(backend=threaded).ret_value == "fallback"

    @sgl.function
    async def broken(s):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken.run(backend=threaded)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(broken.run_async(backend=threaded))


def test_programs_call_programs(threaded):
    @sgl.function
    def helper(s):
        s += sgl.user("few") + sgl.assistant("shots")

    @sgl.function
    async def step(s, name):
        s += sgl.gen(name)
        return await s[name]

    @sgl.function
    async def outer(s):
        helper(s)
        inner = await qa.run_async("?")
        there = await plain.run_async("?")
        assert inner.run_id == there.run_id
        return await step(s, "a"), inner["answer"], there["answer"]

    @sgl.function
    def sync_outer(s):
        return step(s, "a"), qa.run("?")["answer"], s["a"]

    states = outer.run(backend=threaded), sync_outer.run(backend=threaded)
    assert states[0].ret_value == ("<a>", "<answer>", "<answer>")
    assert states[1].ret_value == ("<a>", "<answer>", "<a>")
    assert all(sgl.wait_run(state, 5) for state in states)  # what was read came before its end
    kinds = threaded.kinds()
    assert kinds.count("run_started") == kinds.count("run_ended") == 2


def test_blocking_on_the_shared_loop_is_refused(threaded):
    @sgl.function
    async def run(s):
        qa.run("?")

    @sgl.function
    async def batch(s):
        qa.run_batch([{"question": "?"}])

    for program in (run, batch):
        with pytest.raises(RuntimeError, match="use await program"):
            program.run(backend=threaded)


@pytest.mark.parametrize("program", [qa, plain])
def test_stream(threaded, program):
    async def cell():
        state = await program.run_async("hi", backend=threaded, stream=True)
        pieces = [p async for p in state.text_async_iter("answer")]
        text = "".join([p async for p in state.text_async_iter()])
        return state, pieces, text

    state, pieces, text = asyncio.run(cell())
    assert "".join(pieces) == "<answer>"
    assert pieces
    assert text == state.text()
    state = program.run("hi", backend=threaded, stream=True)
    assert "".join(state.text_iter()) == state.text() == text
    assert state.ret_value == "<answer>"


def test_a_stream_of_a_failing_body(threaded):
    @sgl.function
    async def broken(s):
        s += "a"
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    state = broken.run(backend=threaded, stream=True)
    with pytest.raises(ZeroDivisionError):
        list(state.text_iter())
    with pytest.raises(ZeroDivisionError):
        state["x"]


@pytest.mark.parametrize("asynchronous", [True, False])
def test_to_cancel_the_task_stops_the_run(held, asynchronous):
    states = []

    @sgl.function
    async def slow(s):
        states.append(s)
        s += "a" + sgl.gen("x")
        await s["x"]

    @sgl.function
    def slow_plain(s):
        states.append(s)
        s += "a" + sgl.gen("x")
        s["x"]

    async def cell():
        task = asyncio.create_task((slow if asynchronous else slow_plain).run_async(backend=held))
        while not held.held:
            await asyncio.sleep(0.01)
        held.held[0].say("half")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cell())
    state = sgl.ProgramState(states[0].stream_executor)
    assert held.calls[0].aborted
    assert state.text() == "ahalf"
    assert isinstance(state.error(), RequestAborted)
    deadline = time.monotonic() + 5
    while held.kinds()[-1] != "run_ended" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert held.kinds()[-1] == "run_ended"
    state += "b"  # and it lives on
    assert state.text() == "ahalfb"


def test_to_cancel_a_wait_stops_nothing(held):
    @sgl.function
    async def program(s):
        s += sgl.gen("x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(s["x"], 0.02)
        with pytest.raises(TimeoutError, match=r"not there after 0.02 s; the run goes on"):
            await s.get_var("x", timeout=0.02)
        held.release()
        return await s["x"]

    assert program.run(backend=held).ret_value == "<x>"


def test_an_inner_program_that_is_cancelled_leaves_the_outer_one_alone(held):
    @sgl.function
    async def inner(s):
        s += sgl.gen("x")
        await s["x"]

    @sgl.function
    async def outer(s):
        s += sgl.gen("y")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(inner.run_async(), 0.05)
        s += "."
        held.release()
        return await s["y"]

    assert outer.run(backend=held).ret_value == "<y>"
    assert [r.aborted for r in held.calls] == [False, True]


def test_ctrl_c_in_run_cancels_the_body(held):
    cleaned = threading.Event()

    @sgl.function
    async def slow(s):
        s += sgl.gen("x")
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.set()

    ctrl_c()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        slow.run(backend=held)
    assert time.monotonic() - start < 1.5
    assert cleaned.is_set()
    assert held.calls[0].aborted
    assert held.kinds()[-1] == "run_ended"


def test_a_batch_takes_no_threads():
    backend = ScriptedBackend(reply, mode="manual")
    before = threading.active_count()
    most = 0

    @sgl.function
    async def row(s, i):
        nonlocal most
        s += f"{i}" + sgl.gen("x")
        most = max(most, threading.active_count() - before)
        if len(backend.held) == 200:
            threading.Thread(target=backend.release, args=(200,)).start()
        x = await s["x"]
        if i == 7:
            raise ZeroDivisionError
        return x

    states = row.run_batch(({"i": i} for i in range(200)), backend=backend)
    assert most <= 4  # the loop, the one that answers, and what was there
    assert [s.text() for s in states] == [f"{i}<x>" for i in range(200)]
    assert [i for i, s in enumerate(states) if s.error()] == [7]
    assert states[3].ret_value == "<x>"
    assert backend.kinds().count("run_ended") == 1


def test_on_the_engine():
    with Engine() as engine:

        async def cell():
            return await asyncio.gather(
                *(
                    qa.run_async(f"What is {i} + 1?", backend=engine, max_new_tokens=6)
                    for i in "123"
                )
            )

        for state in asyncio.run(cell()):
            assert state.ret_value == state["answer"] != ""
        states = qa.run_batch(
            [{"question": f"What is {i} + 1?"} for i in range(8)],
            backend=engine, max_new_tokens=6, temperature=0,
        )  # fmt: skip
        alone = qa.run("What is 3 + 1?", backend=engine, max_new_tokens=6, temperature=0)
        assert states[3]["answer"] == alone["answer"]
        engine.check()
