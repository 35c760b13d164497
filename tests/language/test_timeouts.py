"""Timeouts, and that the kinds of errors can be told apart."""

from __future__ import annotations

import threading
import time

import pytest

import sglnb as sgl
from sglnb.errors import ContextLengthError, RequestAborted
from sglnb.language import GenerationAborted, GenerationError, GenerationTimeout, PromptTooLong
from sglnb.testing import ScriptedBackend


@pytest.fixture
def slow():
    """Says "half" at once and the rest never, except for names that begin with q."""

    class Slow(ScriptedBackend):
        def submit(self, prompt, params, **options):
            request = super().submit(prompt, params, **options)
            if options.get("name", "").startswith("q"):
                request.text = "quick"
                request.finish()
            else:
                request.say("half")
            return request

    return Slow(mode="manual")


def state(backend):
    s = sgl.start_state(backend)
    sgl.finish_run(s)
    return s


def test_a_generation_that_takes_too_long_is_stopped(slow):
    s = state(slow)
    s += sgl.assistant("a" + sgl.gen("x", timeout=0.1))
    s += sgl.user("dropped") + sgl.gen("y")
    start = time.monotonic()
    with pytest.raises(GenerationTimeout) as caught:
        s["x"]
    assert 0.05 < time.monotonic() - start < 2
    error = caught.value
    assert "gen('x') at " in str(error)
    assert "ran out of time: " in str(error)
    assert (error.name, error.where[0]) == ("x", __file__)
    assert isinstance(error.__cause__, TimeoutError)
    assert isinstance(error, TimeoutError)
    assert not isinstance(error, GenerationAborted)
    assert slow.calls[0].aborted
    with pytest.raises(GenerationTimeout, match="'y' was never made"):
        s["y"]
    assert s["x"] == "half"
    assert s.messages() == [{"role": "assistant", "content": "ahalf"}]
    s += sgl.user("on") + sgl.gen("q")
    assert (s["q"], s.error()) == ("quick", None)


def test_a_generation_that_is_in_time(slow):
    s = state(slow)
    s += sgl.gen("q", timeout=0.05)
    s += sgl.gen("x")
    time.sleep(0.2)
    assert s["q"] == "quick"
    assert "x" not in s
    assert s.error is not None
    s.abort()


def test_fallback_in_plain_python(slow):
    @sgl.function
    def program(s):
        s += "a" + sgl.gen("x", timeout=0.05)
        try:
            return s["x"]
        except GenerationTimeout as error:
            s["so_far"] = error.state.text()
            s.undo(2)
            s += "b" + sgl.gen("q")
            return s["q"]

    done = program.run(backend=slow)
    assert (done.ret_value, done.text()) == ("quick", "bquick")
    assert done.variables == {"q": "quick"}


def test_a_program_that_takes_too_long(slow):
    after = []

    @sgl.function
    def program(s):
        s += "a"
        group = s.fork(2)
        group += sgl.gen("x")
        try:
            group[1]["x"]
        finally:
            with pytest.raises(GenerationTimeout, match=r"the program ran out of time: .*0.1 s"):
                s += "no more"
            after.append(group)

    with pytest.raises(GenerationTimeout, match=r"the program's 0.1 s are over") as caught:
        program.run(backend=slow, timeout=0.1)
    assert all(r.aborted for r in slow.calls if r.purpose == "gen")
    s = caught.value.state
    assert s.text() == "ahalf"
    s += "b"  # the state lives on
    assert s.text() == "ahalfb"
    assert [b.text() for b in after[0]] == ["ahalf", "ahalfb"]
    assert slow.kinds()[-1] == "run_ended" or slow.kinds().count("run_ended") == 1


def test_generations_that_were_not_read_are_stopped_too(slow):
    @sgl.function
    def program(s):
        s += "a" + sgl.gen("x") + sgl.gen("y")

    done = program.run(backend=slow, timeout=0.1)
    with pytest.raises(GenerationTimeout, match="'y' was never made"):
        done["y"]
    assert done["x"] == "half"


