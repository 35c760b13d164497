"""The folds in Python: what each view says about the fixture logs."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from viz_logs import NAMES, load, run_of
from viz_node import run_node

from sglnb.events import (
    EventLog,
    NodeInserted,
    NodeSplit,
    Preparing,
    RequestArrived,
    RequestFinished,
    RunEnded,
    RunStarted,
    StateEnded,
    StateForked,
    StateStarted,
)
from sglnb.viz import fold, initial, reduce, run_events
from sglnb.viz.plain import ordered_rows, to_text
from sglnb.viz.reduce_header import waiting_for
from sglnb.viz.reduce_tree import KEEP, initial_tree, node_tokens, reduce_tree
from sglnb.viz.runlog import RunFilter, compact_nodes
from sglnb.viz.wire import Encoder


def text_of(row, kind=None):
    tokens = row["tokens"][: row["shown"]]
    return "".join(t["piece"] for t in tokens if kind is None or t["kind"] == kind)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_folding_a_prefix_then_the_rest_is_folding_all(name, data):
    events = load(name)
    cut = data.draw(st.integers(0, len(events)))
    halves = fold(events[cut:], copy.deepcopy(fold(events[:cut])))
    assert halves == fold(events)


@pytest.mark.parametrize("name", NAMES)
def test_views_are_plain_json_and_events_stay_as_they_were(name):
    events = load(name)
    view = fold(events)
    assert json.loads(json.dumps(view)) == view
    assert [e.to_dict() for e in events] == [e.to_dict() for e in load(name)]


def test_a_later_prompt_keeps_what_was_sampled():
    row = fold(load("chat"))["tokens"]["rows"]["s0"]
    assert text_of(row, "sampled") == (
        "The Eiffel Tower is in Paris, France.<|im_end|>It is about 330 metres tall.<|im_end|>"
    )
    assert row["cached"] == 36  # the second request found the whole first exchange
    assert row["variables"] == [["answer", "The Eiffel Tower is in Paris, France."],
                                ["height", "It is about 330 metres tall."]]  # fmt: skip


def test_forks_share_their_parents_text():
    tokens = fold(load("forks"))["tokens"]
    assert [row["shared"] for row in tokens["rows"].values()] == [0, 18, 18, 18]
    assert text_of(tokens["rows"]["s2"], "sampled").startswith("Why was the robot")
    assert [(d, r["state"]) for d, r in ordered_rows(tokens["rows"], tokens["order"])] == [
        (0, "s0"), (1, "s1"), (1, "s2"), (1, "s3")]  # fmt: skip


def test_a_prefill_hint_shows_only_once_it_is_what_forks_share():
    pieces = ["a", "b", "c"]
    hint = RequestArrived(rid="r", run="x", state="s", name="", purpose="prefill",
                          ids=[1, 2, 3], pieces=pieces)  # fmt: skip
    start = StateStarted(state="s", run="x")
    assert text_of(fold([start, hint])["tokens"]["rows"]["s"]) == ""
    fork = StateForked(run="x", parent="s", children=["t"])
    assert text_of(fold([start, hint, fork])["tokens"]["rows"]["s"]) == "abc"
    assert text_of(fold([start, fork, hint])["tokens"]["rows"]["s"]) == "abc"
    assert "r" in fold([start, hint])["branches"]["bars"]


def test_siblings_share_text_of_their_parent_that_nobody_showed():
    rows = fold(load("eviction"))["tokens"]["rows"]
    assert rows["p0"]["shared"] == 0
    assert all(rows[key]["shared"] > 60 for key in ("p1", "p2", "p3"))


def test_forced_and_sampled_tokens_are_told_apart():
    row = fold(load("regex"))["tokens"]["rows"]["s0"]
    assert text_of(row, "sampled") == 'Hermione Granger"17G'
    forced = [token for token in row["tokens"] if token["kind"] == "forced"]
    assert len(forced) == 25
    assert {token["allowed"] for token in forced} == {1}
    g = next(token for token in row["tokens"] if token["piece"] == "G")
    assert g["fsm"] == 48
    assert not all(allowed for *_, allowed in g["top"])


def test_select_appends_the_winner_only():
    row = fold(load("select"))["tokens"]["rows"]["s0"]
    assert text_of(row, "select") == " negative"
    assert "neutral" not in text_of(row)
    assert row["picks"][0]["choices"][1] == [" negative", -0.2091]


def test_the_header_counts_and_ends():
    header = fold(load("regex"))["header"]
    assert (header["status"], header["completion"], header["forced"]) == ("done", 30, 25)
    stopped = fold(load("eviction"))["header"]
    assert (stopped["status"], stopped["error"]) == ("stopped", "")
    assert stopped["active"] == 0


def test_a_bar_waits_prefills_decodes_and_ends_in_order():
    for bar in fold(load("forks"))["branches"]["bars"].values():
        times = [bar["arrived"], bar["scheduled"], bar["first"] or bar["scheduled"], bar["end"]]
        assert times == sorted(times)
    gaps = [b["gaps"] for b in fold(load("eviction"))["branches"]["bars"].values() if b["gaps"]]
    assert len(gaps) == 1
    assert gaps[0][0][0] < gaps[0][0][1]


@given(st.integers(1, 4 * KEEP), st.data())
def test_splits_lose_no_token(n, data):
    tree = initial_tree()
    pieces = [str(i) for i in range(n)]
    reduce_tree(tree, NodeInserted(node=1, parent=0, ids=list(range(n)), pieces=pieces))
    upper = 2
    for _ in range(3):
        size = node_tokens(tree["nodes"]["1"])
        if size < 2:
            break
        at = data.draw(st.integers(1, size - 1))
        reduce_tree(tree, NodeSplit(node=1, upper=upper, at=at))
        assert node_tokens(tree["nodes"][str(upper)]) == at
        upper += 1
    nodes = [node for node in tree["nodes"].values() if node["node"]]
    assert sum(map(node_tokens, nodes)) == n
    shown = [p for node in sorted(nodes, key=lambda x: (x["node"] == 1, x["node"]))
             for p in node["head"] + node["tail"]]  # fmt: skip
    assert shown == sorted(shown, key=int)


def test_locks_reach_the_root_and_end_at_nought():
    for name in ("chat", "forks", "regex", "select"):
        nodes = fold(load(name))["tree"]["nodes"].values()
        assert {node["locks"] for node in nodes} == {0}
    half = load("forks")
    tree = fold(half[: len(half) // 2])["tree"]
    assert any(node["locks"] > 0 for node in tree["nodes"].values())


def test_a_run_starts_from_the_tree_as_it_was():
    events = load("chat")
    cut = run_events(events, "chat")
    assert cut[0].kind == "cache_snapshot"
    assert [node["node"] for node in cut[0].nodes] == [1]
    assert fold(cut)["header"]["cached"] == fold(events)["header"]["cached"]
    assert run_events(cut, "chat")[1:] == cut[1:]
    assert run_events(events, "another run") == []
    assert run_of(cut) == "chat"


def test_a_large_cache_is_sent_small():
    tree = initial_tree()
    for i in range(1, 5000):
        reduce_tree(
            tree, NodeInserted(node=i, parent=i // 3, ids=[0] * 100, pieces=["word "] * 100)
        )
    records = compact_nodes(tree)
    assert len(json.dumps(records)) < 600_000
    assert sum(1 for record in records if record["head"]) <= 200
    seen = {0}
    for record in records:
        assert record["parent"] in seen
        seen.add(record["node"])


def test_one_event_at_a_time_is_the_same():
    view = initial()
    for event in load("forks"):
        view = reduce(view, event)
    assert view == fold(load("forks"))


STOPS = [
    "KeyboardInterrupt",
    "gen('story') at line 3 was stopped: generation 'story' was stopped",
    "1 of 2 branches failed (1); branch 1: gen('a') at line 2 was stopped: the run was stopped",
    "the run was stopped",
]
FAILURES = ["ValueError: it was stopped", "gen('a') at line 2 failed: ValueError: no", "oops"]


@pytest.mark.parametrize("error", STOPS + FAILURES)
def test_a_stop_is_told_from_a_failure(error):
    """Also in JavaScript, and whatever else was aborted on the way."""
    log = [RunStarted(run="x"), StateStarted(run="x", state="s"),
           RequestArrived(rid="r", run="x", state="s", name="a", purpose="gen", ids=[1],
                          pieces=["a"]),
           RequestFinished(rid="r", reason="abort", error="generation 'a' was stopped"),
           StateEnded(run="x", state="s", error=error), RunEnded(run="x", error=error)]  # fmt: skip
    view = fold(log)
    failed = error in FAILURES
    assert view["header"]["status"] == ("failed" if failed else "stopped")
    assert view["header"]["error"] == (error if failed else "")
    assert view["tokens"]["rows"]["s"]["error"] == (error if failed else "")
    code = "const { fold } = await import(staticUrl + '/reduce.js'); output(fold(input));"
    assert run_node(code, [event.to_dict() for event in log]) == json.loads(json.dumps(view))


def test_what_a_run_waits_for_is_in_its_header():
    """Its own compilations and what all wait for, not those of other runs; the oldest first, until
    it is done, or the request is."""

    def preparing(what, rid="", seconds=None):
        return Preparing(what=what, rid=rid, seconds=seconds)

    def arrived(rid):
        return RequestArrived(
            rid=rid, run="x", state="s", name=rid, purpose="gen", ids=[1], pieces=["a"]
        )

    story = [  # what happens, and what the run waits for then
        (preparing("kernels"), ""),  # before the run: over, or somebody else's
        (RunStarted(run="x"), ""),
        (StateStarted(state="s", run="x"), ""),
        (arrived("a"), ""),
        (preparing("compiling <b>(a|b)*</b>", "a"), "compiling <b>(a|b)*</b>"),
        (preparing("not theirs", "other"), "compiling <b>(a|b)*</b>"),
        (arrived("b"), "compiling <b>(a|b)*</b>"),
        (preparing("a list", "b"), "compiling <b>(a|b)*</b>"),
        (preparing("kernels"), "compiling <b>(a|b)*</b>"),
        (preparing("compiling <b>(a|b)*</b>", "a", 2.5), "a list"),
        (RequestFinished(rid="b", reason="abort"), "kernels"),
        (preparing("kernels", seconds=0.1), ""),
        (preparing("a list", "b"), "a list"),
        (RunEnded(run="x", error="RequestAborted: stopped"), ""),
    ]
    log = EventLog()
    wanted, after, own = RunFilter("x"), [], []
    for event, waits in story:
        log.emit(event)
        if wanted(event):
            own.append(event)
            after.append(waits)
            wait = waiting_for(fold(own)["header"])
            assert (wait[0] if wait else "") == waits
            times = [e.t for e in own if getattr(e, "what", "") == waits]
            assert not wait or wait[1] in times
    assert len(own) == len(story) - 2
    code = """
        const { initial, reduce } = await import(staticUrl + '/reduce.js');
        const { waitingFor } = await import(staticUrl + '/reduce_header.js');
        const { makeDecoder } = await import(staticUrl + '/wire.js');
        const view = initial(), decode = makeDecoder();
        output(input.map((event) => {
            reduce(view, decode(event));
            return (waitingFor(view.header) ?? [""])[0];
        }));
    """
    assert run_node(code, [*map(Encoder(), own)]) == after
    assert "running · compiling <b>(a|b)*</b> · 0 tokens" in to_text(log.since(0)[:7], "x")
