"""No view has a serious or critical finding of axe-core, colour contrast included, on light and
dark ground, folded and with all it can open."""

from __future__ import annotations

import pytest
from axe_checks import findings
from viz_logs import NAMES, load, run_of
from viz_page import HOST, feed, published, show

import sglnb as sgl
from sglnb import viz
from sglnb.runtime.trace import TraceRequest
from sglnb.viz.assets import css, esm

pytestmark = pytest.mark.browser

PLAIN = """<!doctype html><html lang="en"><title>a saved notebook</title>
<body style="background: {ground}; color: {ink}"><main>{body}</main></body></html>"""
GROUNDS = {
    "light": {"ground": "#fff", "ink": "rgba(0, 0, 0, 0.87)"},  # JupyterLab's own
    "dark": {"ground": "#111", "ink": "rgba(255, 255, 255, 0.87)"},
}


@pytest.fixture(params=GROUNDS)
def scheme(request, page):
    page.emulate_media(color_scheme=request.param, reduced_motion="reduce")
    return request.param


def unfold(page):
    """Open all that opens without a kernel."""
    for button in page.locator(".ask:visible, .fold:visible").all():
        button.click()
    compare = page.get_by_role("button", name="Compare", exact=True)
    if compare.is_visible():
        compare.click()
    page.locator(".node").first.click()
    page.locator(".node-details").wait_for()


@pytest.mark.parametrize("name", ["constrained", "hostile", "select", "eviction"])
def test_a_run_with_all_its_panes(page, scheme, name):
    show(page, name)
    unfold(page)
    assert findings(page) == []


@pytest.mark.parametrize("part", [".tok.sampled", ".node", ".bar", ".mark", ".cell", ".schedule"])
def test_what_is_pointed_at_lights_others_that_stay_readable(page, scheme, part):
    show(page, "constrained")
    page.get_by_label("request under a constraint").select_option(index=0)
    page.locator(part).nth(0).focus()
    page.locator(".card:not([hidden])").wait_for()
    assert findings(page) == []


def test_a_live_run_with_the_kernels_controls(page, scheme):
    wires, _ = published(load("forks"), "forks")
    page.set_content(HOST % (css(), esm()))
    ground = GROUNDS[scheme]["ground"]
    dark = f"document.body.style.background = '{ground}'; document.documentElement.lang = 'en';"
    page.evaluate(f"{dark} document.title = 'x'; document.body.dataset.jpThemeLight = '{scheme}'")
    if scheme == "dark":  # as JupyterLab has them
        page.evaluate("""() => {
            const style = document.body.style;
            style.setProperty("--jp-content-font-color1", "rgba(255, 255, 255, 1)");
            style.setProperty("--jp-content-font-color2", "rgba(255, 255, 255, 0.7)");
            style.setProperty("--jp-border-color2", "#616161");
            style.setProperty("--jp-layout-color0", "#111111");
            style.setProperty("--jp-layout-color1", "#212121");
            document.body.dataset.jpThemeLight = "false";
        }""")
    page.evaluate("window.set('controls', true)")
    feed(page, wires[: len(wires) // 2], -2)
    page.locator(".stop").wait_for()
    page.locator(".miss summary").click()
    page.get_by_role("button", name="Why did this miss?").click()
    unfold(page)
    assert findings(page, "#view") == []


def test_the_tree_on_a_page_of_its_own(page, scheme):
    with sgl.Engine(kv_tokens=500) as engine:
        for text in ("One, two,", "One, three,", "Two"):
            engine.generate(text, {"max_new_tokens": 3})
        page.set_content(engine.cache.snapshot().to_html())
    page.locator(".node").first.wait_for()
    unfold(page)
    assert findings(page) == []


def test_pictures_in_a_saved_notebook(page, scheme):
    with sgl.Engine(kv_tokens=500) as engine:
        engine.generate("One, two,", {"max_new_tokens": 3})
        shown = [
            engine.cache.snapshot(),
            sgl.compile_constraint(regex="(yes|no), [a-z]{2,3}", tokenizer=engine.tokenizer),
            sgl.simulate([TraceRequest([1] * 20 + [i], 9, run="r") for i in range(4)]),
        ]
    body = "".join(viz.static_html(load(name), run_of(load(name))) for name in NAMES)
    body += "".join(each._repr_mimebundle_()["text/html"] for each in shown)
    page.set_content(PLAIN.format(body=body, **GROUNDS[scheme]))
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert findings(page) == []
