"""The run view in Chromium, with a stand-in for the kernel: live growth, keys, hostile text."""

from __future__ import annotations

import pytest
from viz_logs import load
from viz_page import HOST, feed, published, settle, show

from sglnb.viz.assets import css, esm

pytestmark = pytest.mark.browser


def test_hostile_text_stays_text(page):
    show(page, "hostile")
    assert page.locator(".sglnb script, .sglnb img, .sglnb b:not(.name)").count() == 0
    assert "<script>alert(1)</script>" in page.locator(".tokens").inner_text()
    assert page.locator(".name").inner_text() == "<script>alert(1)</script>"
    page.locator(".tok").nth(30).hover()
    page.locator(".node").nth(0).hover()
    page.locator(".bar").nth(0).hover()
    assert page.locator(".card img, .card script").count() == 0


def test_it_grows_stops_and_stays(page):
    wires, saved = published(load("forks"), "forks")
    page.set_content(HOST % (css(), esm()))
    half = len(wires) // 2
    feed(page, wires[:half], -2)
    early = page.locator(".tok").count()
    assert early > 0
    assert page.locator(".status").inner_text() == "running"
    page.locator(".stop").click()
    assert page.evaluate("window.sent") == ["interrupt"]
    feed(page, wires[half:], wires[half - 1]["s"])
    assert page.locator(".tok").count() > early
    assert page.locator(".status").inner_text() == "done"
    assert page.locator(".stop").is_hidden()
    assert "53 tokens" in page.locator(".head").inner_text()
    assert page.locator(".lane").count() == 4
    assert page.locator(".node").count() == 10
    page.evaluate("(text) => window.save(text)", saved)  # nothing new in it
    settle(page)
    assert page.locator(".where").inner_text().startswith(f"event {len(wires)} / {len(wires)}")


def test_missed_messages_are_made_up_by_the_saved_copy(page):
    wires, saved = published(load("chat"), "chat")
    page.set_content(HOST % (css(), esm()))
    feed(page, wires[:5], -2)
    feed(page, wires[20:25], wires[19]["s"])  # 5..19 never came
    page.evaluate("(text) => window.save(text)", saved)
    settle(page)
    assert page.locator(".status").inner_text() == "done"
    assert "330 metres" in page.locator(".tokens").inner_text()


def test_in_the_background_stop_asks_the_run_and_spares_the_kernel(page):
    wires, _ = published(load("chat"), "chat")
    page.set_content(HOST % (css(), esm()))
    page.evaluate("window.set('foreground', false)")
    feed(page, wires[:10], -2)
    page.locator(".stop").click()
    assert page.evaluate("window.sent") == [{"kind": "cancel"}]


def test_arrows_walk_the_tokens_and_light_the_other_panes(page):
    wires, _ = published(load("regex"), "regex")
    page.set_content(HOST % (css(), esm()))
    feed(page, wires, -2)
    page.locator(".tok.sampled").first.focus()
    assert "sampled for record" in page.locator(".card").inner_text()
    assert page.locator(".node.lit").count() == 2
    assert page.locator(".node.tip").count() == 1
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == " Granger"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == "}"
    assert "forced by the constraint" in page.locator(".card").inner_text()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.textContent") == "Hermione"
    page.keyboard.press("Escape")
    assert page.locator(".card").is_hidden()
    page.keyboard.press("b")
    assert page.evaluate("window.leaked") == []


def test_masked_alternatives_are_struck_through_with_the_reason(page):
    show(page, "regex")
    page.locator(".tok.sampled", has_text="G").last.focus()
    masked = page.locator(".alt.masked").first
    assert "not allowed in state" in masked.locator(".why").inner_text()
    style = "getComputedStyle(document.querySelector('.alt.masked .alt-text')).textDecorationLine"
    assert page.evaluate(style) == "line-through"


def test_the_tree_is_walked_by_arrows(page):
    show(page, "forks")
    page.locator(".node").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-level')") == "2"
    assert page.locator(".tok.lit").count() > 0
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.getAttribute('aria-level')") == "1"
    assert page.locator("[role=tree] [role=treeitem][tabindex='0']").count() == 1


def test_the_slider_goes_back_and_forth(page):
    show(page, "forks")
    whole = page.locator(".tokens").inner_text()
    slide = "(e, n) => { e.value = n; e.dispatchEvent(new Event('input')); }"
    slider = page.locator(".replay input")
    slider.evaluate(slide, 30)
    settle(page)
    assert page.locator(".where").inner_text().startswith("event 30 / ")
    assert len(page.locator(".tokens").inner_text()) < len(whole)
    assert page.locator(".status").inner_text() == "running"
    slider.evaluate(slide, 9999)
    settle(page)
    assert page.locator(".tokens").inner_text() == whole
    page.get_by_label("one event back").click()
    settle(page)
    assert page.locator(".status").inner_text() == "running"


def test_a_header_word_shows_only_its_tokens(page):
    show(page, "regex")
    word = page.locator(".word.forced")
    word.click()
    assert page.locator(".tok.lit").count() == 25
    assert word.get_attribute("aria-pressed") == "true"
    word.click()
    assert page.locator(".tokens.lighting").count() == 0


def test_folded_prefixes_open_and_panes_close(page):
    show(page, "forks")
    before = page.locator(".tok").count()
    page.locator(".fold:visible").first.click()
    settle(page)
    assert page.locator(".tok").count() == before + 18
    page.get_by_role("button", name="tree", exact=True).click()
    assert page.locator(".tree").is_hidden()
