"""The tree pane in Chromium with a stand-in for the kernel: keys, search and commands."""

from __future__ import annotations

import json

import pytest
from viz_logs import load, run_of

from sglnb.viz import to_html
from sglnb.viz.assets import css, esm, meter_esm
from sglnb.viz.runlog import run_events
from sglnb.viz.wire import Encoder

pytestmark = pytest.mark.browser

HOST = """<!doctype html><meta charset="utf-8"><style>%s</style><div id="view"></div>
<script type="module">%s
const handlers = {};
const state = { saved: "", title: "", panes: "auto", run: "x", foreground: true, controls: true };
window.sent = [];
window.leaked = [];
document.addEventListener("keydown", (event) => window.leaked.push(event.key));
const model = {
  get: (name) => state[name],
  on: (name, f) => { handlers[name] = f; },
  off: (name) => { delete handlers[name]; },
  send: (message) => window.sent.push(message),
  widget_manager: {},
};
window.feed = (message) => handlers["msg:custom"](message);
window.dead = () => handlers.comm_live_update();
render({ model, el: document.getElementById("view") });
</script>"""

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.set_default_timeout(10_000)
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("console", lambda m: page.troubles.append(m.text) if m.type == "error" else None)
    page.on("dialog", lambda dialog: (page.troubles.append("dialog"), dialog.dismiss()))
    yield page
    assert page.troubles == []
    page.close()


def live(page, name):
    """A view of a fixture log whose kernel is there."""
    encode = Encoder()
    wires = [encode(event) for event in run_events(load(name), run_of(load(name)))]
    page.set_content(HOST % (css(), esm()))
    message = {"kind": "events", "after": -2, "json": json.dumps(wires)}
    page.evaluate("(m) => window.feed(m)", message)
    page.locator(".node").first.wait_for()


def last_question(page, what):
    sent = page.evaluate("window.sent")
    assert sent[-1]["what"] == what, sent
    return sent[-1]


def answer(page, question, value, ok=True):
    message = {"kind": "answer", "id": question["id"], "ok": ok, "json": json.dumps(value)}
    page.evaluate("(m) => window.feed(m)", message)


def test_without_a_kernel_there_are_no_controls(page):
    events = load("forks")
    page.set_content(to_html(events, run_of(events)))
    page.locator(".node").first.click()
    details = page.locator(".node-details")
    assert "created" in details.inner_text()
    assert details.locator("button:visible").all_inner_texts() == ["×", "Copy as prompt"]
    assert page.locator(".miss").is_hidden()


def test_controls_come_with_the_kernel_and_go_with_it(page):
    live(page, "forks")
    page.locator(".node").first.click()
    pin = page.get_by_role("button", name="Pin", exact=True)
    pin.wait_for()
    page.evaluate("window.dead()")
    pin.wait_for(state="hidden")
    assert page.evaluate("window.sent.at(-1)") == {"kind": "hello"}
    page.evaluate("window.feed({ kind: 'here' })")
    pin.wait_for()


def test_commands_by_keyboard_alone(page):
    live(page, "forks")
    page.locator(".node").first.focus()
    page.keyboard.press("Enter")
    question = last_question(page, "node")
    known = {"node": question["args"]["node"], "text": f"all of it {EVIL}", "prompt": "p",
             "requests": [], "pins": 0, "above": 0}  # fmt: skip
    answer(page, question, known)
    page.locator(".edge-text", has_text=EVIL).wait_for()
    page.get_by_role("button", name="Pin", exact=True).focus()
    page.keyboard.press("Enter")
    answer(page, last_question(page, "pin"), {"told": f"pinned {EVIL}"})
    page.locator(".details-acts", has_text=EVIL).wait_for()
    page.get_by_role("button", name="Evict").focus()
    page.keyboard.press("Enter")
    answer(page, last_question(page, "evict"), f"refused {EVIL}", ok=False)
    page.locator(".details-acts", has_text="refused").wait_for()
    page.keyboard.press("Escape")
    assert page.locator(".node-details").is_hidden()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "treeitem"
    assert page.locator("img").count() == 0
    page.keyboard.press("b")
    assert page.evaluate("window.leaked") == []


def test_a_miss_is_drawn_and_told(page):
    live(page, "forks")
    page.locator(".miss summary").click()
    page.get_by_role("button", name="Why did this miss?").click()
    assert "first" in page.locator(".answer").inner_text()
    page.locator(".miss textarea").first.fill("some text")
    page.keyboard.press("Control+Enter")
    question = last_question(page, "why_miss")
    page.locator(".answer", has_text="busy with a cell").wait_for()  # it is told when it takes long
    nodes = page.evaluate("[...document.querySelectorAll('.node')].map((n) => n.sglBox.item.node)")
    miss = {"tokens": 9, "cached": 3, "reason": "never stored", "token": EVIL, "instead": [" red"],
            "detail": f"Because {EVIL}.", "path": nodes[:1], "before": EVIL}  # fmt: skip
    answer(page, question, miss)
    page.locator(".sides").wait_for()
    assert page.locator("img").count() == 0
    assert EVIL in page.locator(".asked").inner_text()
    assert page.locator(".typed:not([visibility])").count() == 1
    assert page.locator(".typed-end").get_attribute("visibility") is None
    page.locator(".miss textarea").nth(1).fill("some other text")
    page.get_by_role("button", name="What would this edit throw away?").click()
    cost = {"cached": 9, "kept": 3, "lost": 6, "compute": 2, "path": nodes[:1]}
    answer(page, last_question(page, "cost_of_edit"), cost)
    page.locator(".edit-bar").wait_for()
    assert "throws away 6 of 9 cached tokens" in page.locator(".answer").inner_text()
    page.locator(".miss summary").click()
    page.wait_for_function("() => !document.querySelector('.typed:not([visibility])')")
    page.keyboard.press("b")
    assert page.evaluate("window.leaked") == []


