"""Whatever text a run holds, every export stays well formed, inert and of bounded size.

A recorded run is taken and all free text in it (titles, labels, names, prompts, outputs,
alternatives, choices, errors, constraint sources, edges of automata) is replaced.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from viz_hostile import CONTROLS, LONG, NASTY, TEXTS, infect
from viz_logs import load, log_of, run_of

import sglnb as sgl
from sglnb import viz
from sglnb.events import EventLog
from sglnb.viz.graphviz import dot_svg
from sglnb.viz.tree_export import own_svg

STATIC_TAGS = {"details", "summary", "div", "span", "b"}
PAGE_TAGS = {"html", "head", "meta", "title", "style", "body", "main", "script"}
SVG_TAGS = {"svg", "g", "text", "rect", "path", "circle", "ellipse", "polygon", "polyline", "line",
            "title", "defs", "marker", "tspan"}  # fmt: skip


class Tags(HTMLParser):
    """The tags of a text, all closed, and their attributes."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.keys, self.open = set(), set(), []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.keys |= {key for key, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_static(html):
    found = Tags(html)
    assert found.tags <= STATIC_TAGS
    assert found.keys <= {"style", "title", "tabindex"}
    assert not CONTROLS.search(html)
    html.encode("utf-8")


def check_page(html):
    found = Tags(html)
    assert found.tags <= PAGE_TAGS
    assert html.count("<script") == 2 == html.count("</script")
    assert isinstance(log_of(html), (dict, list))
    html.encode("utf-8")


def check_svg(svg):
    root = ET.fromstring(svg)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= SVG_TAGS
    keys = {key for element in root.iter() for key in element.keys()}  # noqa: SIM118
    assert not {key for key in keys if key.lower().startswith("on") or "href" in key}
    assert not CONTROLS.search(svg)
    svg.encode("utf-8")


def check_text(text):
    assert not CONTROLS.search(text)
    text.encode("utf-8")


def check_frame(frame):
    frame.to_json()
    frame.to_csv().encode("utf-8")
    repr(frame).encode("utf-8")


def texts_of(events):
    """All that a run said, for a title."""
    return "".join(piece for event in events for piece in getattr(event, "pieces", []))[:500]


def check_all(events, tmp_path):
    run = run_of(events)
    sizes = {}

    def take(name, text, check):
        check(text)
        sizes[name] = len(text)

    take("static", viz.static_html(events, run), check_static)
    take("page", viz.to_html(events, run), check_page)
    iframe = viz.iframe_html(events, run, title=texts_of(events))
    assert Tags(iframe).tags == {"iframe"}
    iframe.encode("utf-8")
    take("svg", viz.run_svg(events, run), check_svg)
    take("text", viz.to_text(events, run), check_text)
    check_frame(viz.to_frame(events, run))
    tree = viz.fold(events)["tree"]
    check_frame(viz.folded_tree_frame(tree))
    take("tree svg", own_svg(tree), check_svg)
    dot = viz.tree_dot(tree)
    take("dot", dot, check_text)
    assert all(len(re.findall(r'(?<!\\)(?:\\\\)*"', line)) % 2 == 0 for line in dot.splitlines())
    take("tree text", viz.tree_text(tree), check_text)
    log = EventLog()
    for event in events:
        log.emit(event)
    trace = log.to_perfetto(tmp_path / "trace.json").read_text(encoding="utf-8")
    json.loads(trace)
    return sizes


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(TEXTS, min_size=1, max_size=12),
       name=st.sampled_from(["constrained", "select", "eviction", "forks"]))  # fmt: skip
def test_every_export_of_a_run_is_inert(texts, name):
    with tempfile.TemporaryDirectory() as folder:
        check_all(infect(load(name), texts), Path(folder))


@pytest.mark.parametrize("name", ["constrained", "select", "eviction"])
def test_a_hundred_thousand_times_the_same_character(name, tmp_path):
    """Everywhere at once: what shows in a cell stays small enough for a notebook."""
    events = load(name)
    texts = [LONG] + ["b"] * 40  # some of each kind: else the log itself is gigabytes
    sizes = check_all(infect(events, texts), tmp_path)
    for form in ("static", "svg", "dot", "tree svg", "tree text"):
        assert sizes[form] < 300_000, (form, sizes)
    assert sizes["text"] < 10 * len(LONG)  # it has all of what was written


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs graphviz' dot to draw with it")
@pytest.mark.parametrize("text", NASTY)
def test_dot_draws_any_label(text):
    tree = viz.fold(infect(load("chat"), [text]))["tree"]
    svg = dot_svg(viz.tree_dot(tree))
    assert svg is not None
    root = ET.fromstring(svg)
    assert not [key for element in root.iter() for key in element.keys() if "href" in key]  # noqa: SIM118


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(TEXTS, min_size=2, max_size=3, unique=True))
def test_every_export_of_a_constraint_is_inert(engine, texts):
    clean = [text for text in texts if text and not re.search("[\ud800-\udfff]", text)]
    constraint = sgl.compile_constraint(choices=[*clean, "no"], tokenizer=engine.tokenizer)
    bundle = constraint._repr_mimebundle_()
    check_static(bundle["text/html"])
    check_text(bundle["text/plain"])
    check_text(repr(constraint))
    check_svg(constraint.to_svg())
    check_text(constraint.to_dot())
    Tags(constraint.to_html())


def test_every_export_of_a_real_run_without_dot(engine, tmp_path, monkeypatch):
    """The engine's own events, and PATH empty: no picture needs a program."""
    monkeypatch.setenv("PATH", "")
    hostile = "".join(text for text in NASTY if not re.search("[\ud800-\udfff]", text))

    @sgl.function
    def program(s):
        s += hostile + sgl.gen("a", choices=[hostile[:40], "no"]) + LONG[:1500]
        s += sgl.gen("b", max_tokens=8, regex=r"<b>[a-z]{2}</b>")

    state = program.run(backend=engine)
    check_page(state.to_html())
    check_svg(state.to_svg())
    check_frame(state.to_frame())
    bundle = state._repr_mimebundle_()
    check_text(bundle["text/plain"])
    if "text/html" in bundle:
        check_static(bundle["text/html"])
    snapshot = engine.cache.snapshot()
    check_page(snapshot.to_html())
    check_svg(snapshot.to_svg())
    check_text(snapshot.to_dot())
    check_text(snapshot.to_text())
    check_frame(snapshot.to_frame())
    check_static(snapshot._repr_mimebundle_()["text/html"])
    trace = engine.events.to_perfetto(tmp_path / "trace.json")
    json.loads(trace.read_text(encoding="utf-8"))
    graph = program.trace(backend=engine)
    check_svg(graph.to_svg())
    check_text(graph.to_dot())
