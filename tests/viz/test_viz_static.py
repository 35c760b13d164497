"""What leaves the notebook: static HTML, pages, text, tables, DOT and SVG; hostile text in each."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from viz_logs import NAMES, load, log_of, run_of
from viz_node import STATIC, node

from sglnb import viz
from sglnb.viz.assets import (
    METER_MODULES,
    MODULES,
    TREE_MODULES,
    css,
    esm,
    meter_esm,
    packed,
    tree_esm,
)
from sglnb.viz.runlog import compact_nodes
from sglnb.viz.tree_export import own_svg

STATIC_TAGS = {"details", "summary", "div", "span", "b"}


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("name", NAMES)
def test_static_html_is_spans_with_inline_styles(name):
    events = load(name)
    html = viz.static_html(events, run_of(events))
    page = Tags(html)
    assert not page.open
    assert {tag for tag, _ in page.tags} <= STATIC_TAGS
    assert {key for _, attrs in page.tags for key in attrs} <= {"style", "title", "tabindex"}
    assert "var(" not in html  # JupyterLab's sanitizer drops such declarations
    html.encode("utf-8")


def test_static_html_shows_hostile_text_as_text():
    html = viz.static_html(load("hostile"), "hostile")
    words = "".join(Tags(html).words)
    for text in ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'`", "</details>"):
        assert text in words
    assert "⟨U+D800⟩" in words
    assert "⟨U+202E⟩evil" in words
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", html)


def test_static_html_tells_kinds_and_choices():
    html = viz.static_html(load("regex"), "regex")
    tokens, constraint = html.split("constraint</summary>")
    assert tokens.count("border-bottom: 2px dotted #E69F00") == 25 + 1  # and the legend
    assert constraint.count("border-bottom: 2px dotted #E69F00") == 4 + 1  # jumps
    assert "not allowed" in html
    select = "".join(Tags(viz.static_html(load("select"), "select")).words)
    assert "choices for label" in select
    assert "-3.11" in select


@pytest.mark.parametrize("name", NAMES)
def test_a_page_holds_its_log_and_needs_no_network(name):
    events = load(name)
    page = viz.to_html(events, run_of(events))
    assert page.count("</script>") == 2
    assert "http:" not in re.sub(r"http://www\.w3\.org/2000/svg", "", page)
    assert "https:" not in page
    wires = log_of(page)["events"]
    numbers = [wire["s"] + later for wire in wires for later in wire.get("sq", [0])]
    assert {*numbers} == {event.seq for event in viz.run_events(events, run_of(events))}
    assert page == viz.to_html(events, run_of(events))
    assert len(page.encode("utf-8")) < 110_000


def test_an_iframe_cannot_be_left():
    html = viz.iframe_html(load("hostile"), "hostile", title='"><script>alert(1)</script>')
    page = Tags(html)
    assert [tag for tag, _ in page.tags] == ["iframe"]
    assert page.tags[0][1]["sandbox"] == "allow-scripts"


@pytest.mark.parametrize("module", [esm, tree_esm, meter_esm])
def test_a_joined_module_is_one_valid_module(module, tmp_path):
    import subprocess

    text = module()
    assert "import " not in text
    assert text.count("export ") == 1
    assert "</script" not in text.lower()
    assert "innerHTML" not in text
    path = tmp_path / "view.mjs"
    path.write_text(text)
    done = subprocess.run([node(), "--check", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(packed(text)) + len(css()) < 115_000  # each view in a saved notebook has a copy


def test_every_module_is_in_a_view():
    assert {*MODULES, *TREE_MODULES, *METER_MODULES} == {path.name for path in STATIC.glob("*.js")}


def test_text_for_terminals():
    text = viz.to_text(load("forks"), "forks")
    assert text.startswith("three jokes · done · 53 tokens · 73 of 123 prompt tokens cached")
    assert "Why was the robot so tired?" in text
    assert "cache: 10 nodes, 103 tokens" in text
    hostile = viz.to_text(load("hostile"), "hostile")
    assert "\x1b" not in hostile
    hostile.encode("utf-8")


def test_one_row_a_token():
    frame = viz.to_frame(load("forks"), "forks")
    assert list(frame.columns)[:4] == ["state", "label", "position", "name"]
    sampled = frame[frame.kind == "sampled"]
    assert len(sampled) == 53
    assert sampled.prob.between(0, 1).all()
    assert frame[frame.state == "s1"].position.min() == 18  # what it shares is its parent's
    hostile = viz.to_frame(load("hostile"), "hostile")
    hostile.to_json()
    assert viz.to_frame([], "nothing").empty


def test_a_snapshot_becomes_a_list():
    nodes = [
        {"node": 1, "parent": 0, "ids": [1, 2], "pieces": ["<b>", "x"], "locks": 1, "hits": 3,
         "last_used": 1.0},
        {"node": 2, "parent": 1, "ids": [3], "pieces": ["\x1b"], "locks": 0, "hits": 0,
         "last_used": 2.0},
    ]  # fmt: skip
    words = "".join(Tags(viz.tree_static_html(nodes)).words)
    assert "<b>x" in words
    assert "2 tokens, 3 hits, in use by 1" in words
    assert "2 nodes · 3 tokens" in words
    assert "0 nodes" in viz.tree_static_html([])


@pytest.mark.parametrize("name", NAMES)
def test_svg_with_and_without_dot(name, monkeypatch):
    tree = viz.fold(load(name))["tree"]
    ET.fromstring(own_svg(tree))
    if shutil.which("dot"):
        assert ET.fromstring(viz.tree_svg(tree)).tag.endswith("svg")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert viz.tree_svg(tree) == own_svg(tree)


def test_a_broken_dot_is_as_good_as_none(tmp_path, monkeypatch):
    dot = tmp_path / "dot"
    dot.write_text("#!/bin/sh\nexit 1\n")
    dot.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(dot))
    tree = viz.fold(load("chat"))["tree"]
    assert viz.tree_svg(tree) == own_svg(tree)


def test_dot_text_quotes_labels():
    dot = viz.tree_dot(viz.fold(load("hostile"))["tree"])
    for line in dot.splitlines():
        assert len(re.findall(r'(?<!\\)"', line)) % 2 == 0
    assert compact_nodes(viz.fold(load("hostile"))["tree"])


def test_no_notebook_here():
    assert viz.in_notebook() is False


def test_what_was_taken_back_is_struck_through_and_rare_kinds_are_explained():
    text = viz.static_html(load("rewound"), run_of(load("rewound")))
    ghosts = re.findall(r'line-through[^>]*taken back">([^<]*)<', text)
    assert "".join(ghosts) == " yan"
    for word in ("closed by max_tokens", "retokenized", "taken back", "entropy", "⟨E9⟩"):
        assert word in text
    plain = viz.static_html(load("chat"), run_of(load("chat")))
    assert "retokenized" not in plain
    assert "taken back" not in plain
