"""The live view: what is sent, how often, and that nothing is lost."""

from __future__ import annotations

import json
import threading
import time

import pytest
from viz_logs import load
from viz_node import run_node

from sglnb.events import (
    EventLog,
    NodeInserted,
    RequestArrived,
    RequestFinished,
    RunEnded,
    RunStarted,
    TokensGenerated,
)
from sglnb.viz import RunView, fold
from sglnb.viz.publisher import Publisher
from sglnb.viz.saved import CUT, FULL, SavedLog


def tokens(rid: str, i: int, top: int = 5) -> TokensGenerated:
    alternatives = [[f" word{j}", j, -1.23456 * j, j % 2 == 0] for j in range(top)]
    return TokensGenerated(rid=rid, ids=[i], pieces=[f" t{i}"], how="sampled", logprobs=[-0.123456],
                           top=[alternatives], allowed=[12], mass=[0.5])  # fmt: skip


def arrived(rid: str, run: str = "x", prompt: int = 3) -> RequestArrived:
    return RequestArrived(rid=rid, run=run, state=rid, name="a", purpose="gen",
                          ids=list(range(prompt)), pieces=["p "] * prompt)  # fmt: skip


def numbers_in(message):
    """The numbers of the events in a message, in order."""
    wires = json.loads(message["json"])
    return sorted({wire["s"] + later for wire in wires for later in wire.get("sq", [0])})


class Receiver:
    """Collects what a publisher sends, with times."""

    def __init__(self):
        self.messages, self.saves = [], []

    def send(self, message):
        self.messages.append((time.monotonic(), message))

    def save(self, text):
        self.saves.append((time.monotonic(), text))

    def seqs(self):
        return [seq for _, m in self.messages for seq in numbers_in(m)]


