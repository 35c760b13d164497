"""Make the pictures of the documentation: ``python docs/make_pictures.py``.

Each is a screenshot of a real run on the embedded model, taken in Chromium.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from IPython.testing.globalipapp import start_ipython
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
WIDTH = 740
"""In CSS pixels; the picture has twice as many."""

CELL = r"""
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


def run_page() -> str:
    """The view of the cell's second run, whose prefix is in the cache, as a page."""
    shell = start_ipython()
    line = "%%sgl -o extraction --view none --seed 7"
    for cell in ("%load_ext sglnb", line + CELL, line + CELL):
        shell.run_cell(cell, store_history=True).raise_error()
    run = shell.user_ns["extraction"]
    return run.to_html()


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Chromium is missing. Install it with: sudo apt-get install -y chromium")
    page_html = run_page()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 600}, device_scale_factor=2, color_scheme="light"
        )
        page.set_content(page_html)
        page.add_style_tag(content=".sglnb .tokens { max-height: none }")
        page.wait_for_selector(".bar")
        page.screenshot(path=DOCS / "run-view.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
