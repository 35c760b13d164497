"""The constraint and schedule panes in Chromium: keys, the linked selection, replay, bounds."""

from __future__ import annotations

import json

import pytest
from viz_logs import load, run_of
from viz_page import HOST, feed, published, settle, show

import sglnb as sgl
from sglnb import simulate
from sglnb.runtime.trace import TraceRequest
from sglnb.viz import to_html
from sglnb.viz.assets import css, esm

pytestmark = pytest.mark.browser


def focused(page):
    return page.evaluate("document.activeElement.getAttribute('aria-label')")


def info(page, pane):
    return page.locator(f".pane-{pane} .pane-info").inner_text()


def test_a_token_moves_the_automaton(page):
    show(page, "constrained")
    digit = page.locator(".tok.sampled", has_text="5").first
    digit.focus()
    first = page.locator(".state.at").get_attribute("aria-label")
    assert "the request stands here" in first
    assert page.locator(".line.here").count() == 1
    way = page.locator(".line.way").count()
    assert info(page, "constraint").startswith("state ")
    page.keyboard.press("ArrowRight")
    assert page.locator(".state.at").get_attribute("aria-label") != first
    assert page.locator(".line.way").count() == way + 1
    assert page.locator(".cell.on").count() == 1


def test_a_state_lights_the_tokens_made_there(page):
    show(page, "constrained")
    page.locator(".of select").select_option(index=0)
    settle(page)
    page.locator(".state.been").nth(1).click()
    lit = page.locator(".tok.lit")
    assert lit.count() >= 2  # one in each branch
    assert "the tokens that were chosen here" in page.locator(".card").inner_text()
    page.locator(".jump.been").first.hover()
    assert "".join(page.locator(".tok.lit").all_inner_texts()).startswith('{"name":')
    page.mouse.move(5, 5)  # what has the focus since the click is shown again
    assert lit.count() >= 2
    page.keyboard.press("Escape")
    assert page.locator(".tokens.lighting").count() == 0


def test_the_automaton_is_walked_by_arrows(page):
    show(page, "constrained")
    page.locator(".of select").select_option(index=0)
    settle(page)
    page.locator(".state").first.focus()
    assert focused(page).startswith("state 0")
    page.keyboard.press("ArrowRight")
    assert focused(page).startswith('{"name": "')
    assert "jump-forward" in page.locator(".card").inner_text()
    page.keyboard.press("ArrowRight")
    assert focused(page).startswith("state 10")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert focused(page).startswith("state 0")
    page.keyboard.press("End")
    assert "the text may end here" in focused(page)
    page.keyboard.press("Escape")
    assert page.locator(".card").is_hidden()
    assert page.locator(".fsm [tabindex='0']").count() == 1
    assert page.locator(".strip [tabindex='0']").count() == 1


def test_the_strip_tells_what_was_removed_and_what_was_saved(page):
    show(page, "constrained")
    page.locator(".of select").select_option(index=0)
    settle(page)
    labels = [cell.get_attribute("aria-label") for cell in page.locator(".cell").all()]
    assert any(label.endswith("5 tokens without a forward pass") for label in labels)
    assert any("mask removed 97 %" in label for label in labels)
    page.locator(".cell").first.focus()
    page.keyboard.press("ArrowRight")
    assert "allowed" in page.locator(".card").inner_text()


def test_without_an_automaton_the_strip_is_all(page):
    show(page, "constrained")
    page.locator(".of select").select_option(index=2)
    settle(page)
    assert page.locator(".fsm-scroll").is_hidden()
    assert "wand" in page.locator(".strip").inner_text()
    assert page.locator(".choice-step").count() > 0


def test_a_grammar_shows_what_each_step_could_have_been(page):
    """llguidance tells no states and no rules; the tokens of each step are told."""
    grammar = 'start: sum\nsum: N | "(" sum "+" sum ")"\nN: /[0-9]{1,3}/'
    with sgl.Engine(kv_tokens=500, seed=0) as engine:
        params = {"max_new_tokens": 12, "grammar": grammar, "temperature": 0}
        engine.submit("(1+", params, run="r", top_logprobs_num=5, return_logprob=True).result()
        events = engine.events.since()
    page.set_content(to_html(events, "r", panes="tokens,constraint"))
    steps = page.locator(".choice-step")
    steps.first.wait_for()
    assert page.locator(".fsm-scroll").is_hidden()
    assert "does not tell which rules are open" in page.locator(".constraint").inner_text()
    made = [e for e in events if e.kind == "tokens" and e.how == "sampled"]
    allowed = [n for each in made for n in each.allowed]
    heads = steps.locator(".small").all_inner_texts()
    assert heads == [f"{n:,} allowed" for n in allowed][-12:]
    assert page.locator(".choice-step .masked").count() > 0
    assert steps.locator(".taken").count() == steps.count(), "what was taken is in each column"
    page.locator(".cell").first.focus()
    assert "on" in steps.first.get_attribute("class").split()
    assert page.locator(".choice-step.on").count() == 1


def test_replay_walks_the_automaton_and_fills_the_schedule(page):
    show(page, "constrained")
    slider = page.locator(".replay input")
    slide = "(e, n) => { e.value = n; e.dispatchEvent(new Event('input')); }"
    seen = []
    for n in (25, 45, 60, 75):
        slider.evaluate(slide, n)
        settle(page)
        ways = page.locator(".line.way").count()
        seen.append((ways, info(page, "schedule").split(" of ")[0]))
    assert [ways for ways, _ in seen] == sorted(ways for ways, _ in seen)
    assert seen[0] != seen[1] != seen[2]