def test_three_writers_lose_nothing_and_flood_nobody():
    log, seen = EventLog(), Receiver()
    log.emit(NodeInserted(node=1, parent=0, ids=[1], pieces=["x"]))
    log.emit(RunStarted(run="x"))
    publisher = Publisher(log, "x", seen.send, seen.save)
    begin = time.monotonic()

    def write(rid):
        log.emit(arrived(rid))
        for i in range(400):
            log.emit(tokens(rid, i))
            log.emit(tokens("foreign", i))
            time.sleep(0.002)
        log.emit(RequestFinished(rid=rid, reason="stop"))

    threads = [threading.Thread(target=write, args=(f"r{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.emit(RunEnded(run="x"))
    publisher.finish()
    publisher.finish()
    elapsed = time.monotonic() - begin
    assert not publisher.running
    own = [e.seq for e in log if getattr(e, "rid", "") != "foreign"]
    assert seen.seqs() == own  # the snapshot of the past carries the past's last number
    assert (len(seen.messages) + len(seen.saves)) / elapsed <= 20
    afters = [m["after"] for _, m in seen.messages]
    lasts = [numbers_in(m)[-1] for _, m in seen.messages]
    assert afters[1:] == lasts[:-1]


def test_the_last_saved_copy_folds_to_the_final_header():
    log, seen = EventLog(), Receiver()
    publisher = Publisher(log, "chat", seen.send, seen.save)
    for event in load("chat"):
        log.emit(event)
    publisher.finish()
    saved = json.loads(seen.saves[-1][1])
    assert saved["header"]["completion"] == 18
    assert saved["last"] == log.next_seq - 1
    code = """
        const { fold } = await import(staticUrl + '/reduce.js');
        const { makeDecoder, unmerged } = await import(staticUrl + '/wire.js');
        output(fold(unmerged(input.events).map(makeDecoder())).tokens);"""
    ours = json.loads(json.dumps(fold(log.since(0))["tokens"]))
    theirs = run_node(code, saved)
    for view in (ours, theirs):  # times of this quick log are rounded on the way
        tokens = [token for row in view["rows"].values() for token in row["tokens"]]
        for each in (*view["requests"].values(), *tokens):
            for key in ("t", "wait", "last"):
                each.pop(key, None)
    assert theirs == ours


def test_the_publisher_ends_by_itself_after_the_run():
    log, seen = EventLog(), Receiver()
    publisher = Publisher(log, "x", seen.send, seen.save)
    log.emit(RunStarted(run="x"))
    log.emit(RunEnded(run="x"))
    deadline = time.monotonic() + 5
    while publisher.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not publisher.running
    assert seen.saves


def test_dear_rounds_are_fewer():
    log, times = EventLog(), []

    def send(message):
        times.append(time.monotonic())
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    log.emit(RunStarted(run="x"))
    log.emit(arrived("r"))
    publisher = Publisher(log, "x", send, lambda text: None)
    begin = time.monotonic()
    while time.monotonic() - begin < 1.5:
        log.emit(tokens("r", 1))
        time.sleep(0.01)
    log.emit(RunEnded(run="x"))
    publisher.finish()
    assert len(times) <= 14  # 17 at the quick pace
    assert times[0] - begin < 0.5


def test_numbers_that_json_has_not_do_not_break_a_message():
    log, seen = EventLog(), Receiver()
    log.emit(RunStarted(run="x"))
    log.emit(arrived("r"))
    event = tokens("r", 1)
    event.logprobs, event.mass = [float("-inf")], [float("nan")]
    event.top[0][0][2], event.top[0][1][2] = float("-inf"), None
    log.emit(event)
    log.emit(TokensGenerated(rid="r", ids=[], pieces=[], how="sampled", logprobs=[], top=[],
                             allowed=[], mass=[]))  # fmt: skip
    log.emit(tokens("r", 2))
    Publisher(log, "x", seen.send, seen.save).finish()
    assert seen.seqs() == list(range(-1, 5))
    for text in (seen.messages[0][1]["json"], seen.saves[0][1]):
        assert "Infinity" not in text
        assert "NaN" not in text
    code = """
        const { makeDecoder, unmerged } = await import(staticUrl + '/wire.js');
        const told = unmerged(input).map(makeDecoder()).filter((event) => event.kind === "tokens");
        output(told.map((event) => [event.ids, event.logprobs, event.mass, event.top]));"""
    first, empty, last = run_node(code, json.loads(seen.messages[0][1]["json"]))
    assert first[:3] == [[1], [None], [None]]
    assert [item[2] for item in first[3][0]] == [None, None, -2.4691, -3.7037, -4.9382]
    assert empty == [[], [], [], []]
    assert last == [[2], [-0.1235], [0.5], json.loads(json.dumps([[
        [f" word{j}", j, round(-1.23456 * j, 4), j % 2 == 0] for j in range(5)]]))]  # fmt: skip


@pytest.mark.parametrize(("requests", "each"), [(1, 50), (4, 500), (32, 400)])
def test_the_saved_copy_stays_small(requests, each):
    saved = SavedLog()
    seq = 0
    for event in [RunStarted(run="x"), *(arrived(f"r{n}", prompt=800) for n in range(requests))]:
        event.seq = seq = seq + 1
        saved.add([event])
    for i in range(each):
        for n in range(requests):
            event = tokens(f"r{n}", i)
            event.seq = seq = seq + 1
            saved.add([event])
    end = RunEnded(run="x")
    end.seq = seq + 1
    saved.add([end])
    text = saved.text()
    assert len(json.dumps(text)) < 200_000
    state = json.loads(text)
    assert state["header"]["completion"] == requests * each
    assert state["header"]["status"] == "done"
    assert state["last"] == end.seq
    assert (state["level"] == FULL) == (requests == 1)
    if state["level"] == CUT:
        assert state["omitted"] > 0


def test_a_prompt_larger_than_the_copy_is_counted_not_kept():
    saved = SavedLog(budget=5000)
    event = arrived("r", prompt=20_000)
    event.seq = 0
    saved.add([event])
    assert len(saved.text()) < 10_000
    code = """
        const { fold } = await import(staticUrl + '/reduce.js');
        const { makeDecoder } = await import(staticUrl + '/wire.js');
        output(fold(input.events.map(makeDecoder())).header.prompt);"""
    assert run_node(code, json.loads(saved.text())) == 20_000


def test_run_view_without_a_kernel():
    log, stopped = EventLog(), []
    view = RunView(log, "x", on_cancel=lambda: stopped.append(1), title="a run")
    log.emit(RunStarted(run="x", title="a run"))
    log.emit(arrived("r"))
    log.emit(tokens("r", 1))
    log.emit(RequestFinished(rid="r", reason="stop"))
    log.emit(RunEnded(run="x"))
    view._handle_custom_msg({"kind": "cancel"}, [])
    view._handle_custom_msg({"kind": "else"}, [])
    view._handle_custom_msg("no dict", [])
    assert stopped == [1]
    view.finish()
    view.finish()
    saved = json.loads(view.saved)
    assert saved["header"]["status"] == "done"
    state = json.dumps(view.get_state())
    assert len(state) < 250_000
    assert repr(view) == "a run: live view (needs its kernel; the saved picture follows)"


def test_a_failing_cancel_does_not_reach_the_kernel(caplog):
    def fail():
        raise RuntimeError("no")

    view = RunView(EventLog(), "x", on_cancel=fail)
    view._handle_custom_msg({"kind": "cancel"}, [])
    view.finish()
    assert "'cancel' failed" in caplog.text


def test_unknown_panes_are_refused():
    with pytest.raises(ValueError, match="no pane called 'graph'"):
        RunView(EventLog(), "x", panes="tokens, graph")


def test_the_subshell_opt_in_is_used_where_the_kernel_has_it():
    view = RunView(EventLog(), "x")
    view.finish()
    if hasattr(view.comm, "_reply_subshell_for"):
        assert view.comm._reply_subshell_for({}, "default") == "default"


def test_emitting_stays_cheap_while_a_view_listens():
    log = EventLog()
    publisher = Publisher(log, "x", lambda message: None, lambda text: None)
    events = [tokens("foreign", i) for i in range(20_000)]
    begin = time.perf_counter()
    for event in events:
        log.emit(event)
    each = (time.perf_counter() - begin) / len(events)
    publisher.finish()
    assert each < 50e-6
