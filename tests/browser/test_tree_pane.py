"""The tree pane with a real kernel: details, commands, and why a text missed."""

from __future__ import annotations

import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LOAD = "%load_ext sglnb\nimport sglnb as sgl\nengine = sgl.default_engine()"
ASK = """%%sgl -o r --temperature 0
s += user("Where is {}?")
s += assistant(gen("a", max_tokens=6))"""
SLOW = """%%sgl --temperature 0.8 --seed 1
s += user("Tell me a long story.")
s += assistant(gen("story", max_tokens=600, ignore_eos=True))"""
TYPED = "<|im_start|>user\nWhere is London?<|im_end|>\n"


def tree(notebook, index):
    pane = notebook.output(index).locator(".sglnb .tree").first
    pane.locator(".node").first.wait_for()
    return pane


def test_details_commands_and_a_miss_in_the_view_of_the_cache(lab, open_notebook, page):
    cells = [LOAD, ASK.format("Rome"), ASK.format("Paris"), "%sgl cache", "engine.check()"]
    name = lab.notebook("tree.ipynb", cells)
    notebook = open_notebook(name)
    for index in range(4):
        notebook.run(index)
    notebook.output(3).scroll_into_view_if_needed()
    pane = tree(notebook, 3)
    before = page.locator(".jp-Notebook .jp-Cell").count()
    node = pane.locator(".node", has_text="Rome").first
    node.focus()
    page.keyboard.press("Enter")
    details = pane.locator(".node-details")
    details.get_by_role("button", name="Pin", exact=True).click()
    details.get_by_text("pinned: its").wait_for()
    pane.locator(".node.pinned").wait_for()
    page.screenshot(path=lab.shots / "tree-pinned.png")
    details.get_by_role("button", name="Evict").click()
    details.get_by_text("what is in use or pinned stays").wait_for()
    details.get_by_role("button", name="Evict").click()
    details.get_by_text("nothing was evicted").wait_for()
    details.get_by_role("button", name="Unpin").click()
    details.get_by_text("unpinned").wait_for()
    details.get_by_role("button", name="Evict").click()
    pane.locator(".node.ghost").nth(1).wait_for()
    page.keyboard.press("Escape")

    pane.locator("summary").click()
    box = pane.locator(".miss textarea").first
    box.fill(TYPED)
    box.press("b")  # a key that would insert a cell
    box.press("Backspace")
    box.press("Control+Enter")
    answer = pane.locator(".answer")
    answer.locator(".sides").wait_for()
    assert "tokens are cached" in answer.inner_text()
    assert "London" in answer.locator(".asked").inner_text()
    assert pane.locator(".typed:not([visibility=hidden])").count() >= 1
    assert pane.locator(".typed-end:not([visibility=hidden])").count() == 1
    page.screenshot(path=lab.shots / "tree-miss.png")
    pane.locator(".miss textarea").nth(1).fill(TYPED.replace("Where", "What"))
    pane.get_by_role("button", name="What would this edit throw away?").click()
    answer.locator(".edit-bar").wait_for()
    page.screenshot(path=lab.shots / "tree-edit.png")
    assert page.locator(".jp-Notebook .jp-Cell").count() == before, "no key reaches the notebook"
    assert "Error" not in notebook.run(4)

    notebook.save()
    page.wait_for_timeout(500)
    lab.end_kernels()
    saved = nbformat.read(lab.folder / name, as_version=4)
    kinds = [set(out.get("data", {})) for out in saved.cells[3].outputs]
    assert any("text/html" in kind for kind in kinds), "a picture is saved beside the widget"


def test_a_question_is_answered_while_a_cell_runs(lab, open_notebook, page):
    notebook = open_notebook(lab.notebook("busy.ipynb", [LOAD, SLOW]))
    notebook.run(0)
    notebook.start(1)
    pane = tree(notebook, 1)
    pane.locator("summary").click()
    pane.locator(".miss textarea").first.fill("<|im_start|>user\nTell me a joke")
    pane.get_by_role("button", name="Why did this miss?").click()
    pane.locator(".answer .sides").wait_for()
    assert notebook.busy(1), "the answer came while the cell was running"
    page.screenshot(path=lab.shots / "tree-busy.png")
    notebook.output(1).get_by_role("button", name="stop").first.click()
    notebook.wait(1)
    pane.locator(".node").first.click()
    pane.get_by_role("button", name="Pin", exact=True).click()
    pane.get_by_text("pinned: its").wait_for()
    pane.locator(".node.pinned").wait_for()


def test_a_frozen_view_is_a_page_that_needs_no_kernel(lab, open_notebook, page):
    cells = [LOAD, ASK.format("Rome"), "r.freeze()"]
    name = lab.notebook("frozen.ipynb", cells)
    notebook = open_notebook(name)
    for index in range(3):
        notebook.run(index)
    notebook.output(1).locator("iframe").wait_for()
    notebook.save()
    page.wait_for_timeout(500)
    lab.end_kernels()
    saved = nbformat.read(lab.folder / name, as_version=4)
    mimes = [set(out.get("data", {})) for out in saved.cells[1].outputs]
    assert not any("application/vnd.jupyter.widget-view+json" in each for each in mimes)
    notebook = open_notebook(name, kernel=False)  # our own notebook is trusted
    frame = notebook.output(1).frame_locator("iframe")
    frame.locator(".node").first.wait_for()
    frame.locator(".node").first.click()
    details = frame.locator(".node-details")
    assert "reused" in details.inner_text()
    assert details.get_by_role("button", name="Copy as prompt").is_visible()
    for control in ("Pin", "Evict"):
        assert details.get_by_role("button", name=control, exact=True).count() == 0
    assert frame.locator(".miss").is_hidden()
    page.screenshot(path=lab.shots / "frozen.png")
