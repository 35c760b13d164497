"""Make the pictures of the documentation: ``python docs/make_pictures.py [NAME ...]``.

Each is a screenshot of a real run on the embedded model, taken in Chromium: of a run's page, or of
a notebook in JupyterLab where a kernel has its part.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.testing.globalipapp import start_ipython
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, TimeoutError, sync_playwright

DOCS = Path(__file__).parent
WIDTH = 760
"""In CSS pixels; a picture has twice as many."""
MOST_BYTES = 150_000
INSTALL = "Install it with: sudo apt-get install -y chromium"

PEOPLE = r"""
PERSON = r'\{"name": "[A-Z][a-z]+( [A-Z][a-z]+)?", "age": [0-9]{1,3}, "city": "[A-Z][a-z]+"\}'
TEXTS = ["My name is Maria Lopez, I am 34 years old and I live in Lisbon.",
         "My name is Tom Baker, I am 51 years old and I live in Dublin.",
         "My name is Anna Novak, I am 28 years old and I live in Prague."]
s += system("You extract information from text. Answer with JSON only.")
s += user_begin() + "Extract name, age, city from the text as JSON.\n\nText:"
people = s.fork(3)
for person, text in zip(people, TEXTS):
    person += " " + text + user_end()
    person += assistant(gen("person", regex=PERSON, max_tokens=60))
people.join()
"""
PLAN = r"""
topics = ["sleep", "food", "money"]
s += system("You are a careful adviser. Answer in one short sentence.")
s += user("Is it good to plan ahead? Answer yes or no.")
s += assistant(select("plan", choices=["yes", "no"]))
tips = s.fork(3)
for tip, topic in zip(tips, topics):
    tip += user(f"Give one tip about {topic}.")
    tip += assistant(gen("tip", max_tokens=14))
tips.join()
if s["plan"] == "yes":
    s += user("Say why in a few words.")
    s += assistant(gen("why", max_tokens=10))
else:
    s += user("Say what to do instead.")
    s += assistant(gen("instead", max_tokens=10))
"""
PUPIL = r"""
PUPIL = r'\{"name": "[A-Z][a-z]{2,9}", "house": "(Gryffindor|Slytherin|Ravenclaw)"\}'
s += user("A pupil, as JSON.")
s += assistant(gen("pupil", regex=PUPIL, max_tokens=60))
"""
PERSON = r"""
s += user("A person as JSON.")
s += assistant(gen("person", max_tokens=60, json_schema={"type": "object", "properties": {
    "name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"]}))
"""
TALK = r"""
s += user("What is the capital of France?")
s += assistant(gen("capital", max_tokens=12, temperature=0.8))
s += user("Is it large? Answer yes or no.")
s += assistant(select("large", choices=["yes", "no"]))
"""


def run_twice(line: str, body: str):
    """A cell's second run, whose prefix is in the cache."""
    shell = start_ipython() or InteractiveShell.instance()
    for cell in ("%load_ext sglnb", *[f"%%sgl -o run --view none --seed 7 {line}\n{body}"] * 2):
        shell.run_cell(cell, store_history=True).raise_error()
    return shell.user_ns["run"]


# -- pages of runs -------------------------------------------------------------------------


def show(browser: Browser, html: str, width: int = WIDTH, height: int = 600) -> Page:
    page = browser.new_page(
        viewport={"width": width, "height": height}, device_scale_factor=2, color_scheme="light"
    )
    page.set_content(html)
    page.add_style_tag(content=".sglnb :is(.tokens, .program) { max-height: none }")
    page.wait_for_timeout(400)
    return page


def run_view(browser: Browser) -> Page:
    run = run_twice("", PEOPLE)
    run.view = "tokens,tree,branches"
    return show(browser, run.to_html())


def tokens(browser: Browser) -> Page:
    run = run_twice("", TALK)
    run.view = "tokens"
    page = show(browser, run.to_html())
    page.locator(".tok.sampled").nth(1).focus()
    return page


def constraint(browser: Browser) -> Page:
    run = run_twice("", PUPIL)
    run.view = "constraint"
    page = show(browser, run.to_html(), width=900)
    page.locator(".cell.cut").first.focus()
    return page


