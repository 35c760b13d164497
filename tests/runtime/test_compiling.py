"""Heavy constraints are compiled aside: no one else waits, and one may change one's mind."""

from __future__ import annotations

import random
import re
import threading
import time
from concurrent.futures import CancelledError

import pytest

import sglnb as sgl
from sglnb.errors import ConstraintError, RequestAborted
from sglnb.runtime import Engine
from sglnb.runtime.compiling import Compiling
from sglnb.runtime.constraints import compile_constraint, compiler, turns
from sglnb.runtime.constraints.turns import step
from sglnb.viz import fold
from sglnb.viz.reduce_header import waiting_for
from sglnb.viz.runlog import RunFilter

DEEP = iter(range(100))


def heavy() -> str:
    """A regex that takes a second, and another one each time: 2**11 states."""
    return f"x{next(DEEP)}(a|b)*a(a|b){{10}}"


def wide() -> str:
    """A regex of some hundred thousand steps, and another one each time."""
    return rf"x{next(DEEP)}(?:[\w.-]{{1,60}}[@:/ ]){{1,40}}[^\n]{{1,200}}"


def until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_submit_returns_and_others_run_meanwhile(engine):
    seen, regex = engine.events.next_seq, heavy()
    began = time.monotonic()
    request = engine.submit("x", {"regex": regex, "max_new_tokens": 60, "on_budget": "close"})
    assert time.monotonic() - began < 0.4
    assert not request.done
    assert engine.metrics()["compiling"] == 1
    other = engine.generate("y", {"max_new_tokens": 3, "regex": "abc"})
    assert other["text"] == "abc"
    assert re.fullmatch(regex, request.result(30).text)
    assert engine.metrics()["compiling"] == 0
    engine.check()
    log = [e for e in engine.events.since(seen) if getattr(e, "rid", "") == request.rid]
    assert [e.kind for e in log[:3]] == ["request_arrived", "preparing", "preparing"]
    _, begun, done = log[:3]
    assert begun.what == done.what == f"compiling regex: {regex}"
    assert begun.seconds is None
    assert done.seconds > 0


def test_abort_while_it_is_compiled(engine):
    request = engine.submit("x", {"regex": heavy()})
    assert not request.done
    request.abort()
    with pytest.raises(RequestAborted):
        request.result(5)
    by_run = engine.submit("x", {"regex": heavy()}, run="some run")
    engine.abort(run="some run")
    with pytest.raises(RequestAborted):
        by_run.result(5)
    assert engine.metrics()["compiling"] == 0
    engine.check()


def test_a_run_that_waits_for_its_constraint_says_so_and_can_be_stopped(engine):
    """90,000 choices of a program: others go on, the run's header tells, a stop ends it."""

    @sgl.function
    def ask(s, words):
        s += "x" + sgl.gen("word", choices=words, choices_method="trie", temperature=0.0)

    def header():
        log = [e for e in engine.events.since(seen) if e.seq >= seen]
        return fold(filter(RunFilter(state.run_id), log))["header"]

    letters = random.Random(0)
    words = ["".join(letters.choices("abcdefgh ", k=12)) for _ in range(90_000)]
    seen = engine.events.next_seq
    state = ask.run(words, backend=engine, stream=True)
    until(lambda: waiting_for(header()))
    assert waiting_for(header())[0].startswith(f'compiling choices: ["{words[0]}", ')
    assert engine.generate("y", {"max_new_tokens": 3, "regex": "abc"})["text"] == "abc"
    assert waiting_for(header())
    state.abort()
    until(lambda: header()["status"] == "stopped")
    assert header()["waits"] == {}
    assert engine.metrics()["compiling"] == 0
    assert ask.run(words, backend=engine)["word"] in words
    until(lambda: header()["status"] != "running")
    engine.check()


def lists_of_words(n: int) -> list[list[str]]:
    """Choices that take a second each."""
    letters = random.Random(n)
    return [["".join(letters.choices("abcdefgh ", k=12)) for _ in range(50_000)] for _ in range(n)]


def test_what_is_quick_passes_what_is_heavy_and_what_is_given_up_ends(engine):
    many, last = lists_of_words(6), heavy()
    seen = engine.events.next_seq
    requests = [engine.submit("x", {"choices": words, "max_new_tokens": 20}) for words in many]
    quick = engine.submit("x", {"regex": f"quick{next(DEEP)}", "max_new_tokens": 9}).result(30)
    assert quick.text.startswith("quick")
    assert sum(request.done for request in requests) < 3, "they take turns"
    for request in requests:
        request.abort()
    assert engine.submit("x", {"regex": last, "max_new_tokens": 60}).result(30).ids
    built = [e for e in engine.events.since(seen) if e.kind == "constraint_compiled"]
    assert sum(e.source.startswith("choices") for e in built) < 4
    assert engine.metrics()["compiling"] == 0
    assert engine.generate("x", {"choices": many[-1], "max_new_tokens": 20})["text"] in many[-1]
    engine.check()


