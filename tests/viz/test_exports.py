"""Drawings, tables, traces and frozen views: valid by their formats' rules, hostile text inert."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from viz_logs import NAMES, load, run_of

import sglnb as sgl
from sglnb import viz
from sglnb.events import EventLog

HOSTILE = "<script>alert(1)</script>\x00\u202e&\"'"


@pytest.mark.parametrize("name", NAMES)
def test_a_run_as_svg_keeps_inside_its_frame(name):
    events = load(name)
    root = ET.fromstring(viz.run_svg(events, run_of(events)))
    width, height = float(root.get("width")), float(root.get("height"))
    for element in root.iter():
        assert float(element.get("y", 0)) <= height
        if element.tag.endswith("rect"):
            assert float(element.get("x")) + float(element.get("width")) <= width + 1


def test_hostile_text_in_an_svg_and_in_a_trace(tmp_path):
    drawing = viz.run_svg(load("hostile"), "hostile")
    root = ET.fromstring(drawing)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {"svg", "text", "rect"}
    assert "<script>alert(1)</script>" in "".join(root.itertext())
    drawing.encode("utf-8")
    log = EventLog()
    for event in load("hostile"):
        log.emit(event)
    json.loads(log.to_perfetto(tmp_path / "trace.json").read_text(encoding="ascii"))


@pytest.fixture(scope="module")
def snapshot():
    with sgl.Engine(kv_tokens=2000) as engine:
        for text in ("One, two", "One, two, three", HOSTILE):
            engine.generate(text, {"max_new_tokens": 3})
        engine.cache.pin("One, two")
        yield engine.cache.snapshot()


def test_a_snapshot_leaves_in_every_form(snapshot):
    frame = snapshot.to_frame()
    assert len(frame) == len(snapshot)
    assert frame.tokens.sum() == sum(len(node["ids"]) for node in snapshot)
    assert frame.pins.sum() == 1
    assert {0, *frame.node} >= set(frame.parent)
    ET.fromstring(snapshot.to_svg())
    assert snapshot.to_dot().startswith("digraph")
    assert "pinned" in repr(snapshot)
    page = snapshot.to_html()
    assert "<script>alert" not in page
    assert "https:" not in page
    assert "<script" not in snapshot._repr_mimebundle_()["text/html"]


def test_tables_of_tree_and_steps():
    frame = viz.folded_tree_frame(viz.fold(load("forks"))["tree"])
    assert frame.tokens.sum() == 103
    assert set(frame.in_use) == {0}
    assert viz.steps_frame([]).empty
    with sgl.Engine(kv_tokens=500) as engine:
        engine.generate("One, two,", {"max_new_tokens": 4, "ignore_eos": True})
        steps = viz.steps_frame(engine.events)
    assert list(steps.prefill) == [1, *[0] * (len(steps) - 1)]
    assert (steps.seconds > 0).all()
    assert set(steps.total_slots) == {500}
