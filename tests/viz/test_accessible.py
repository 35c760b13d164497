"""No view has a serious or critical finding of axe-core, colour contrast included, on light and
dark ground, folded and with all it can open; and no word in a picture is pale, which axe does not
judge."""

from __future__ import annotations

import pytest
from axe_checks import findings
from svg_contrast import pale_texts
from viz_logs import NAMES, load, run_of
from viz_page import HOST, feed, published, settle, show

import sglnb as sgl
from sglnb import viz
from sglnb.runtime.trace import TraceRequest
from sglnb.viz.assets import css, esm
from sglnb.viz.constraint_export import constraint_fsm, own_fsm_svg
from sglnb.viz.tree_export import own_svg

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
    assert pale_texts(page) == []


@pytest.mark.parametrize(("name", "part"), [
    ("constrained", ".tok.sampled"), ("constrained", ".node"), ("constrained", ".bar"),
    ("constrained", ".mark"), ("constrained", ".cell"), ("constrained", ".schedule"),
    ("program", ".pnode"),
])  # fmt: skip
def test_what_is_pointed_at_lights_others_that_stay_readable(page, scheme, name, part):
    show(page, name)
    which = page.get_by_label("request under a constraint")
    if which.is_visible():
        which.select_option(index=0)
    at = page.locator(part).nth(0)
    at.focus()
    card = page.locator(".card:not([hidden])")
    card.wait_for()
    assert findings(page) == []
    assert pale_texts(page) == []
    page.keyboard.press("Escape")
    card.wait_for(state="hidden")
    if part != ".schedule":  # whose middle may hold no step
        at.hover()
        card.wait_for()


@pytest.mark.parametrize("name", ["eviction", "forks", "queue"])
def test_words_of_the_tree_stand_out_whatever_is_dimmed(page, scheme, name):
    show(page, name)
    assert page.locator(".node text").count() > 3
    assert pale_texts(page) == []
    page.locator(".tok").last.focus()
    assert pale_texts(page) == []
    path = page.get_by_label("highlight a request's path")
    if path.is_visible():
        path.select_option(index=1)
        settle(page)
        assert pale_texts(page) == []
    page.get_by_label("find text in the tree").fill("e")
    settle(page)
    assert pale_texts(page) == []


def test_a_pale_word_is_found(page):
    page.set_content("""<body style="background: white"><svg><g opacity="0.5">
      <text y="20">half</text></g><text y="40" fill="#888">grey</text>
      <text y="80" fill="#888" font-size="24">large</text><rect y="84" width="90" height="20"/>
      <text y="100">lost</text><text y="100" fill="white">found</text></svg></body>""")
    assert [line.split('"')[1] for line in pale_texts(page)] == ["half", "grey", "lost"]


def test_words_of_exported_pictures_stand_out_on_paper(page):
    events, tree = load("constrained"), viz.fold(load("queue"))["tree"]
    with sgl.Engine(kv_tokens=500) as engine:
        regex = sgl.compile_constraint(regex="(yes|no), [a-z]{2,3}", tokenizer=engine.tokenizer)
        grammar = sgl.compile_constraint(grammar='start: "a"', tokenizer=engine.tokenizer)
    pictures = [viz.run_svg(events, run_of(events)), own_svg(tree),
                *(own_fsm_svg(constraint_fsm(each)) for each in (regex, grammar))]  # fmt: skip
    page.set_content(f"<body style='background: white'>{''.join(pictures)}</body>")
    assert page.locator("svg").count() == len(pictures)
    assert pale_texts(page) == []


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
    assert pale_texts(page, "#view") == []


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