def test_steps_are_walked_by_arrows_and_light_their_requests(page):
    show(page, "queue")
    chart = page.locator(".schedule")
    chart.focus()
    last = int(chart.get_attribute("aria-valuemax"))
    assert int(chart.get_attribute("aria-valuenow")) == last
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    assert int(chart.get_attribute("aria-valuenow")) == last - 30
    words = chart.get_attribute("aria-valuetext")
    assert words.startswith(f"step {last - 30} ")
    assert "the pool is" in words
    assert page.locator(".card").inner_text().split("\n")[0] == words.split("; ")[0]
    assert page.locator(".bar.lit").count() >= 1
    assert page.locator(".tok.lit").count() >= 1
    page.keyboard.press("Home")
    assert chart.get_attribute("aria-valuetext").startswith("step 1 ")
    page.keyboard.press("Escape")
    assert page.locator(".card").is_hidden()


def test_pointing_at_a_column_shows_its_numbers(page):
    show(page, "queue")
    box = page.locator(".steps").bounding_box()
    page.locator(".steps").scroll_into_view_if_needed()
    page.locator(".steps").hover(position={"x": box["width"] / 2, "y": 60})
    assert page.locator(".card").inner_text().startswith("step ")
    page.locator(".bar").nth(3).hover()
    assert page.locator(".look.lit").count() == 1


def test_a_long_run_takes_no_more_elements_than_a_short_one(page):
    trace = [
        TraceRequest([i % 5] * 30 + [100 + i], 60, arrival=0.05 * i, run="r", state=f"s{i}")
        for i in range(120)
    ]
    events = simulate(trace, max_running=24, kv_tokens=4_000).events.since()
    page.set_content(to_html(events, "r"))
    page.wait_for_selector(".steps")
    settle(page)
    shapes = ".pane-schedule svg > g *, .pane-schedule svg > rect"
    assert page.locator(shapes).count() < 60
    assert page.evaluate(
        "[...document.querySelectorAll('.look')].every((e) => !e.getAttribute('d').includes('NaN'))"
    )


def test_a_large_automaton_shows_a_window(page):
    edges = [[i, i + 1, "[a-z]", 0, []] for i in range(300)]
    edges += [[i, 300, '"', 1, []] for i in range(299)]
    nodes = [[i, int(i == 300)] for i in range(301)]
    events = load("constrained")
    used = next(event for event in events if event.kind == "constraint_used")
    used.graph = {"nodes": nodes, "edges": edges}
    page.set_content(to_html(events, run_of(events)))
    page.wait_for_selector(".tok")
    page.locator(".of select").select_option(index=0)
    settle(page)
    assert page.locator(".pane-constraint *:visible").count() <= 330
    assert "drawn, around the current one" in page.locator(".constraint").inner_text()


def test_hostile_constraints_and_names_stay_text(page):
    show(page, "hostile")
    assert page.locator(".constraint").is_visible()
    assert page.locator(".schedule").is_visible()
    page.locator(".jump").first.hover()
    assert "<img src=x" in page.locator(".card").inner_text()
    page.locator(".schedule").focus()
    assert "<img" in page.locator(".card").inner_text()
    assert page.locator(".sglnb script, .sglnb img, .card b").count() == 0


def test_live_the_way_grows_and_keys_stay(page):
    wires, _ = published(load("constrained"), run_of(load("constrained")))
    page.set_content(HOST % (css(), esm()))
    first = next(i for i, wire in enumerate(wires) if wire["k"] == "request_arrived")
    feed(page, wires[: first + 1], -2)
    assert page.locator(".pane-constraint").is_hidden()
    assert page.locator(".pane-schedule").is_hidden()
    half = len(wires) * 4 // 10
    feed(page, wires[first + 1 : half], wires[first]["s"])
    early = page.locator(".line.way").count()
    assert early > 0
    feed(page, wires[half : len(wires) * 6 // 10], wires[half - 1]["s"])
    assert page.locator(".line.way").count() > early
    for target in (".state", ".cell", ".schedule"):
        page.locator(target).first.focus()
        for key in ("b", "ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
    assert page.evaluate("window.leaked") == []


def test_quiet_runs_show_neither_pane_and_both_explain_themselves(page):
    show(page, "chat")
    assert page.locator(".pane-constraint").is_hidden()
    assert page.locator(".pane-schedule").is_hidden()
    show(page, "constrained")
    for pane in ("constraint", "schedule"):
        ask = page.locator(f".pane-{pane} .ask")
        assert page.locator(f".pane-{pane} .help").is_hidden()
        ask.click()
        text = page.locator(f".pane-{pane} .help").inner_text()
        assert text.count(". ") == 2
        assert ask.get_attribute("aria-expanded") == "true"
        page.get_by_role("button", name=pane, exact=True).click()
        assert page.locator(f".{pane}").is_hidden()


def test_less_motion_is_respected(browser):
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    wires, _ = published(load("constrained"), run_of(load("constrained")))
    page.set_content(HOST % (css(), esm()))
    feed(page, wires, -2)
    assert page.evaluate("document.getAnimations().length") == 0
    assert json.loads(page.evaluate("JSON.stringify(window.sent)")) == []
    context.close()
