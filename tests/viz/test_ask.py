"""Questions of a view: answered off the asking thread, in order, and never with an exception."""

from __future__ import annotations

import json
import threading
import time

import pytest
from viz_node import run_node

import sglnb as sgl
from sglnb.events import EventLog, NodeInserted, NodeLocked, RunEnded, RunStarted
from sglnb.viz import RunView, TreeView
from sglnb.viz.ask import QUESTIONS, Answers

PROMPT = "The capital of France is Paris, and the capital of Italy is"


@pytest.fixture(scope="module")
def engine():
    with sgl.Engine(kv_tokens=2000) as engine:
        yield engine
        engine.check()


@pytest.fixture
def asked(engine):
    engine.cache.flush()
    engine.generate(PROMPT, {"max_new_tokens": 2, "temperature": 0})
    sent = []
    answers = Answers(engine.cache, sent.append, lambda: sent.append("refreshed"))

    def ask(what, **args):
        sent.clear()
        assert answers.take({"kind": "ask", "id": 7, "what": what, "args": args})
        answers.wait()
        assert sent[0] == "refreshed"
        assert sent[1]["id"] == 7
        return sent[1]["ok"], json.loads(sent[1]["json"])

    return ask


def test_each_question(asked, engine):
    node = engine.cache.match(PROMPT).nodes[-1]
    ok, found = asked("node", node=node)
    assert ok
    assert found["prompt"].startswith(PROMPT)
    ok, miss = asked("why_miss", text="The capital of France is London")
    assert ok
    assert miss["path"] == engine.cache.match("The capital of France is London").nodes
    assert miss["before"].endswith("France is")
    ok, cost = asked("cost_of_edit", old=PROMPT, new="The capital of Spain")
    assert cost["lost"] + cost["kept"] == cost["cached"]
    assert cost["lost"] > 0
    assert "pinned" in asked("pin", node=node)[1]["told"]
    assert engine.cache.node(node)["pins"] == 1
    assert "pinned stays" in asked("evict", node=node)[1]["told"]  # what was below it is gone
    assert "nothing was evicted" in asked("evict", node=node)[1]["told"]
    assert asked("unpin", node=node)[1]["told"] == "unpinned"
    assert "no pin" in asked("unpin", node=node)[1]["told"]
    assert "are free again" in asked("evict", node=node)[1]["told"]
    ok, told = asked("node", node=node)
    assert (ok, "holds no node" in told) == (False, True)


@pytest.mark.parametrize(
    "args", [{}, {"node": "x"}, {"node": -1}, {"nodes": 1}, {"text": 3}, {"node": None}]
)
@pytest.mark.parametrize("what", [*QUESTIONS, "shutdown", None])
def test_nonsense_is_answered_in_words(asked, what, args):
    ok, told = asked(what, **args)
    assert not ok
    assert told


def test_half_characters_arrive(asked):
    ok, miss = asked("why_miss", text="\ud800 <b>")
    assert ok or isinstance(miss, str)


def test_the_asking_thread_does_not_wait_and_answers_keep_their_order(engine):
    sent, gate = [], threading.Event()

    class Slow:
        def node(self, node):
            gate.wait(10)
            raise ValueError(f"no {node}")

    answers = Answers(Slow(), sent.append, lambda: None)
    begin = time.monotonic()
    for i in range(5):
        answers.take({"kind": "ask", "id": i, "what": "node", "args": {"node": i}})
    assert answers.take({"kind": "hello"})
    assert not answers.take({"kind": "cancel"})
    assert time.monotonic() - begin < 1
    gate.set()
    answers.wait()
    assert [message.get("id", "here") for message in sent] == [0, 1, 2, 3, 4, "here"]


def test_after_the_run_a_command_brings_the_view_up_to_date():
    log = EventLog()
    view = RunView(log, "x", cache=object())
    sent = []
    view._answers._send = view._publisher._send = sent.append
    log.emit(RunStarted(run="x"))
    log.emit(NodeInserted(node=1, parent=0, ids=[1], pieces=["a"]))
    log.emit(RunEnded(run="x"))
    view.finish()
    sent.clear()
    log.emit(NodeLocked(node=1, delta=1, rid="pin"))
    view._on_custom(view, {"kind": "ask", "id": 1, "what": "nothing", "args": {}}, [])
    view._answers.wait()
    assert [message["kind"] for message in sent] == ["events", "answer"]
    assert "node_locked" in sent[0]["json"]
    code = """
        const { fold } = await import(staticUrl + '/reduce.js');
        const { makeDecoder } = await import(staticUrl + '/wire.js');
        output(fold(input.events.map(makeDecoder())).tree.nodes[1].pins);"""
    assert run_node(code, json.loads(view.saved)) == 1
    assert not RunView(log, "y").controls


def test_a_view_of_the_tree_follows_its_commands(engine):
    engine.cache.flush()
    engine.generate(PROMPT, {"max_new_tokens": 2})
    snapshot = engine.cache.snapshot()
    view = TreeView(snapshot.event, engine.events, engine.cache, title="<script>")
    node = snapshot[0]["node"]
    code = """
        const { fold } = await import(staticUrl + '/reduce.js');
        const { makeDecoder } = await import(staticUrl + '/wire.js');
        const { tree } = fold(input.map(makeDecoder()));
        output([tree.total_slots,
                Object.values(tree.nodes).map((n) => [n.node, n.pins, n.evicted !== null])]);"""

    def shown():
        return run_node(code, json.loads(view.saved))

    assert shown()[0] == 2000
    assert shown()[1][:2] == [[0, 0, False], [node, 0, False]]
    for what, pins, gone in (("pin", 1, False), ("unpin", 0, False), ("evict", 0, True)):
        view._on_custom(view, {"kind": "ask", "id": 1, "what": what, "args": {"node": node}}, [])
        view._answers.wait()
        assert shown()[1][1] == [node, pins, gone]
    engine.events._ring.clear()  # the log has moved on beyond what it keeps
    engine.cache.emit_snapshot()
    engine.generate("Something else", {"max_new_tokens": 2})
    view._on_custom(view, {"kind": "ask", "id": 1, "what": "node", "args": {"node": 0}}, [])
    view._answers.wait()
    assert len(shown()[1]) == len(engine.cache.snapshot()) + 1
