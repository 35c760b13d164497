"""The dashboard with a real kernel: it shows, acts, and tells in words what cannot be."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LOAD = "%load_ext sglnb\nimport sglnb as sgl\nengine = sgl.Engine(kv_tokens=3000)"
SHOW = "board = sgl.dashboard(engine)\nboard"
RUN = """requests = [engine.submit(f"Story {i}:", {"max_new_tokens": 900, "ignore_eos": True}) for i in range(3)]
for request in requests:
    try:
        request.result()
    except sgl.RequestAborted:
        print("stopped")"""  # noqa: E501


def test_it_shows_and_acts_while_a_cell_runs(lab, open_notebook, page):
    cells = [LOAD, SHOW, RUN, "print(engine.configure(), engine.metrics()['kv_tokens'])"]
    notebook = open_notebook(lab.notebook("dashboard.ipynb", cells))
    notebook.run(0)
    notebook.run(1)
    board = notebook.output(1)
    board.locator(".meter dd").first.wait_for()
    assert "3,000 slots" in board.inner_text()
    board.locator("select").nth(2).select_option("lfu")
    board.get_by_role("status").get_by_text("eviction is 'lfu' from the next").wait_for()
    notebook.start(2)
    board.get_by_text("3 requests").or_(
        board.locator(".meter", has_text="running")
    ).first.wait_for()
    speed = "document.querySelectorAll('.sglnb .meter dd')[3]?.innerText ?? ''"
    page.wait_for_function(f"() => /[1-9]/.test({speed})")
    board.get_by_role("button", name="Resize").click()
    board.get_by_text("requests are in progress").wait_for()
    page.screenshot(path=lab.shots / "dashboard.png")
    board.get_by_role("button", name="Stop").click()
    notebook.wait(2)
    assert notebook.output(2).inner_text().count("stopped") == 3
    board.locator("input[type=number]").nth(1).fill("1000")
    board.locator("input[type=number]").nth(1).press("Enter")
    board.get_by_role("button", name="Resize").click()
    board.get_by_text("the pool holds 1,000 tokens now").wait_for()
    told = notebook.run(3)
    assert "'eviction': 'lfu'" in told
    assert told.strip().endswith("1000")