def test_search_order_and_path(page):
    live(page, "forks")
    page.get_by_label("find text in the tree").fill("ROBOT")
    page.locator(".node.match").first.wait_for()
    assert "edge" in page.locator(".tree-tools [role=status]").inner_text()
    page.keyboard.press("Escape")
    page.locator(".node.match").first.wait_for(state="detached")
    before = page.locator(".node .label").all_inner_texts()
    page.get_by_label("order of siblings").select_option("text")
    labels = "[...document.querySelectorAll('.node .label')]"
    page.wait_for_function(f"(b) => {labels}.some((e, i) => e.textContent !== b[i])", arg=before)
    requests = page.get_by_label("highlight a request's path")
    requests.select_option(index=1)
    page.locator(".node.passed").first.wait_for()
    assert 0 < page.locator(".node.passed").count() < page.locator(".node").count()


def test_motion_is_reduced_and_dark_is_readable(page):
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    events = load("eviction")
    page.set_content(to_html(events, run_of(events)))
    page.locator(".node").nth(1).click()
    moving = "document.getAnimations().filter((a) => a.playState === 'running').length"
    assert page.evaluate(moving) == 0
    assert page.locator(".tree-marks .fresh").is_visible()


def test_branches_zoom_by_drag_and_keys(page):
    events = load("forks")
    page.set_content(to_html(events, run_of(events)))
    axis = page.locator(".axis")
    box = axis.bounding_box()
    ticks = axis.inner_text()
    y = page.locator(".lane").nth(1).bounding_box()["y"] + 12

    def drag(start, end):
        page.mouse.move(box["x"] + start * box["width"], y)
        page.mouse.down()
        page.mouse.move(box["x"] + end * box["width"], y, steps=4)
        page.mouse.up()

    drag(0.6, 0.2)
    page.locator(".plot.zoomed").wait_for()
    assert axis.inner_text() != ticks
    page.mouse.dblclick(box["x"] + 0.5 * box["width"], y)
    page.locator(".plot.zoomed").wait_for(state="detached")
    assert axis.inner_text() == ticks
    page.locator(".bar").nth(1).focus()
    assert "first token after" in page.locator(".card").inner_text()
    page.keyboard.press("+")
    page.locator(".plot.zoomed").wait_for()
    page.keyboard.press("0")
    page.locator(".plot.zoomed").wait_for(state="detached")
    drag(0.3, 0.4)
    page.get_by_role("button", name="Whole time").click()
    page.locator(".plot.zoomed").wait_for(state="detached")


@pytest.mark.parametrize("name", ["forks", "hostile"])
def test_branches_are_compared(page, name):
    events = load(name)
    page.set_content(to_html(events, run_of(events)))
    page.locator(".bar").first.wait_for()
    button = page.get_by_role("button", name="Compare", exact=True)
    if name == "forks":
        button.click()
        assert page.locator(".column").count() == 3
        assert "the same" in page.locator(".alike").inner_text()
        assert page.locator(".column").nth(1).locator("mark", has_text="robot").count() > 0
        before = page.locator(".column").nth(1).locator("mark").count()
        page.locator(".column-name").nth(1).focus()
        page.keyboard.press("Enter")
        pressed = page.locator(".column-name").nth(1).get_attribute("aria-pressed")
        assert pressed == "true"
        assert before > 0
    assert page.locator(".compare img, .compare script").count() == 0


def test_a_meter_tells_whether_it_is_seen(page):
    page.set_content(HOST % (css(), meter_esm()))
    page.wait_for_function("() => window.sent.some((m) => m.kind === 'sight' && m.seen)")
    numbers = {"model": EVIL, "state": "ready", "device": "cpu", "dtype": "float32", "running": 1,
               "waiting": 0, "rate": 12.5, "tokens_so_far": 99, "prompt_tokens": 10,
               "cached_tokens": 4, "cache_hit_rate": 0.4, "kv_tokens": 100, "kv_used": 50,
               "kv_cached": 40, "kv_locked": 10}  # fmt: skip
    page.evaluate("(n) => window.feed({ kind: 'numbers', numbers: n })", numbers)
    assert "50" in page.locator(".meter").inner_text()
    assert EVIL in page.locator(".name").inner_text()
    page.evaluate("document.getElementById('view').style.display = 'none'")
    page.wait_for_function("() => window.sent.at(-1).seen === false")
