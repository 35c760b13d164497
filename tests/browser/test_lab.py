"""The main job as a person sees it. Screenshots go to $SGLNB_SHOTS when it is set."""

from __future__ import annotations

import re
import time

import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LOAD = "%load_ext sglnb"
LONG = """%%sgl -o long --temperature 0.8 --seed 1
s += user("Tell me a story.")
s += assistant(gen("story", max_tokens=500, ignore_eos=True))"""
FORKS = """%%sgl -o forks --temperature 0.9 --seed 3
s += user("What is 7 + 15?")
branches = s.fork(3)
for branch in branches:
    branch += assistant(gen("sum", max_tokens=8))
branches.join()"""
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"
TOKENS = ".sglnb .pane-tokens [role=option]"


def count(notebook, index, selector):
    return notebook.output(index).locator(selector).count()


def test_tokens_grow_while_the_cell_is_busy_and_stop_keeps_them(lab, open_notebook, page):
    name = lab.notebook("live.ipynb", [LOAD, LONG, "print(len(long.text), long.status)", FORKS])
    notebook = open_notebook(name)
    notebook.run(0)
    notebook.start(1)
    page.wait_for_selector(TOKENS)
    seen = []
    for _ in range(6):
        time.sleep(0.4)
        assert notebook.busy(1)
        seen.append(count(notebook, 1, TOKENS))
    assert seen == sorted(seen)
    assert seen[-1] > seen[0] + 5, f"the view grows while the cell runs: {seen}"
    page.screenshot(path=lab.shots / "running.png")

    notebook.output(1).get_by_role("button", name=re.compile("stop", re.I)).click()
    notebook.wait(1)
    kept = count(notebook, 1, TOKENS)
    assert kept >= seen[-1], "nothing that was shown is taken back"
    told = notebook.output(1).inner_text()
    assert "Interrupt" in told
    view = notebook.output(1).locator(".sglnb")
    assert view.locator(".status").inner_text() == "stopped"
    assert view.locator(".error:visible").count() == 0, "a stop is no failure"
    page.screenshot(path=lab.shots / "stopped.png")

    length, status = notebook.run(2).split()
    assert int(length) > 100
    assert status == "stopped"
    notebook.run(3)
    notebook.output(3).scroll_into_view_if_needed()  # a view out of sight is not drawn
    notebook.output(3).locator(".pane-branches .lane").nth(3).wait_for()
    assert count(notebook, 3, ".pane-branches .lane") == 4
    notebook.output(3).locator(".pane-tree [role=treeitem]").nth(3).wait_for()
    page.screenshot(path=lab.shots / "forks.png")


def test_tokens_tell_their_probability_by_hover_and_keyboard(lab, open_notebook, page):
    cell = LONG.replace("500", "12")
    notebook = open_notebook(lab.notebook("keys.ipynb", [LOAD, cell]))
    notebook.run(0)
    notebook.run(1)
    sampled = notebook.output(1).locator(".pane-tokens .sampled[role=option]")
    sampled.first.hover()
    card = notebook.output(1).locator(".card:not([hidden])")
    assert "%" in card.inner_text()
    assert card.locator(".alt").count() == 5
    assert_whole(page, card)
    page.screenshot(path=lab.shots / "card.png")
    notebook.output(1).locator(".pane-tree .node").last.hover()
    assert "position" in card.inner_text()
    assert_whole(page, card)
    page.screenshot(path=lab.shots / "card-tree.png")
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    sampled.first.click()
    first = card.inner_text()
    page.keyboard.press("ArrowRight")
    assert card.inner_text() != first, "the arrow key moves to the next token"
    for key in "bdx":
        page.keyboard.press(key)
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells, "no key reaches the notebook"


