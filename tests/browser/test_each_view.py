"""Each view in JupyterLab and in Notebook 7: it grows while the cell runs, is walked by keys, tells
its details, follows the slider, stays after Stop, in the dark theme, over a reload and without a
kernel. One notebook an application; the tests of a view look at it in turn."""

from __future__ import annotations

import re
from typing import NamedTuple

import nbformat
import pytest
from axe_checks import findings
from svg_contrast import pale_texts

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LOAD = "%load_ext sglnb\nimport sglnb as sgl\nboard = sgl.dashboard()\nboard"
STORIES = r"""%%sgl -o {name} --temperature 0.9 --seed 3 --view all {options}
s += user("Tell me two stories.")
tellers = s.fork(2)
for teller in tellers:
    for i in range({n}):
        teller += gen("part", regex="([a-z]+ )+", max_tokens=15, ignore_eos=True)
tellers.join()"""
CELLS = [
    LOAD,
    STORIES.format(name="run", options="", n=60),
    STORIES.format(name="other", options="", n=60),
    STORIES.format(name="behind", options="--bg", n=200),
    "behind.stop()",
]
BOARD, RUN, OTHER, BEHIND, END = range(5)


class Case(NamedTuple):
    """``size``: JavaScript that measures what of the run the view ``v`` shows. ``part`` takes the
    focus, ``key`` leads from one to the next, ``enter`` is pressed to see ``details`` (a selector)
    with ``words``. ``saved`` is said by its picture."""

    size: str
    part: str
    key: str
    words: str
    saved: str
    enter: str = ""
    details: str = ".card:not([hidden])"


NUMBER = "Number(v.querySelector('{}')?.innerText.match(/{}/)?.[1].replaceAll(',', '') ?? 0)"
INFO = ".pane-info"
SEEN_OPTIONS = """[...v.querySelectorAll('.of option')].filter(
    (each) => each.parentElement.checkVisibility({ visibilityProperty: true })).length"""
VIEWS = {
    "tokens": Case("v.querySelectorAll('.tok').length", ".tok.sampled", "ArrowRight", "%", "Tell"),
    "tree": Case(NUMBER.format(INFO, r"([\d,]+) token"), ".node", "End", "created", "cache tree",
                 "Enter", ".node-details"),
    "program": Case(NUMBER.format(INFO, r"([\d,]+) text"), ".pnode", "ArrowDown", "line",
                    "program"),
    "constraint": Case(SEEN_OPTIONS, ".cell", "End", "allowed",
                       "constraint"),
    "branches": Case("v.querySelectorAll('.bar').length", ".bar", "End", "token", "branches"),
    "schedule": Case(NUMBER.format(INFO, r"([\d,]+) step"), ".schedule", "Home", "step",
                     "schedule"),
    "dashboard": Case(NUMBER.format(".meter", r"([\d,]+) tokens in all"), ".ask", "Tab",
                      "hit rate is the share", "", "Enter", ".help:not([hidden])"),
}  # fmt: skip
IN_RUN = [view for view in VIEWS if view != "dashboard"]
PLACE = """() => { // what has the focus, and where in it
    const at = document.activeElement;
    window.seenPlaces ??= [];
    if (!window.seenPlaces.includes(at)) window.seenPlaces.push(at);
    return [window.seenPlaces.indexOf(at), at.getAttribute('aria-valuetext')];
}"""
THEME = "name => window.jupyterapp.commands.execute('apputils:change-theme', { theme: name })"


class Seen:
    """A notebook that is open in an application, and what was seen of its first run."""

    def __init__(self, notebook, page, app):
        self.notebook, self.page, self.app = notebook, page, app
        self.sizes: list[dict[str, float]] = []

    def view(self, name: str, cell: int = RUN):
        if name == "dashboard":
            return self.notebook.output(BOARD)
        return self.notebook.output(cell).locator(f".sglnb .pane-{name}")

    def size(self, name: str, cell: int = RUN) -> float:
        view = self.view(name, cell)
        return view.evaluate(f"v => {VIEWS[name].size} || 0") if view.count() else 0

    def all_sizes(self, cell: int = RUN) -> dict[str, float]:
        return {name: self.size(name, cell) for name in VIEWS}

    def status(self, cell: int) -> str:
        return self.notebook.output(cell).locator(".sglnb .status").inner_text()

    def until(self, holds, what: str) -> None:
        for _ in range(100):
            if holds():
                return
            self.page.wait_for_timeout(200)
        shown = self.page.locator(".sglnb .status").all_inner_texts()
        pytest.fail(f"not within 20 s: {what}; {shown} {self.all_sizes()} {self.all_sizes(BEHIND)}")


@pytest.fixture(scope="module", params=["lab", "notebook"])
def seen(request, browser, lab, notebook_class):
    app = request.param
    name = lab.notebook(f"each-{app}.ipynb", CELLS)
    page = browser.new_context(viewport={"width": 1200, "height": 6000}).new_page()
    page.set_default_timeout(30_000)
    page.on("dialog", lambda dialog: dialog.accept())
    seen = Seen(notebook_class(page, lab, name, app=app), page, app)
    assert page.evaluate("window.jupyterapp.name").lower().endswith(app), "that was asked for"
    seen.notebook.run(BOARD)
    seen.notebook.start(RUN)
    page.locator(".sglnb .lane").nth(2).wait_for()
    for _ in range(3):
        page.wait_for_timeout(600)
        seen.sizes.append(seen.all_sizes())
        assert seen.notebook.busy(RUN)
    page.screenshot(path=lab.shots / f"each-{app}-running.png")
    seen.notebook.output(RUN).get_by_role("button", name="stop this run").click()
    seen.notebook.wait(RUN)
    seen.sizes.append(seen.all_sizes())
    yield seen
    page.evaluate(THEME, "JupyterLab Light")
    page.context.close()
    lab.end_kernels()


