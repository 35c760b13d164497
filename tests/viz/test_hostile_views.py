"""Live views of runs that are full of hostile text: it is text in every pane, card and name."""

from __future__ import annotations

import pytest
from viz_hostile import CONTROLS, LONG, NASTY, infect
from viz_logs import load, run_of
from viz_page import HOST, feed, published

from sglnb.viz.assets import css, esm

pytestmark = pytest.mark.browser

TAGS = {
    "DIV", "SPAN", "SECTION", "BUTTON", "B", "I", "P", "PRE", "CODE", "MARK", "DETAILS", "SUMMARY",
    "INPUT", "LABEL", "SELECT", "OPTION", "TEXTAREA", "svg", "g", "path", "text", "rect", "circle",
    "defs", "pattern",
}  # fmt: skip
TEXT = """() => {
    const names = ["title", "aria-label", "aria-valuetext", "value", "placeholder"];
    const root = document.querySelector(".sglnb");
    const all = [root, ...root.querySelectorAll("*")];
    const wordsOf = (each) => names.map((name) => each.getAttribute(name) ?? "");
    return { tags: [...new Set(all.map((each) => each.tagName))],
        handlers: all.flatMap((each) => each.getAttributeNames())
            .filter((name) => name.startsWith("on") || name === "href" || name === "src"),
        text: root.textContent,
        words: all.flatMap(wordsOf).join(" ") };
}"""


def live(page, name, texts):
    events = infect(load(name), texts)
    wires, _ = published(events, run_of(events))
    page.set_content(HOST % (css(), esm()))
    half = len(wires) // 2
    feed(page, wires[:half], -2)
    feed(page, wires[half:], wires[half - 1]["s"])
    page.locator(".tok").first.wait_for()


def look_around(page):
    """Open and point at one of everything."""
    for part in (".tok", ".node", ".bar", ".mark", ".cell", ".schedule"):
        at = page.locator(f"{part}:visible")
        for element in (at.first, at.last) if at.count() else ():
            element.focus()
            yield
    compare = page.get_by_role("button", name="Compare", exact=True)
    if compare.is_visible():
        compare.click()
    page.locator(".node").first.click()
    page.locator(".node-details").wait_for()
    yield


@pytest.mark.parametrize("name", ["constrained", "select", "eviction", "hostile"])
def test_hostile_text_is_text_in_every_pane(page, name):
    live(page, name, NASTY)
    for _ in look_around(page):
        seen = page.evaluate(TEXT)
        assert set(seen["tags"]) <= TAGS
        assert seen["handlers"] == []
        assert not CONTROLS.search(seen["text"] + seen["words"])
    assert "<img src=x onerror=alert(1)>" in seen["text"]


@pytest.mark.parametrize("name", ["constrained", "select"])
def test_a_hundred_thousand_times_the_same_character(page, name):
    live(page, name, [LONG, *["b"] * 20])
    for _ in look_around(page):
        seen = page.evaluate(TEXT)
        assert len(seen["text"]) < 450_000
        assert len(seen["words"]) < 450_000
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing overflows"