def grammar(browser: Browser) -> Page:
    run = run_twice("", PERSON)
    run.view = "constraint"
    return show(browser, run.to_html(), width=900)


def branches(browser: Browser) -> Page:
    run = run_twice("", PEOPLE)
    run.view = "branches"
    page = show(browser, run.to_html())
    page.get_by_role("button", name="Compare").click()
    page.wait_for_timeout(200)
    return page


def program(browser: Browser) -> Page:
    run = run_twice("", PLAN)
    run.view = "program"
    return show(browser, run.to_html())


def schedule(browser: Browser) -> Page:
    """Two schedules of one trace, beside each other."""
    import sglnb as sgl
    from sglnb.runtime.trace import TraceRequest

    trace = [
        TraceRequest([1 + i % 4] * 120 + [10 + i] * (10 + 5 * (i % 4)), 10 + 8 * (i % 3),
                     arrival=0.02 * i, state=f"s{i}", run="r", name=f"text[{i}]")
        for i in range(24)
    ]  # fmt: skip
    same = {"kv_tokens": 520, "chunk_tokens": 96, "max_running": 8}
    ours = sgl.simulate(trace, policy="lpm", **same)
    compared = ours.compare(sgl.simulate(trace, policy="fcfs", **same))
    return show(browser, f"<body>{compared._repr_mimebundle_()['text/html']}</body>")


# -- notebooks -----------------------------------------------------------------------------