@pytest.mark.parametrize("view", VIEWS)
def test_it_grows_while_the_cell_runs_and_stop_keeps_it(seen, view):
    first, *_, last, kept = (sizes[view] for sizes in seen.sizes)
    assert 0 < first < last <= kept
    assert seen.status(RUN) == "stopped"


@pytest.mark.parametrize("view", IN_RUN)
def test_the_slider_leads_it_back_and_forth(seen, view):
    slider = seen.notebook.output(RUN).get_by_role("slider", name="replay position")
    before = seen.size(view)
    slider.focus()
    seen.page.keyboard.press("Home")
    seen.until(lambda: seen.size(view) == 0, f"{view} is empty at the beginning")
    seen.page.keyboard.press("End")
    seen.until(lambda: seen.size(view) == before, f"{view} is whole at the end")


@pytest.mark.parametrize("view", VIEWS)
def test_keys_walk_it_and_show_details_and_none_leaks(seen, view):
    case, page, shown = VIEWS[view], seen.page, seen.view(view)
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    shown.locator(f"{case.part}:visible").first.focus()
    place = page.evaluate(PLACE)
    page.keyboard.press(case.key)
    assert page.evaluate(PLACE) != place, "the key leads on"
    shown.locator(f"{case.part}:visible").first.focus()
    if case.enter:
        page.keyboard.press(case.enter)
    details = seen.notebook.output(BOARD if view == "dashboard" else RUN).locator(case.details)
    details.get_by_text(case.words).first.wait_for()
    for key in ("b", "a", "x", "d", "d", "m"):
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    details.first.wait_for(state="hidden")
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells


def test_the_dashboard_stops_what_another_cell_runs(seen):
    seen.notebook.start(OTHER)
    seen.until(lambda: seen.size("tokens", OTHER) > 40, "the run has begun")
    seen.notebook.output(BOARD).get_by_role("button", name="Stop").click()
    seen.notebook.wait(OTHER)
    assert seen.status(OTHER) == "stopped"
    for cell in (RUN, OTHER):  # each view has a choice of its own
        assert seen.view("tokens", cell).locator(".modes input:checked").count() == 1


@pytest.mark.parametrize("view", VIEWS)
def test_it_is_readable_in_the_dark_theme(seen, lab, view):
    dark = seen.page.locator("body[data-jp-theme-light=false]")
    if not dark.count():
        seen.page.evaluate(THEME, "JupyterLab Dark")
        dark.wait_for(state="attached")
        seen.page.screenshot(path=lab.shots / f"each-{seen.app}-dark.png")
    seen.view(view).evaluate("(v) => { v.id = 'judged'; }")
    try:
        assert findings(seen.page, "#judged") == []
        assert pale_texts(seen.page, "#judged") == []
    finally:
        seen.page.evaluate("document.getElementById('judged').removeAttribute('id')")


def test_reloaded_during_a_run_each_goes_on(seen):
    seen.notebook.run(BEHIND)
    seen.until(lambda: seen.size("tokens", BEHIND) > 60, "the run has begun")
    seen.notebook.save()
    seen.page.wait_for_timeout(1200)
    seen.page.reload()
    seen.page.wait_for_selector(".jp-Notebook .jp-Cell")
    seen.until(lambda: all(seen.all_sizes(BEHIND).values()), "each view is back")
    early = seen.all_sizes(BEHIND)
    seen.until(
        lambda: all(size > early[view] for view, size in seen.all_sizes(BEHIND).items()),
        "each view goes on",
    )
    assert seen.status(BEHIND) == "running"
    seen.notebook.run(END)
    # A view out of sight is not drawn.
    seen.notebook.output(BEHIND).locator(".sglnb .status").scroll_into_view_if_needed()
    seen.until(lambda: seen.status(BEHIND) == "stopped", "the run is stopped")


def test_reopened_without_a_kernel_each_has_its_picture(seen, lab, notebook_class):
    seen.notebook.save()
    seen.page.wait_for_timeout(500)
    lab.end_kernels()
    name = f"each-{seen.app}.ipynb"
    saved = nbformat.read(lab.folder / name, as_version=4)
    saved.metadata.pop("widgets", None)
    saved.metadata.kernelspec = {"name": "absent", "display_name": "absent"}
    nbformat.write(saved, lab.folder / f"copy-{name}")
    page = seen.page
    notebook = notebook_class(page, lab, f"copy-{name}", kernel=False, app=seen.app)
    page.wait_for_timeout(1500)
    for button in page.locator(".jp-Dialog").get_by_role("button", name="No Kernel").all():
        button.click()
    out = notebook.output(RUN)
    out.locator("details").first.wait_for()
    out.evaluate("out => { for (const each of out.querySelectorAll('details')) each.open = true; }")
    text = out.inner_text()
    for view, case in VIEWS.items():
        assert case.saved in text, view
    assert re.search(r"stopped", text)
    assert "Error displaying widget" not in page.locator(".jp-Notebook").inner_text()
    page.screenshot(path=lab.shots / f"each-{seen.app}-saved.png")
