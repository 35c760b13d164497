"""The tokens pane in Chromium: what the colours measure, ghosts, and texts of 20,000 tokens."""

from __future__ import annotations

import pytest
from viz_logs import load, run_of
from viz_page import HOST, feed, published, settle, show

from sglnb import simulate
from sglnb.runtime.trace import TraceRequest
from sglnb.viz import to_html
from sglnb.viz.assets import css, esm

pytestmark = pytest.mark.browser

LONG = 20_000
MOST = 4_000  # elements, whatever the run


def run_writing(pieces: list[str]):
    """A run that makes these tokens of a prompt of 30."""
    n = len(pieces)
    log = simulate([TraceRequest([5] * 30, n, run="r", state="s")], kv_tokens=n + 99).events
    made = 0
    for event in (events := log.since()):
        if event.kind == "tokens":
            event.pieces = pieces[made : made + len(event.ids)]
            made += len(event.ids)
    return events


def long_run(n: int = LONG):
    return run_writing([f" word{i}" + ("\n" * (i % 7 == 6)) for i in range(n)])


@pytest.fixture(scope="module")
def long_page():
    return to_html(long_run(), "r")


def focused(page):
    return page.evaluate("document.activeElement.textContent").strip()


def drawn(page):
    return page.locator(".tok").count()


def test_keys_reach_every_token_of_a_long_text_and_few_are_drawn(page, long_page):
    page.set_content(long_page)
    page.wait_for_selector(".tok")
    assert 0 < drawn(page) < MOST
    page.locator(".tok").first.focus()
    page.keyboard.press("End")
    assert focused(page) == f"word{LONG - 1}"
    assert page.evaluate("document.activeElement.getAttribute('aria-posinset')") == str(LONG + 30)
    assert page.evaluate("document.activeElement.getAttribute('aria-setsize')") == str(LONG + 30)
    page.keyboard.press("ArrowLeft")
    assert focused(page) == f"word{LONG - 2}"
    page.keyboard.press("ArrowUp")
    assert focused(page) != f"word{LONG - 2}"
    page.keyboard.press("Home")
    seen = [0]
    for _ in range(40):
        page.keyboard.press("PageDown")
        assert page.locator(".tok:focus").count() == 1
        seen.append(int(page.evaluate("document.activeElement.getAttribute('aria-posinset')")))
        assert drawn(page) < MOST
    assert seen == sorted(set(seen))
    for _ in range(450):  # over the borders of pages
        page.keyboard.press("ArrowRight")
    last = int(page.evaluate("document.activeElement.getAttribute('aria-posinset')"))
    assert last == seen[-1] + 450
    assert page.locator("[role=listbox] [tabindex='0']").count() == 1


def test_a_token_that_is_a_newline_can_be_seen_and_pointed_at(page):
    page.set_content(to_html(run_writing(["Hi", "\n", "\n", "\n\n", " so", "\n"]), "r"))
    newlines = page.get_by_role("option", name="⏎")
    newlines.first.wait_for()
    assert newlines.count() == 4
    for token in newlines.all():
        box = token.bounding_box()
        assert box["width"] > 3
        page.mouse.move(box["x"] + 2, box["y"] + 9)
        assert "⏎" in page.locator(".card").inner_text()
        page.mouse.move(999, 799)
        assert page.locator(".card").is_hidden()


def test_scrolling_shows_tokens_wherever_one_looks(page, long_page):
    page.set_content(long_page)
    page.wait_for_selector(".tok")
    inside = """() => {
      const pane = document.querySelector('.tokens');
      const box = pane.getBoundingClientRect();
      return [...pane.querySelectorAll('.tok')].filter((e) => {
        const at = e.getBoundingClientRect();
        return at.bottom > box.top && at.top < box.bottom;
      }).length;
    }"""
    for share in (0.5, 0.1, 0.9, 1, 0):
        page.locator(".tokens").evaluate("(e, s) => { e.scrollTop = s * e.scrollHeight; }", share)
        settle(page)
        assert page.evaluate(inside) > 50
        assert drawn(page) < MOST


def test_the_search_finds_what_is_not_drawn(page, long_page):
    page.set_content(long_page)
    page.wait_for_selector(".tok")
    search = page.get_by_placeholder("find", exact=True)
    search.fill("WORD12345")
    assert "1 found" in page.locator(".finder").inner_text()
    search.press("Enter")
    settle(page)
    found = page.locator(".tok.found")
    assert found.count() == 1
    assert found.inner_text().strip() == "word12345"
    assert "position 12,375" in page.locator(".card").inner_text()


def test_a_growing_text_stays_bounded(page):
    wires, _ = published(long_run(6000), "r")
    page.set_content(HOST % (css(), esm()))
    after = -2
    for i in range(0, len(wires), 1000):
        feed(page, wires[i : i + 1000], after)
        after = wires[min(i + 999, len(wires) - 1)]["s"]
        assert drawn(page) < MOST
    page.locator(".tok").last.focus()
    page.keyboard.press("End")
    assert focused(page) == "word5999"


def test_colours_are_chosen_by_keys_and_the_legend_follows(page):
    show(page, "rewound")
    page.get_by_role("radio", name="type").focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.get_by_role("radio", name="probability").is_checked()
    assert "100 %" in page.locator(".token-tools .legend").inner_text()
    assert page.locator(".tok.measured").count() > 5
    page.keyboard.press("ArrowRight")
    settle(page)
    assert "nats" in page.locator(".token-tools .legend").inner_text()
    assert "nats" in page.locator(".tok.measured").first.get_attribute("aria-label")
    page.keyboard.press("ArrowRight")
    settle(page)
    assert "1 ms" in page.locator(".token-tools .legend").inner_text()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.locator(".tok.measured").count() == 0
    legend = page.locator(".token-tools .legend").inner_text()
    assert "closed by max_tokens" in legend
    assert "retokenized" in legend


def test_tokens_taken_back_are_shown_on_demand(page):
    show(page, "rewound")
    assert page.locator(".tok .taken-back").count() == 0
    toggle = page.locator(".ghost-toggle")
    assert toggle.inner_text() == "2 tokens taken back"
    toggle.click()
    settle(page)
    assert page.locator(".tok .taken-back").count() == 2
    page.locator(".tok.retokenized").first.focus()
    card = page.locator(".card").inner_text()
    assert "in place of" in card
    assert "other tokens for text that was there" in card
    page.locator(".tok.half").first.focus()
    assert "part of a character" in page.locator(".card").inner_text()
    show(page, "chat")
    assert page.locator(".ghost-toggle").is_hidden()


def test_replaced_tokens_are_drawn_again(page):
    events = load("rewound")
    wires, _ = published(events, run_of(events))
    page.set_content(HOST % (css(), esm()))
    after = -2
    for wire in wires:  # a frame for each: what was drawn is replaced
        feed(page, [wire], after)
        after = wire["s"]
    live = page.locator(".tokens").inner_text()
    show(page, "rewound")
    assert page.locator(".tokens").inner_text() == live
