"""Views in JupyterLab for everyone: axe-core on light and dark ground, every pane by keyboard
alone, a page reloaded in the middle of a run, and the oldest kernel that we support."""

from __future__ import annotations

import re

import nbformat
import pytest
from axe_checks import findings
from older_kernels import VERSIONS, environment

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LOAD = "%load_ext sglnb\nimport sglnb as sgl\nengine = sgl.default_engine()"
ALL = """%%sgl -o r --temperature 0.9 --seed 3 --view all
s += user("What is 7 + 15?")
branches = s.fork(3)
for branch in branches:
    branch += assistant(gen("sum", regex="(It is|The sum is) [0-9]{2}"))
branches.join()
s += user("Sure?") + assistant(gen("sure", choices=["yes", "no"]))"""
LONG = """%%sgl -o long --temperature 0.8 --seed 1
s += user("Tell me a long story.")
s += assistant(gen("story", max_tokens=250, ignore_eos=True))"""
TOKENS = ".sglnb .pane-tokens [role=option]"
THEME = """name => window.jupyterapp.commands.execute(
    'apputils:change-theme', { theme: name })"""


def use_theme(page, name):
    page.evaluate(THEME, f"JupyterLab {name}")
    light = str(name == "Light").lower()
    page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")


def test_nothing_serious_in_either_theme(lab, open_notebook, page):
    cells = [LOAD, ALL, "%sgl cache", "board = sgl.dashboard(engine)\nboard"]
    notebook = open_notebook(lab.notebook("axe.ipynb", cells))
    for index in range(len(cells)):
        notebook.run(index)
    for index in (1, 2, 3):  # for axe to name; the views are many
        notebook.output(index).evaluate("(out, n) => { out.id = `out-${n}`; }", index)
    try:
        for theme in ("Light", "Dark"):
            use_theme(page, theme)
            for index in (1, 2, 3):
                notebook.output(index).scroll_into_view_if_needed()
                page.wait_for_timeout(300)
                page.screenshot(path=lab.shots / f"people-{theme}-{index}.png")
                assert findings(page, f"#out-{index} .sglnb") == []
            assert findings(page, "#out-3") == [], "the dashboard's controls"
            picture = notebook.output(1).locator("details").last
            picture.evaluate("""(picture) => {
                picture.id = "picture";
                picture.open = true;
                for (const each of picture.querySelectorAll("details")) each.open = true;
            }""")
            assert findings(page, "#picture") == []
    finally:
        use_theme(page, "Light")


def test_every_pane_by_keyboard_alone(lab, open_notebook, page):
    notebook = open_notebook(lab.notebook("keyboard.ipynb", [LOAD, ALL, "sgl.dashboard(engine)"]))
    for index in range(3):
        notebook.run(index)
    out = notebook.output(1)
    out.locator(".lane").nth(3).wait_for()
    before = page.locator(".jp-Notebook .jp-Cell").count()
    for part in (".tok", ".node", ".mark", ".cell", ".bar"):  # arrows walk, letters stay
        at = out.locator(part).first
        at.focus()
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert label, f"{part} has a name"
        page.keyboard.press("End")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") != label
        out.locator(".card:not([hidden])").wait_for(timeout=9000)
        for key in ("b", "a", "x", "d", "d", "j", "k", "m"):
            page.keyboard.press(key)
        page.keyboard.press("Escape")
        assert out.locator(".card").is_hidden()
        assert page.evaluate("document.activeElement.closest('.sglnb') !== null"), part
    for part in (".schedule", ".ask", ".word", ".replay input", ".pane-title", ".of select"):
        out.locator(f"{part}:visible").first.focus()
        for key in ("b", "a", "x", "d", "d"):
            page.keyboard.press(key)
    for part in ("button", "select", "input[type=number]", "input[type=checkbox]", ".ask"):
        notebook.output(2).locator(f"{part}:visible").first.focus()
        for key in ("b", "a", "x"):
            page.keyboard.press(key)
    page.wait_for_timeout(200)
    assert page.locator(".jp-Notebook .jp-Cell").count() == before, "no key reaches the notebook"
    for pane in ("tokens", "tree", "constraint", "branches", "schedule"):
        ask = out.get_by_role("button", name=f"what am I looking at: {pane}")
        if ask.get_attribute("aria-expanded") == "false":
            ask.focus()
            page.keyboard.press("Enter")
        assert out.locator(f".pane-{pane} .help").inner_text().count(". ") >= 2
        page.keyboard.press("Escape")
        assert out.locator(f".pane-{pane} .help").is_hidden()


def reload_while_running(lab, open_notebook, page, cell):
    name = lab.notebook("reload.ipynb", [LOAD, cell, "print(long.status)"])
    notebook = open_notebook(name)
    notebook.run(0)
    notebook.start(1)
    page.locator(TOKENS).nth(30).wait_for()
    notebook.save()
    page.wait_for_timeout(1500)  # the view's own copy is a second old at most
    seen = page.locator(TOKENS).count()
    page.reload()
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    return notebook, seen


