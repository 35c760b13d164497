"""The program pane: the same rows on both sides, what they say, and where they are drawn."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from viz_logs import NAMES, load, load_dicts, run_of
from viz_node import run_node

from sglnb.events import (
    Event,
    EventLog,
    ProgramReached,
    ProgramRead,
    RequestArrived,
    RequestFinished,
    RequestMatched,
    RunEnded,
    RunStarted,
    StateEnded,
    StateStarted,
    TokensGenerated,
    VariableSet,
)
from sglnb.viz import fold, run_svg, static_html, to_text
from sglnb.viz.program_rows import has_shape, program_rows, program_words
from sglnb.viz.runlog import run_events
from sglnb.viz.saved import to_json
from sglnb.viz.wire import Encoder

BAD = "<img src=x onerror=alert(1)>\x1b[31m\u202e\n"


def as_json(value):
    return json.loads(json.dumps(value))


def told(view):
    program = view["program"]
    return [program_rows(view), program_words(program), has_shape(program)]


ROWS = """
    const { fold } = await import(staticUrl + '/reduce.js');
    const m = await import(staticUrl + '/programrows.js');
    const told = (view) => [m.programRows(view), m.programWords(view.program),
      m.hasShape(view.program)];
"""


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_draw_the_same_rows(name):
    dicts = load_dicts(name)
    stops = sorted({*range(0, len(dicts), 9), len(dicts)})
    code = ROWS + "output(input.stops.map((n) => told(fold(input.log.slice(0, n)))));"
    theirs = run_node(code, {"log": dicts, "stops": stops})
    for stop, rows in zip(stops, theirs, strict=True):
        assert rows == as_json(told(fold(load(name)[:stop]))), f"after {stop} events"


def plan(*nodes: dict, more: int = 0) -> ProgramRead:
    nodes = [{"id": i, "depth": 0, **node} for i, node in enumerate(nodes)]
    return ProgramRead(run="r", graph={"nodes": nodes, "more": more})


def log(*events: Event) -> list[Event]:
    log = EventLog()
    for event in (RunStarted(run="r"), StateStarted(state="s", run="r"), *events):
        log.emit(event)
    return log.since()


def arrived(rid: str, pieces: list[str], state: str = "s", purpose: str = "gen", name: str = ""):
    return RequestArrived(rid=rid, run="r", state=state, name=name, purpose=purpose,
                          ids=list(range(len(pieces))), pieces=pieces)  # fmt: skip


def tokens(rid: str, *pieces: str, replaced: int = 0):
    none = [None] * len(pieces)
    return TokensGenerated(rid=rid, ids=[1] * len(pieces), pieces=list(pieces), how="sampled",
                           logprobs=none, top=[[]] * len(pieces), allowed=none, mass=none,
                           replaced=replaced)  # fmt: skip


def begun(node: int | None, name: str = "a", what: str = "gen", state: str = "s"):
    return ProgramReached(run="r", state=state, node=node, what=what, name=name)


TEXT = {"kind": "text", "text": "Be kind. "}
HOLE = {"kind": "gen", "name": "a"}


def statuses(events):
    return [fill["status"] for fill in fold(events)["program"]["fills"]]


def test_a_hole_is_filled_step_by_step():
    read = plan({**TEXT, "prev": -1}, {**HOLE, "prev": 0})
    story = [
        (begun(1), "waiting", ""),
        (arrived("q", ["Be", " kind", ". "]), "waiting", ""),
        (RequestMatched(rid="q", cached=2, path=[]), "waiting", ""),
        (tokens("q", "Yes", ", a"), "running", "Yes, a"),
        (tokens("q", " b", replaced=1), "running", "Yes b"),
        (RequestFinished(rid="q", reason="stop"), "done", "Yes b"),
        (VariableSet(state="s", run="r", name="a", text="Yes"), "done", "Yes"),
    ]
    events = [read]
    first = fold(log(*events))
    assert [row["status"] for row in program_rows(first)] == ["", "open"]
    for event, status, text in story:
        events.append(event)
        text_row, hole = program_rows(fold(log(*events)))
        assert (hole["status"], hole["text"]) == (status, text)
    assert text_row["share"] == [2, 3]
    assert text_row["note"] == "2 of 3 tokens cached"
    assert hole["note"] == "2 of 3 prompt tokens cached"


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ([RequestFinished(rid="q", reason="abort")], "stopped"),
        ([RequestFinished(rid="q", reason="abort", error="ValueError: x")], "failed"),
        ([StateEnded(state="s", run="r", error="ValueError: x")], "failed"),
        ([StateEnded(state="s", run="r")], "done"),
        ([RunEnded(run="r", error="KeyboardInterrupt")], "stopped"),
        ([VariableSet(state="s", run="r", name="a", text="from elsewhere")], "done"),
        ([], "waiting"),
    ],
)
def test_how_a_text_ends(end, status):
    assert statuses(log(plan(HOLE), begun(0), arrived("q", ["x"]), *end)) == [status]


def test_a_hole_nobody_came_to_is_missed_and_blocks_say_where_it_went():
    block = {"kind": "if", "code": "if s['a']", "uses": ["a"]}
    read = plan(HOLE, block, {**HOLE, "name": "b", "depth": 1},
                {"kind": "else", "code": "else"}, {**HOLE, "name": "c", "depth": 1})  # fmt: skip
    rows = program_rows(fold(log(read, begun(0), begun(4, "c"), RunEnded(run="r"))))
    assert [row["status"] for row in rows] == ["done", "", "missed", "", "done"]
    assert [row["note"] for row in rows] == ["", "depends on a · not taken", "", "taken", ""]


def test_what_the_source_did_not_say_is_told():
    (row, other) = program_rows(fold(log(plan(TEXT), begun(None, "x"), begun(None, "x"))))[1:3]
    assert row["note"] == "not in the source that was read · 1 waiting, 1 done"
    assert other["kind"] == "fill"


def test_of_many_texts_some_are_shown_and_the_failed_one():
    events = [plan(HOLE)]
    for i in range(40):
        events += [StateStarted(state=f"s{i}", run="r", index=i, label=f"row {i}"),
                   begun(0, state=f"s{i}"), arrived(f"q{i}", ["x"], state=f"s{i}"),
                   RequestFinished(rid=f"q{i}", reason="stop",
                                   error="bad" if i == 20 else "")]  # fmt: skip
    rows = program_rows(fold(log(*events)))
    assert rows[0]["note"] == "39 done, 1 failed"
    labels = [row["label"] for row in rows[1:]]
    assert labels == ["a", "row 1", "row 2", "+17 texts", "row 20", "+17 texts", "row 38", "row 39"]
    assert rows[5]["note"] == "✕ bad"


PIECES = ["<s>", "Be", " kind", ". ", "N", "ame", " x", " is", " good", ".", "<u>", " Why", "?"]


@pytest.mark.parametrize("cached", range(len(PIECES) + 1))
def test_constants_are_found_in_the_prompt(cached):
    read = plan(
        {"kind": "text", "text": "Be kind. ", "prev": -1},
        {"kind": "value", "code": "x", "prev": 0},
        {"kind": "text", "text": " is good.", "prev": 1},
        {"kind": "value", "code": "y", "prev": 2},
        {"kind": "text", "text": " Why?", "prev": 3},
        {"kind": "gen", "name": "a", "prev": 4},
    )
    matched = RequestMatched(rid="q", cached=cached, path=[])
    events = log(read, begun(5), arrived("q", PIECES), matched)
    first, _, middle, _, last, _ = fold(events)["program"]["nodes"]
    assert first["cached"] == [max(0, min(cached, 4) - 1), 3]
    # Between two texts that are not known, only what lies wholly in the cache is told.
    assert middle["cached"] == ([3, 3] if cached >= 10 else None)
    assert last["cached"] == [max(0, cached - 11), 2]


def test_what_a_fork_computes_ahead_was_not_cached():
    """The branches find it in the cache because the fork's own request has just put it there."""
    read = plan({**TEXT, "prev": -1}, {"kind": "fork", "prev": 0}, {**HOLE, "prev": 1})
    events = [read, begun(1, "", "fork"), arrived("h", ["Be", " kind", ". "], purpose="prefill"),
              RequestMatched(rid="h", cached=1, path=[]), RequestFinished(rid="h", reason="length"),
              begun(2, state="b"), arrived("q", ["Be", " kind", ". ", "x"], state="b"),
              RequestMatched(rid="q", cached=3, path=[])]  # fmt: skip
    text, _, hole = program_rows(fold(log(*events)))
    assert text["share"] == [1, 3]
    assert hole["note"] == "3 of 4 prompt tokens cached"


