"""Python and JavaScript fold the same logs to the same views, and choose and spell the same."""

from __future__ import annotations

import json
import random

import pytest
from viz_logs import NAMES, load, load_dicts, run_of
from viz_node import run_node

from sglnb.events import event_from_dict
from sglnb.viz import fold, run_events
from sglnb.viz.outline import outline, path_to
from sglnb.viz.saved import MERGED, SavedLog, to_json
from sglnb.viz.text import clip_middle, one_line, percent, seconds, visible
from sglnb.viz.wire import Encoder

FOLD = "const { fold } = await import(staticUrl + '/reduce.js');"


def as_json(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", NAMES)
def test_folds_agree_at_every_event(name):
    dicts = load_dicts(name)
    stops = sorted({*range(0, len(dicts), 7), len(dicts)})
    code = FOLD + "output(input.stops.map((n) => fold(input.log.slice(0, n))));"
    theirs = run_node(code, {"log": dicts, "stops": stops})
    for stop, view in zip(stops, theirs, strict=True):
        assert view == as_json(fold(load(name)[:stop])), f"after {stop} events"


def damaged_logs(count: int) -> list[list[dict]]:
    """Fixture logs with events missing, out of order, or mixed with another's."""
    rng = random.Random(0)
    logs = []
    for _ in range(count):
        log = [*load_dicts(rng.choice(NAMES))]
        if rng.random() < 0.3:
            log += load_dicts(rng.choice(NAMES))
            rng.shuffle(log)
        log = log[rng.randrange(len(log) // 2) :]
        logs.append([event for event in log if rng.random() < 0.85])
    return logs


def test_folds_agree_on_damaged_logs():
    logs = damaged_logs(40)
    theirs = run_node(FOLD + "output(input.map((log) => fold(log)));", logs)
    for log, view in zip(logs, theirs, strict=True):
        assert view == as_json(fold(event_from_dict(event) for event in log))


@pytest.mark.parametrize("name", NAMES)
def test_the_wire_form_carries_all_that_views_need(name):
    encode = Encoder()
    text = to_json([encode(event) for event in load(name)])
    code = (
        FOLD
        + """
        const { makeDecoder } = await import(staticUrl + '/wire.js');
        output(fold(JSON.parse(input).map(makeDecoder())));"""
    )
    assert run_node(code, text) == as_json(fold(load(name)))


def test_events_that_share_wires_come_apart_as_they_were():
    """As a publisher sends them, in rounds of any length; and as a copy without alternatives."""
    rng = random.Random(1)
    inputs = []
    for name in NAMES * 3:
        events, one, many, rounds, at = load(name), Encoder(), Encoder(), [], 0
        while at < len(events):
            n = rng.choice([1, 3, 10, 40, 200])
            rounds.append(many.together(events[at : at + n]))
            at += n
        inputs.append([[one(event) for event in events], rounds])
    assert any("sq" in wire for _, rounds in inputs for wires in rounds for wire in wires)
    lean = SavedLog(budget=10**9)
    lean.level = MERGED
    lean.add(load("constrained"))
    wires = [wire for wire in json.loads(lean.text())["events"] if wire["k"] == "tokens"]
    singles = [wire for wire in map(Encoder(), load("constrained")) if wire["k"] == "tokens"]
    for wire in singles:
        wire.pop("top", None)
    assert len(wires) < len(singles)
    inputs.append([singles, [wires]])
    code = """
        const { makeDecoder, unmerged } = await import(staticUrl + '/wire.js');
        output(input.map(([singles, rounds]) => {
          const decode = makeDecoder();
          const shared = rounds.flatMap((wires) => unmerged(wires).map(decode));
          return [singles.map(makeDecoder()), shared];
        }));"""
    for singles, shared in run_node(code, inputs):
        assert shared == singles


@pytest.mark.parametrize("name", NAMES)
def test_a_run_cut_out_of_the_log_folds_alike(name):
    events = run_events(load(name), run_of(load(name)))
    encode = Encoder()
    code = (
        FOLD
        + """
        const { makeDecoder } = await import(staticUrl + '/wire.js');
        output(fold(JSON.parse(input).map(makeDecoder())));"""
    )
    theirs = run_node(code, to_json([encode(event) for event in events]))
    ours = as_json(fold(events))
    for part in ("header", "tokens", "branches"):
        assert theirs[part] == ours[part]
    assert theirs["tree"]["nodes"].keys() == ours["tree"]["nodes"].keys()


@pytest.mark.parametrize("limit", [2, 4, 300])
def test_the_same_nodes_are_visible(limit):
    code = (
        FOLD
        + """
        const { outline } = await import(staticUrl + '/layout.js');
        output(input.logs.map((log, i) => outline(fold(log).tree, input.keep[i], input.limit)));"""
    )
    trees = [fold(load(name))["tree"] for name in NAMES]
    keep = [[max(map(int, tree["nodes"]))] for tree in trees]
    logs = [load_dicts(name) for name in NAMES]
    theirs = run_node(code, {"logs": logs, "keep": keep, "limit": limit})
    for tree, wanted, items in zip(trees, keep, theirs, strict=True):
        assert items == outline(tree, wanted, limit)
        shown = {item["node"] for item in items if "node" in item}
        assert len(shown) <= limit
        hidden = sum(item.get("more", 0) for item in items)
        reachable = sum(1 for key in tree["nodes"] if path_to(tree, int(key)))
        assert len(shown) + hidden == reachable


def test_the_same_words():
    texts = ["", "plain", "a\nb\tc", "\x00\x1b[31m\x7f\x9b", "\ud800x\udfff", "👩‍👩‍👧 é",
             "\u202eevil\u2066", "\u2028", "x" * 50, "ab…cd" * 9]  # fmt: skip
    numbers = [0, 0.0004, 0.5, 0.99949, 1, 1.94, 59.9, 99.94, 100, 3725.5]
    logprobs = [0, -0.01, -2.2, -2.31, -5, -6.9, -20, 0.5, None]
    code = """
        const m = await import(staticUrl + '/layout.js');
        output([input.texts.map(m.visible), input.texts.map(m.oneLine),
          input.texts.map((text) => m.clipMiddle(text, 9)), input.numbers.map(m.secondsText),
          input.logprobs.map(m.percentText)]);"""
    theirs = run_node(code, {"texts": texts, "numbers": numbers, "logprobs": logprobs})
    assert theirs == [
        [visible(text) for text in texts], [one_line(text) for text in texts],
        [clip_middle(text, 9) for text in texts], [seconds(number) for number in numbers],
        [percent(logprob) for logprob in logprobs],
    ]  # fmt: skip