@contextlib.contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """A JupyterLab of its own on the loopback address; gives its address."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    own = {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    settings = folder / "settings"
    news = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
               "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--IdentityProvider.token=",
               "--ServerApp.disable_check_xsrf=True", "--LabApp.expose_app_in_browser=True",
               f"--ServerApp.root_dir={folder}"]  # fmt: skip
    environment = {**os.environ, **own, "JUPYTERLAB_SETTINGS_DIR": str(settings),
                   "PYTHONPATH": str(DOCS.parent)}  # fmt: skip
    server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/api/status"):
                break
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(20)


ALL_RUN = r"""() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
    .every((each) => /\[\d+\]/.test(each.innerText))"""


@contextlib.contextmanager
def notebook(browser: Browser, cells: list[str]) -> Iterator[tuple[Page, str, Path]]:
    """A notebook whose cells have all been run: its page, the server and its folder."""
    with tempfile.TemporaryDirectory() as folder, jupyter_lab(Path(folder)) as url:
        made = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(made, Path(folder) / "picture.ipynb")
        page = browser.new_page(viewport={"width": 1000, "height": 1400}, device_scale_factor=2)
        page.goto(f"{url}/lab/tree/picture.ipynb?reset")
        ready = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
        page.wait_for_selector(ready, state="attached")
        page.wait_for_timeout(1500)
        command = "() => window.jupyterapp.commands.execute('{}')"
        page.evaluate(command.format("application:toggle-left-area"))
        for _ in range(3):  # right after opening, Lab may drop the command
            page.evaluate(command.format("notebook:run-all-cells"))
            with contextlib.suppress(TimeoutError):
                page.wait_for_function(ALL_RUN, timeout=40_000)
                break
        page.wait_for_timeout(1200)
        yield page, url, Path(folder)


def output(page: Page, cell: int) -> Locator:
    return page.locator(".jp-Notebook .jp-CodeCell").nth(cell).locator(".jp-OutputArea-output")


ASK = '%%sgl --view none --temperature 0\ns += user("Where is {}?")\ns += assistant(gen("a", max_tokens=8))'  # noqa: E501
LOAD = "%load_ext sglnb\nimport sglnb as sgl"


@contextlib.contextmanager
def tree(browser: Browser) -> Iterator[Locator]:
    """The tree after three questions, asked why a fourth misses."""
    asked = [ASK.format(place) for place in ("Rome", "Paris", "the Eiffel Tower")]
    with notebook(browser, [LOAD, *asked, "%sgl cache"]) as (page, *_):
        shown = output(page, 4).locator(".sglnb").first
        shown.locator("summary").click()
        shown.locator(".miss textarea").first.fill("<|im_start|>user\nWhere is London?<|im_end|>")
        shown.get_by_role("button", name="Why did this miss?").click()
        shown.locator(".sides").wait_for()
        page.wait_for_timeout(500)
        yield shown


@contextlib.contextmanager
def dashboard(browser: Browser) -> Iterator[Locator]:
    """The dashboard while three requests run."""
    cells = [
        LOAD + "\nengine = sgl.Engine(kv_tokens=6000)\nother = sgl.Engine(kv_tokens=2000)",
        "board = sgl.dashboard(engine)\nboard",
        'requests = [engine.submit(f"Story {i}:", {"max_new_tokens": 3000, "ignore_eos": True})'
        "\n            for i in range(3)]",
    ]
    with notebook(browser, cells) as (page, *_):
        page.wait_for_timeout(1500)
        yield output(page, 1).first


@contextlib.contextmanager
def saved(browser: Browser) -> Iterator[Locator]:
    """What a saved notebook shows that nobody trusts and that has no kernel."""
    with notebook(browser, [LOAD, "%%sgl --seed 7\n" + PEOPLE]) as (page, url, folder):
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        page.wait_for_timeout(1500)
        page.close()
        with urllib.request.urlopen(f"{url}/api/sessions") as reply:
            for session in json.load(reply):
                urllib.request.urlopen(
                    urllib.request.Request(f"{url}/api/sessions/{session['id']}", method="DELETE")
                ).close()
        reopened = nbformat.read(folder / "picture.ipynb", as_version=4)
        reopened.metadata["kernelspec"] = {"name": "none", "display_name": "none"}
        nbformat.write(reopened, folder / "reopened.ipynb")
        page = browser.new_page(viewport={"width": 1000, "height": 1900}, device_scale_factor=1.6)
        page.goto(f"{url}/lab/tree/reopened.ipynb?reset")
        page.wait_for_selector(".jp-Notebook details", state="attached")
        page.wait_for_timeout(2500)
        for button in page.locator(".jp-Dialog .jp-mod-reject").all():
            button.click()
        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
        picture = page.locator(".jp-Notebook details")
        picture.first.locator("summary").first.click()
        picture.locator("summary", has_text="program").click()
        picture.locator("summary", has_text="cache tree").click()
        page.wait_for_timeout(300)
        yield page.locator(".jp-Notebook .jp-CodeCell").nth(1).locator("details").first


# -- all of them ---------------------------------------------------------------------------

PAGES: dict[str, Callable[[Browser], Page]] = {
    "run-view": run_view, "tokens": tokens, "constraint": constraint, "grammar": grammar,
    "branches": branches, "schedule": schedule, "program": program,
}  # fmt: skip
NOTEBOOKS = {"tree": tree, "dashboard": dashboard, "saved": saved}


CONTENT = """() => {
  const parts = [...document.querySelectorAll(".sglnb, .card:popover-open, body > *")];
  const bottoms = parts.map((part) => part.getBoundingClientRect().bottom);
  return { x: 0, y: 0, width: innerWidth, height: Math.ceil(Math.max(...bottoms) + 14) };
}"""
"""The part of a page that has something in it."""


def keep(name: str, png: bytes) -> None:
    """Write the picture with few colours: a screenshot has few, and it is half the bytes."""
    path = DOCS / f"{name}.png"
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    sys.stdout.write(f"{path.name}: {picture.width} x {picture.height}, {size:,} bytes\n")
    if size > MOST_BYTES:
        sys.exit(f"{path.name} has more than {MOST_BYTES:,} bytes")


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit(f"Chromium is missing. {INSTALL}")
    chosen = sys.argv[1:] or [*PAGES, *NOTEBOOKS]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for name in chosen:
            if name in PAGES:
                page = PAGES[name](browser)
                keep(name, page.screenshot(full_page=True, clip=page.evaluate(CONTENT)))
            else:
                with NOTEBOOKS[name](browser) as shown:
                    keep(name, shown.screenshot())
        browser.close()


if __name__ == "__main__":
    main()