def assert_whole(page, card):
    """The card is inside the window and nothing, as an output's edge, cuts it off."""
    box, window = card.bounding_box(), page.viewport_size
    assert box["x"] >= 0
    assert box["y"] >= 0
    assert box["x"] + box["width"] <= window["width"]
    assert box["y"] + box["height"] <= window["height"]
    on_top = card.evaluate("""card => {
        card.style.pointerEvents = "auto"; // else the point would be what lies under it
        const { left, top, right, bottom } = card.getBoundingClientRect();
        const points = [[left, top], [right, top], [left, bottom], [right, bottom]];
        const cx = (left + right) / 2, cy = (top + bottom) / 2;
        const hits = points.map(([x, y]) => card.contains(document.elementFromPoint(
            x + Math.sign(cx - x) * 8, y + Math.sign(cy - y) * 4)));
        card.style.pointerEvents = "";
        return hits;
    }""")
    assert on_top == [True] * 4


def test_hostile_text_is_text_everywhere(lab, open_notebook, page):
    program = f"""%%sgl -o hostile --temperature 0
s += user({HOSTILE!r})
s += assistant({HOSTILE!r} + gen("x", choices=[{HOSTILE!r}, "no"]) + gen("y", max_tokens=4))"""
    cells = [LOAD, program, "hostile", "%sgl cache", "%sgl runs", "hostile.state"]
    name = lab.notebook("hostile.ipynb", cells)
    notebook = open_notebook(name)
    for index in range(len(cells)):
        notebook.run(index)
    assert page.locator(".jp-Notebook img[src=x], .jp-OutputArea script").count() == 0
    assert HOSTILE[:8] in notebook.output(1).inner_text()
    notebook.save()
    lab.end_kernels()
    notebook = open_notebook(name, kernel=False)
    page.wait_for_timeout(1500)
    assert page.locator(".jp-Notebook img[src=x], .jp-OutputArea script").count() == 0


def test_the_saved_notebook_shows_its_pictures_without_a_kernel(lab, open_notebook, page):
    name = lab.notebook("saved.ipynb", [LOAD, FORKS])
    notebook = open_notebook(name)
    notebook.run(0)
    notebook.run(1)
    notebook.save()
    page.wait_for_timeout(500)
    lab.end_kernels()
    saved = nbformat.read(lab.folder / name, as_version=4)
    for cell in saved.cells:  # someone else's notebook is not trusted
        cell.metadata.pop("trusted", None)
    saved.metadata.pop("widgets", None)
    saved.metadata.kernelspec = {"name": "absent", "display_name": "absent"}
    nbformat.write(saved, lab.folder / "copy.ipynb")
    notebook = open_notebook("copy.ipynb", kernel=False)
    page.wait_for_timeout(1500)
    for button in page.get_by_role("button", name="No Kernel").all():
        button.click()
    details = notebook.output(1).locator("details").first
    assert details.is_visible()
    if not details.evaluate("d => d.open"):
        details.locator("summary").first.click()
    text = notebook.output(1).inner_text()
    assert "7 + 15" in text
    assert "tokens" in text
    assert "Error displaying widget" not in text
    assert "live view (needs its kernel" in text
    assert " object at 0x" not in text
    page.screenshot(path=lab.shots / "saved.png")


@pytest.mark.parametrize(
    ("cell", "message", "line"),
    [
        ('%%sgl\ns += "x"\ns += gen("a", regex="[a-")', "regex", 3),
        ("%%sgl --temprature 1\ns += 'x'", "--temperature", None),
        ('%%sgl\ns += "x"\n\ns += nowhere', "nowhere", 4),
        ('%%sgl\ns += "word " * 3000\ns += gen("a")', "2,048", 3),
    ],
)
def test_mistakes_give_one_clear_message(lab, open_notebook, page, cell, message, line):
    name = lab.notebook(
        "mistake.ipynb", [LOAD, cell, '%%sgl\ns += "2 + 2 ="\ns += gen("a", max_tokens=3)']
    )
    notebook = open_notebook(name)
    notebook.run(0)
    told = notebook.run(1)
    assert message in told
    if line is not None:
        assert f"line {line}" in told
        assert told.count("---->") <= 1, "one frame"
    assert "/runtime/" not in told, "no frame of the library"
    page.screenshot(path=lab.shots / f"mistake-{message.strip('-')}.png")
    assert "Error" not in notebook.run(2), "the next cell works"
