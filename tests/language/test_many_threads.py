"""One state used by many threads at once, branches that end in any order, stops in between."""

from __future__ import annotations

import random
import threading
import time

import pytest

import sglnb.language as sgl
from sglnb.errors import RequestAborted
from sglnb.language import GenerationError
from sglnb.testing import ScriptedBackend

WAIT = 20.0


def together(count, work):
    """``work(i)`` in ``count`` threads that start at the same moment; raises what one raised."""
    gate, problems = threading.Barrier(count), []

    def body(i):
        gate.wait()
        try:
            work(i)
        except BaseException as problem:  # told to the test, whatever it is
            problems.append(problem)

    threads = [threading.Thread(target=body, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if problems:
        raise problems[0]


@sgl.function
def empty(s):
    pass


def later(seed=0, longest=0.002):
    """Answers on another thread, in an order of its own."""
    draw = random.Random(seed)
    return ScriptedBackend(
        lambda prompt, call: f"<{call.name}>", "thread", delay=lambda call: draw.random() * longest
    )


@pytest.mark.parametrize("mode", ["instant", "inline", "thread"])
def test_many_threads_append_to_one_state(mode):
    threads, each = 8, 25
    backend = later() if mode == "thread" else ScriptedBackend(lambda p, c: f"<{c.name}>", mode)
    state = empty.run(backend=backend)
    ex = state.stream_executor

    def work(i):
        for k in range(each):
            ex.submit(f"[{i}.{k}:" + sgl.gen(f"v{i}_{k}") + "]")

    together(threads, work)
    text = state.text()
    pieces = text.split("]")[:-1]
    assert len(pieces) == threads * each
    for i in range(threads):  # whole statements, each thread's in its order
        mine = [p for p in pieces if p.startswith(f"[{i}.")]
        assert mine == [f"[{i}.{k}:<v{i}_{k}>" for k in range(each)]
        assert all(state[f"v{i}_{k}"] == f"<v{i}_{k}>" for k in range(each))
    assert ex.idle
    assert state.error() is None
    kinds = [event.kind for event in backend.events]
    assert kinds.count("variable_set") == threads * each


def test_readers_writers_and_forks_of_one_state_at_once():
    backend = later(1)
    state = empty.run(backend=backend)
    state += "start" + sgl.gen("first")

    def work(i):
        for k in range(8):
            if i % 3 == 0:
                state.stream_executor.submit("." + sgl.gen(f"g{i}_{k}"))
            elif i % 3 == 1:
                group = state.fork(3)
                group += sgl.gen("x")
                for child in group:
                    assert child["x"] == "<x>"
                    assert child.text().startswith("start<first>")
                    assert child.text().endswith("<x>")
            else:
                assert state["first"] == "<first>"
                assert state.text().startswith("start<first>")

    together(9, work)
    assert state.text().count(".<g") == 24
    assert state.error() is None


@pytest.mark.parametrize("seed", range(8))
def test_branches_end_in_any_order(seed):
    backend = ScriptedBackend(lambda prompt, call: f"<{call.name}>", "manual")
    draw = random.Random(seed)
    mode = ["gather_variable", "concate_and_append"][seed % 2]

    @sgl.function
    def program(s):
        s += "all:"
        group = s.fork(12)
        group += lambda i: f" {i} " + sgl.gen("x") + sgl.gen("y")
        group.join(mode)
        s += sgl.gen("end")

    state = program.run(stream=True, backend=backend)
    ended = threading.Event()
    threading.Thread(target=lambda: (state.sync(), ended.set()), daemon=True).start()
    until = time.monotonic() + WAIT
    while not ended.is_set() and time.monotonic() < until:
        draw.shuffle(backend.held)
        if backend.held:
            backend.release(draw.randrange(len(backend.held)) + 1)
        time.sleep(0.0005)
    assert ended.is_set()
    middle = "".join(f" {i} <x><y>" for i in range(12))
    if mode == "gather_variable":
        assert state.text() == "all:<end>"
        assert state["x"] == ["<x>"] * 12
    else:
        assert state.text() == f"all:{middle}<end>"


@pytest.mark.parametrize("seed", range(6))
def test_stops_and_timeouts_while_others_append_and_read(seed):
    """Whatever is stopped when: no thread hangs, no text is torn, and the state goes on."""
    backend = later(seed, 0.004)
    state = empty.run(backend=backend)
    ex = state.stream_executor

    def work(i):
        mine = random.Random(f"{seed}/{i}")
        for k in range(10):
            name = f"v{i}_{k}"
            if i == 0:
                time.sleep(mine.random() * 0.003)
                ex.run.abort()
                continue
            if i == 1:
                ex.halt(TimeoutError("stopped by a test"))
                time.sleep(mine.random() * 0.003)
                continue
            try:
                timeout = mine.choice([None, None, 0.001])
                ex.submit("[" + sgl.gen(name, timeout=timeout) + "]")
                # Of a stopped one the text so far is there for who comes after the stop.
                assert f"<{name}>".startswith(state.get_var(name, timeout=WAIT))
                group = state.fork(2)
                group += sgl.gen("w", timeout=timeout)
                assert "<w>".startswith(group[0].get_var("w", timeout=WAIT))
            except (GenerationError, RequestAborted):
                pass  # it was stopped

    together(6, work)
    assert ex.wait(lambda: ex.idle, WAIT)
    state += "the end" + sgl.gen("last")
    assert state["last"] == "<last>"
    assert state.text().endswith("the end<last>")
