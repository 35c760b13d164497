"""The program pane in Chromium: keys, the linked selection, replay, live filling."""

from __future__ import annotations

import pytest
from test_viz_program import hostile
from viz_logs import load, run_of
from viz_page import HOST, feed, published, settle, show

from sglnb.viz import to_html
from sglnb.viz.assets import css, esm

pytestmark = pytest.mark.browser


def label(page):
    return page.evaluate("document.activeElement.getAttribute('aria-label')")


def rows(page):
    return page.locator(".pnode")


def test_rows_tell_the_program_and_what_came_of_it(page):
    show(page, "program")
    assert page.locator(".pane-program .pane-info").inner_text() == "5 of 5 holes filled · 6 texts"
    labels = [rows(page).nth(i).get_attribute("aria-label") for i in range(rows(page).count())]
    assert labels[0].startswith("system, constant, You answer in a few words.")
    assert labels[0].endswith("19 of 19 tokens cached")
    assert labels[1] == "user, constant, My name is {name}. Who am I?"
    assert labels[2].startswith("assistant, hole who, done, Ada.")
    assert "loop for i, tip in enumerate(tips)" in labels
    assert page.locator(".program .cached").count() == 1
    page.get_by_role("button", name="what am I looking at: program").click()
    assert "your code is not run for it" in page.locator(".pane-program .help").inner_text()


def test_rows_are_walked_by_arrows(page):
    show(page, "program")
    rows(page).first.focus()
    page.keyboard.press("ArrowDown")
    assert label(page).startswith("user, constant")
    page.keyboard.press("End")
    assert label(page).startswith("hole more")
    page.keyboard.press("Home")
    assert label(page).startswith("system")
    page.locator(".pnode[data-kind=loop]").focus()
    page.keyboard.press("ArrowRight")
    assert "Tip number" in label(page)
    page.keyboard.press("ArrowLeft")
    assert label(page).startswith("loop")
    page.keyboard.press("Enter")
    assert "line" in page.locator(".card").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".card:popover-open").count() == 0


def test_a_hole_lights_its_tokens_its_branch_and_its_path(page):
    show(page, "program")
    page.locator(".pnode[data-kind=fill]").nth(1).focus()
    lit = page.locator(".tok.lit").all_inner_texts()
    assert "".join(lit) == "2, please confirm: T"
    assert page.locator(".lane.lit").count() == 1
    assert page.locator(".bar.lit").count() == 1
    assert page.locator("svg .lit").count() >= 4  # the tree, down to the branch
    page.locator(".pnode[data-kind=gen]", has_text="tip").first.focus()
    assert page.locator(".lane.lit").count() == 2
    page.locator(".pnode[data-kind=fork]").focus()
    assert page.locator(".lane.lit").count() == 2
    page.locator(".pnode[data-kind=select]").focus()
    assert page.locator(".tok.lit").all_inner_texts() == ["yes"]


def test_a_token_and_a_bar_light_their_hole(page):
    show(page, "program")
    page.locator(".tok.sampled").first.focus()
    lit = page.locator(".pnode.lit")
    assert lit.count() == 1
    assert lit.get_attribute("aria-label").startswith("assistant, hole who")
    page.locator(".tok.select").first.focus()
    assert "select verdict" in page.locator(".pnode.lit").get_attribute("aria-label")
    page.locator(".tok.prompt").first.focus()
    assert page.locator(".pnode.lit").count() == 0
    page.locator(".lane", has_text="tip[1]").locator(".bar").focus()
    assert page.locator(".pnode.lit[data-kind=fill]").count() == 1


def test_replay_empties_and_fills_the_holes(page):
    show(page, "program")
    slider = page.locator(".replay input")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    settle(page)
    assert page.locator(".pnode[data-status=open]").count() == 4
    assert page.locator(".pane-program .pane-info").inner_text() == "0 of 4 holes filled"
    page.keyboard.press("End")
    settle(page)
    assert page.locator(".pnode[data-status=done]").count() == 6


def test_live_a_hole_fills_and_no_key_leaks(page):
    wires, _ = published(load("program"), run_of(load("program")))
    page.set_content(HOST % (css(), esm()))
    cut = next(i for i, wire in enumerate(wires) if wire["k"] == "tokens") + 2
    feed(page, wires[:cut], -2)
    assert page.locator(".pnode[data-status=running]").count() == 1
    feed(page, wires[cut:], wires[cut - 1]["s"])
    assert page.locator(".pnode[data-status=running]").count() == 0
    rows(page).first.focus()
    for key in ("b", "ArrowDown", "Escape", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("window.leaked") == []


@pytest.mark.parametrize(("name", "panes", "shown"), [
    ("chat", "auto", False), ("regex", "auto", False), ("program", "auto", True),
    ("program", "tokens", False), ("chat", "program", False),
])  # fmt: skip
def test_only_programs_with_a_shape_show_it(page, name, panes, shown):
    events = load(name)
    page.set_content(to_html(events, run_of(events), panes=panes))
    page.wait_for_selector(".head")
    settle(page)
    assert page.locator(".pane-program").is_visible() == shown


def test_hostile_programs_stay_text(page):
    errors = []
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(to_html(hostile(), "r", panes="program"))
    page.wait_for_selector(".pnode")
    for i in range(rows(page).count()):
        rows(page).nth(i).focus()
    assert page.locator(".program img, .card img").count() == 0
    assert errors == []
