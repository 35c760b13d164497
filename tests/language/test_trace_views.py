"""A trace as text, HTML, DOT, SVG and as a table."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from traced_programs import by_character, main, programs

import sglnb.language as sgl
from sglnb.viz.program_graph import own_program_svg

EVIL = '<script>alert(1)</script> "q" \\ \x1b[31m \u202e'


@sgl.function
def evil(s, q):
    s += EVIL + q
    s.user(EVIL)
    other = evil_inner.run(q)
    group = s.fork(2)
    group += lambda i: f"{i}" + EVIL + sgl.gen('a"<b>')
    group.join()
    s += other["x"] + sgl.select("pick", choices=["yes", "no"])
    if s["pick"] == EVIL:  # <stop>
        s += "never"


@sgl.function
def evil_inner(s, q):
    s += q + sgl.gen("x")


@pytest.fixture
def trace(backend):
    return evil.trace(backend=backend)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"style", "title"}

    def handle_data(self, data):
        self.words.append(data)


def test_html_survives_and_is_escaped(trace):
    bundle = trace._repr_mimebundle_()
    page = Tags(bundle["text/html"])
    assert page.tags <= {"div", "span", "b"}
    text = "".join(page.words)
    assert "<script>alert(1)</script>" in text
    assert "{q}" in text
    assert "pick" in text
    assert "\x1b" not in bundle["text/html"]
    assert "\u202e" not in bundle["text/html"]
    assert "comparison with variable 'pick'" in text
    assert "var(" not in bundle["text/html"]
    assert "<svg" not in bundle["text/html"]


def test_page(trace):
    page = trace.to_html()
    assert page.startswith("<!doctype html>")
    assert page.endswith("</body></html>")
    assert "<script" not in page


def test_text(trace):
    text = repr(trace)
    assert text.startswith("Trace of evil: ")
    assert "not complete, open: q" in text.splitlines()[0]
    assert "evil[1], a branch of evil" in text
    assert text.splitlines()[-1].startswith("stopped: line ")
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_it_is_plain_data(trace):
    data = json.loads(json.dumps(trace.to_dict()))
    assert data["stopped"]["why"].startswith("a comparison with variable 'pick'")
    assert [node["id"] for node in data["nodes"]] == list(range(len(data["nodes"])))
    assert {"id", "kind", "state", "name", "text", "prev", "sources", "file", "line"} <= set(
        data["nodes"][0]
    )


def test_frame(trace):
    frame = trace.to_frame()
    assert len(frame) == len(trace.nodes)
    assert list(frame[frame.kind == "gen"].name) == ["x", 'a"<b>', 'a"<b>']
    assert str(frame.line.dtype) == "Int64"
    assert frame.prev.isna().sum() == 2


def test_svg_by_dot_and_without(trace, monkeypatch):
    own = own_program_svg(trace.to_dict())
    ElementTree.fromstring(own)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert trace.to_svg() == own


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_dot_is_what_graphviz_takes(trace):
    done = subprocess.run(["dot", "-Tplain"], input=trace.to_dot().encode(), capture_output=True)
    assert done.returncode == 0, done.stderr
    nodes = [line for line in done.stdout.decode().splitlines() if line.startswith("node")]
    drawn = len(re.findall(r"^    n\d+ \[", trace.to_dot(), re.M))
    assert len(nodes) == drawn < len(trace.nodes)
    ElementTree.fromstring(trace.to_svg().encode())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs(conditions=True))
def test_any_trace_can_be_shown(program):
    trace = main.trace(backend=by_character(), program=program)
    ElementTree.fromstring(own_program_svg(trace.to_dict()))
    drawn = set(re.findall(r"^    (n\d+) \[", trace.to_dot(), re.M))
    linked = set(re.findall(r"(n\d+) -> (n\d+)", trace.to_dot()))
    assert {n for pair in linked for n in pair} <= drawn
    Tags(trace._repr_mimebundle_()["text/html"])
    assert len(trace.to_frame()) == len(trace.nodes) <= len(repr(trace).splitlines())


def test_a_long_trace_is_cut(backend):
    @sgl.function
    def long(s):
        for i in range(1000):
            s += f"{i}" + sgl.gen("x")

    trace = long.trace(backend=backend)
    assert "1,600 more steps" in repr(trace)
    assert "1,600 more steps" in trace.to_html()
    ElementTree.fromstring(own_program_svg(trace.to_dict()))