def test_reloaded_in_a_busy_cell_the_view_comes_back_with_the_run(lab, open_notebook, page):
    """The page hears nothing of a cell that it did not start, and of its widgets only when the
    kernel is idle: then all is there."""
    notebook, seen = reload_while_running(lab, open_notebook, page, LONG)
    page.locator(TOKENS).nth(seen - 1).wait_for()
    page.locator(".sglnb .status", has_text="done").wait_for()
    assert page.locator(f"{TOKENS}.sampled").count() == 250
    page.screenshot(path=lab.shots / "reloaded.png")
    assert notebook.run(2).strip() == "done"


def test_reloaded_while_a_run_goes_on_behind_the_view_goes_on(lab, open_notebook, page):
    background = LONG.replace("%%sgl", "%%sgl --bg").replace("250", "1200")
    notebook, seen = reload_while_running(lab, open_notebook, page, background)
    page.locator(TOKENS).nth(seen).wait_for()
    early = page.locator(TOKENS).count()
    page.locator(".sglnb .status", has_text="running").wait_for()
    page.locator(TOKENS).nth(early + 20).wait_for()
    page.get_by_role("button", name="stop this run").click()
    page.locator(".sglnb .status", has_text="stopped").wait_for()
    assert notebook.run(2).strip() == "stopped"


def test_a_view_grows_and_stops_on_the_oldest_kernel(lab, open_notebook, page):
    oldest = VERSIONS[0]
    lab.add_kernel("oldest", environment(oldest))
    cells = [f"{LOAD}\nimport ipykernel; print(ipykernel.__version__)", LONG, "print(long.status)"]
    notebook = open_notebook(lab.notebook("oldest.ipynb", cells, kernel="oldest"))
    assert notebook.run(0).startswith(oldest)
    notebook.start(1)
    page.locator(TOKENS).nth(40).wait_for()
    assert notebook.busy(1)
    notebook.output(1).get_by_role("button", name=re.compile("stop", re.I)).first.click()
    notebook.wait(1)
    assert notebook.output(1).locator(".sglnb .status").inner_text() == "stopped"
    assert notebook.run(2).strip() == "stopped"
    notebook.output(1).locator(".node").first.click()  # questions, now that it is idle
    notebook.output(1).get_by_role("button", name="Pin", exact=True).click()
    notebook.output(1).get_by_text("pinned: its").wait_for()


EVIL = "<img src=x onerror=alert(1)>\x1b[31m\u202e"
SHOWN = {  # what each cell shows, and a word of its picture
    ALL.replace("What is", EVIL + " What is"): "What is",
    "%sgl cache": "cache tree",
    "sgl.compile_constraint(regex='(yes|no) [a-z]+', tokenizer=engine.tokenizer)": "regex",
    "engine.cache.snapshot()": "cache tree",
    "r.state": "What is",
    "sgl.simulate(engine.events, kv_tokens=500)": "steps",
}


def test_saved_and_untrusted_every_picture_shows_without_a_kernel(lab, open_notebook, page):
    name = lab.notebook("pictures.ipynb", [LOAD, *SHOWN])
    notebook = open_notebook(name)
    for index in range(1 + len(SHOWN)):
        notebook.run(index)
    assert page.locator(".jp-Notebook img[src=x], .jp-OutputArea script").count() == 0
    notebook.save()
    page.wait_for_timeout(500)
    lab.end_kernels()
    saved = nbformat.read(lab.folder / name, as_version=4)
    for cell in saved.cells:  # someone else's notebook is not trusted
        cell.metadata.pop("trusted", None)
        for out in cell.outputs:
            html = out.get("data", {}).get("text/html", "")
            assert not re.search("<(style|script|svg|iframe)", html)
    saved.metadata.pop("widgets", None)
    saved.metadata.kernelspec = {"name": "absent", "display_name": "absent"}
    saved.cells = saved.cells[1:]
    nbformat.write(saved, lab.folder / "pictures-copy.ipynb")
    notebook = open_notebook("pictures-copy.ipynb", kernel=False)
    page.wait_for_timeout(1500)
    for button in page.locator(".jp-Dialog").get_by_role("button", name="No Kernel").all():
        button.click()
    for index, word in enumerate(SHOWN.values()):
        out = notebook.output(index)
        out.scroll_into_view_if_needed()
        out.locator(".jp-RenderedHTML").first.wait_for()
        out.evaluate("""(out) => {
            for (const each of out.querySelectorAll("details")) each.open = true;
        }""")
        text = out.inner_text()
        assert word in text, (index, text)
        assert "Error displaying widget" not in text
        assert out.locator("[style*=background-color], [style*=color]").count() > 0, "it is styled"
    assert page.locator(".jp-Notebook img[src=x], .jp-OutputArea script").count() == 0
    notebook.output(0).scroll_into_view_if_needed()
    page.screenshot(path=lab.shots / "pictures.png")
