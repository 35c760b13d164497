"""The main job in Notebook 7: a view grows in a busy cell, is looked around in, stopped, saved."""

from __future__ import annotations

import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LOAD = "%load_ext sglnb"
LONG = """%%sgl -o long --temperature 0.8 --seed 1
s += user("Tell me a story.")
s += assistant(gen("story", max_tokens=900, ignore_eos=True))"""
TOKENS = ".sglnb .pane-tokens [role=option]"


def test_a_run_from_the_first_token_to_the_saved_picture(lab, open_notebook, page):
    name = lab.notebook("seven.ipynb", [LOAD, LONG, "print(long.status, len(long.text) > 100)"])
    notebook = open_notebook(name, app="notebook")
    assert page.locator("#jp-top-panel, #top-panel-wrapper").count() > 0, "this is Notebook 7"
    notebook.run(0)
    notebook.start(1)
    out = notebook.output(1)
    tokens = out.locator(TOKENS)
    tokens.first.wait_for()
    seen = []
    for _ in range(4):
        page.wait_for_timeout(400)
        assert notebook.busy(1)
        seen.append(tokens.count())
    assert seen[-1] > seen[0] + 5, f"the view grows while the cell runs: {seen}"
    page.screenshot(path=lab.shots / "notebook7-running.png")
    out.get_by_role("button", name="stop this run").click()
    notebook.wait(1)
    assert out.locator(".sglnb .status").inner_text() == "stopped"
    assert tokens.count() >= seen[-1]

    cells = page.locator(".jp-Notebook .jp-Cell").count()
    out.locator(".sampled[role=option]").first.focus()
    first = out.locator(".card:not([hidden])").inner_text()
    page.keyboard.press("ArrowRight")
    assert out.locator(".card:not([hidden])").inner_text() != first
    out.locator(".node").first.focus()
    page.keyboard.press("Enter")
    out.locator(".node-details", has_text="created").wait_for()
    for key in ("b", "d", "d", "x"):
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    assert out.locator(".node-details").is_hidden()
    slider = out.get_by_role("slider", name="replay position")
    slider.focus()
    page.keyboard.press("Home")
    page.wait_for_function(f"() => document.querySelectorAll('{TOKENS}').length === 0")
    page.keyboard.press("End")
    tokens.nth(seen[-1] - 1).wait_for()
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells, "no key reaches the notebook"
    assert notebook.run(2).split() == ["stopped", "True"]
    page.screenshot(path=lab.shots / "notebook7.png")

    notebook.save()
    page.wait_for_timeout(500)
    lab.end_kernels()
    saved = nbformat.read(lab.folder / name, as_version=4)
    saved.metadata.kernelspec = {"name": "absent", "display_name": "absent"}
    nbformat.write(saved, lab.folder / "seven-copy.ipynb")
    notebook = open_notebook("seven-copy.ipynb", kernel=False, app="notebook")
    page.wait_for_timeout(1500)
    for button in page.locator(".jp-Dialog").get_by_role("button", name="No Kernel").all():
        button.click()
    details = notebook.output(1).locator("details").first
    if not details.evaluate("d => d.open"):
        details.locator("summary").first.click()
    text = notebook.output(1).inner_text()
    assert "Tell me a story." in text
    assert "Error displaying widget" not in text
    page.screenshot(path=lab.shots / "notebook7-saved.png")