def test_a_constant_that_is_not_there_is_not_marked():
    read = plan({"kind": "text", "text": "other", "prev": -1}, {**HOLE, "prev": 0})
    events = log(read, begun(1), arrived("q", PIECES), RequestMatched(rid="q", cached=9, path=[]))
    assert fold(events)["program"]["nodes"][0]["cached"] is None


def test_shapes():
    assert not has_shape(fold(log(plan(TEXT, HOLE, HOLE)))["program"])
    assert has_shape(fold(log(plan(HOLE, HOLE, HOLE)))["program"])
    for kind in ("fork", "loop", "if", "call"):
        assert has_shape(fold(log(plan(TEXT, {"kind": kind})))["program"])
    assert not has_shape(fold(log())["program"])


def test_static_forms_show_it():
    events = load("program")
    run = run_of(events)
    html, text, svg = static_html(events, run), to_text(events, run), run_svg(events, run)
    for form in (html, text, svg):
        assert "5 of 5 holes filled" in form
        assert "select verdict" in form
        assert "if len(s[" in form
    assert "<style" not in html
    assert "<script" not in html
    ET.fromstring(svg)
    quiet = load("chat")
    assert "holes filled" not in static_html(quiet, run_of(quiet))


def hostile():
    read = plan(
        {"kind": "text", "text": BAD * 9, "tail": BAD, "hidden": 7, "role": BAD},
        {"kind": "value", "code": BAD},
        {"kind": "loop", "code": f"for {BAD}", "uses": [BAD, ""]},
        {"kind": "gen", "name": BAD, "depth": 1},
        {"kind": "call", "code": BAD, "unread": True},
        {"kind": "use", "name": BAD, "code": BAD},
        more=3,
    )
    return log(
        read,
        begun(3, BAD),
        arrived("q", [BAD]),
        tokens("q", BAD),
        begun(3, BAD),
        arrived("q2", [BAD]),
        RequestFinished(rid="q2", reason="stop", error=BAD),
        begun(None, "__proto__", state="__proto__"),
        RunEnded(run="r", error=BAD),
    )


def test_hostile_programs_stay_text():
    events = hostile()
    for form in (static_html(events, "r"), run_svg(events, "r")):
        assert "<img" not in form
        assert "\x1b" not in form
        assert "\u202e" not in form
    assert "\x1b" not in to_text(events, "r")
    encode = Encoder()
    wires = [encode(event) for event in run_events(events, "r")]
    code = (
        ROWS
        + """
        const { makeDecoder } = await import(staticUrl + '/wire.js');
        output(told(fold(JSON.parse(input).map(makeDecoder()))));"""
    )
    assert run_node(code, to_json(wires)) == as_json(told(fold(events)))