def test_one_heavy_one_at_a_time(monkeypatch):
    monkeypatch.setattr(turns, "LIGHT", 0.0)
    compiling, steps, go = Compiling(), [], threading.Event()

    def make(name: str):
        def run():
            for _ in range(20):
                step()
                steps.append(name)
                go.wait(0.001)
            return name

        return run

    begun = [compiling.start(make(name)) for name in "abc"]
    assert [one.result(5) for one in begun] == ["a", "b", "c"]
    changes = sum(one != before for one, before in zip(steps[1:], steps, strict=False))
    assert changes == 2, "".join(steps)
    endless = compiling.start(lambda: [step() for _ in iter(lambda: time.sleep(0.01), 1)])
    waits = compiling.start(make("d"))
    for one in (waits, endless):
        one.cancel()
        with pytest.raises((turns.GivenUp, CancelledError)):
            one.result(5)
    assert compiling.start(make("e")).result(5) == "e", "those given up have left"
    step()  # nobody's turn: it does nothing
    compiling.shutdown()


def test_a_mistake_that_shows_late_fails_the_request(engine):
    request = engine.submit("x", {"regex": heavy(), "max_new_tokens": 2})
    with pytest.raises(ConstraintError, match="more than max_new_tokens=2"):
        request.result(30)
    engine.check()


def test_shut_down_while_it_is_compiled():
    with Engine(kv_tokens=500) as engine:
        request = engine.submit("x", {"regex": heavy()})
    with pytest.raises(Exception, match="shut down"):
        request.result(5)


def test_many_at_once_compile_once(engine):
    seen, regex = engine.events.next_seq, heavy()
    requests = [engine.submit("x", {"regex": regex, "max_new_tokens": 40}) for _ in range(6)]
    for request in requests:
        request.result(60)
    built = [e for e in engine.events.since(seen) if e.kind == "constraint_compiled"]
    assert len(built) == 1
    engine.check()


def test_the_cache_is_bounded_by_bytes(engine, monkeypatch):
    tokenizer = engine.tokenizer
    monkeypatch.setattr(compiler, "MAX_BYTES", 300_000)
    for n in range(60):
        constraint = compile_constraint(regex=f"[a-z]{{{n + 1}}}", tokenizer=tokenizer)
        constraint.start().allowed()
    facts = engine.metrics()
    assert 0 < facts["constraint_bytes"] <= 300_000 + constraint.nbytes
    assert facts["constraints"] < 60
    assert compile_constraint(regex="[a-z]{60}", tokenizer=tokenizer) is constraint
    assert compile_constraint(regex="[a-z]{1}", tokenizer=tokenizer) is not None


def test_a_stream_goes_on_while_much_is_compiled(engine):
    """The tokens of a running request come while heavy constraints are compiled; two of these are
    given up meanwhile, and one is asked for twice."""
    engine.generate("warm", {"max_new_tokens": 4, "ignore_eos": True})
    stream = engine.submit("x", {"max_new_tokens": 80, "ignore_eos": True})
    seen = engine.events.next_seq
    twice = wide()
    regexes = [twice, twice, wide(), wide(), wide()]
    began = time.monotonic()
    heavy_ones = [engine.submit("x", {"regex": r, "max_new_tokens": 8}) for r in regexes]
    assert time.monotonic() - began < 2.5  # each waits 50 ms at most, and shares two cores
    for request in heavy_ones[3:]:
        request.abort()
        with pytest.raises(RequestAborted):
            request.result(5)
    before = stream.new_tokens
    until(lambda: stream.new_tokens >= min(80, before + 10))
    for request in heavy_ones[:3]:
        assert request.result(60).text
    assert stream.result(60).new_tokens == 80
    told = [e.source for e in engine.events.since(seen) if e.kind == "constraint_compiled"]
    assert sum(twice in source for source in told) == 1
    assert engine.metrics()["compiling"] == 0
    engine.check()


@pytest.mark.parametrize(
    "regex",
    ["(a*)*b", "a{0,5000}", "(" * 200 + "a" + ")*" * 200, "(a|b)*a(a|b){14}", "(a?){0,5000}",
     r"(?:\w{1,30}[ ,.]?){1,300}", r"(?s).*foo.{0,200}bar.*", "(x+x+)+y"],
)  # fmt: skip
def test_catastrophic_regexes_do_not_hang_an_engine(engine, regex: str):
    began = time.process_time()
    request = engine.submit("x", {"regex": regex, "max_new_tokens": 12, "temperature": 1.0})
    assert request.result(30).ids
    assert time.process_time() - began < 4  # usually under 1
    engine.check()