def test_a_program_in_time_is_left_alone_later(slow):
    @sgl.function
    def program(s):
        s += "a" + sgl.gen("q")

    done = program.run(backend=slow, timeout=0.1)
    done += sgl.gen("x")
    branch = done.before("x").fork(1)[0]
    branch += sgl.gen("x")
    time.sleep(0.3)
    assert len(slow.of("gen")) == 3
    assert not any(r.aborted for r in slow.calls if r.name == "x")
    assert done.stream_executor.error_ is None
    done.abort()


def test_an_inner_program_that_takes_too_long(slow):
    @sgl.function
    def inner(s):
        s += sgl.gen("x")
        s["x"]

    @sgl.function
    def outer(s):
        s += "a" + sgl.gen("z")
        with pytest.raises(GenerationTimeout):
            inner.run(timeout=0.05)
        s.fork(1)[0].user("still going")
        return "x" in s

    done = outer.run(backend=slow)
    assert [r.aborted for r in slow.calls] == [False, True]
    done.abort()


def test_timeout_as_an_argument_of_the_program(slow):
    @sgl.function
    def program(s, timeout):
        s["got"] = timeout

    assert program.run(timeout="mine", backend=slow)["got"] == "mine"


@pytest.mark.parametrize("wrong", [0, -1, "1", True, float("nan"), float("inf")])
def test_wrong_timeouts(slow, wrong):
    @sgl.function
    def program(s):
        pass

    for call in (
        lambda: sgl.gen("x", timeout=wrong),
        lambda: program.run(timeout=wrong, backend=slow),
        lambda: program.run_batch([{}], timeout=wrong, backend=slow),
    ):
        with pytest.raises(ValueError, match="timeout: must be a number of seconds above 0"):
            call()
    with pytest.raises(ValueError, match="timeout: cannot be combined with choices"):
        sgl.gen("x", choices=["a"], timeout=1)


def test_waiting_with_a_timeout_stops_nothing(slow):
    s = state(slow)
    s += sgl.gen("x")
    for read in (s.get_var, s.get_meta_info):
        with pytest.raises(TimeoutError, match="the run goes on") as caught:
            read("x", timeout=0.05)
        assert not isinstance(caught.value, GenerationError)
    assert not slow.calls[0].aborted
    threading.Timer(0.05, slow.calls[0].finish).start()
    assert s.get_var("x", timeout=5) == "half"
    assert s.get_meta_info("x", timeout=5)["id"] == "q1"


def test_hundreds_of_timeouts_take_one_thread(slow):
    s = state(slow)
    before = threading.active_count()
    group = s.fork(200)
    group += sgl.gen("x", timeout=30)
    assert threading.active_count() <= before + 2
    s.abort()


def test_kinds_of_errors_on_the_engine():
    with sgl.Engine() as engine:
        s = state(engine)
        s += "x " * 20_000 + sgl.gen("a")
        with pytest.raises(PromptTooLong) as caught:
            s["a"]
        assert isinstance(caught.value, ContextLengthError)
        assert isinstance(caught.value.cause, ContextLengthError)
        assert not isinstance(caught.value, (GenerationAborted, GenerationTimeout))
        short = s.before("a")
        short.undo()
        short += "x" + sgl.gen("a", max_tokens=4)
        assert short.error() is None

        s = state(engine)
        s += "Once upon a time" + sgl.gen("a", max_tokens=100_000, ignore_eos=True, timeout=0.3)
        with pytest.raises(GenerationTimeout):
            s["a"]
        assert s["a"] != ""
        assert s.get_meta_info("a")["finish_reason"]["type"] == "abort"
        s += sgl.gen("b", max_tokens=2)
        assert s.get_meta_info("b")["cached_tokens"] > 4

        s = state(engine)
        s += "Once upon a time" + sgl.gen("a", max_tokens=100_000, ignore_eos=True)
        s.abort()
        error = s.error()
        assert isinstance(error, GenerationAborted)
        assert isinstance(error, RequestAborted)
        assert not isinstance(error, (PromptTooLong, TimeoutError))
        engine.check()
