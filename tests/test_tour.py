"""The tour as `make demo` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Output folder and printed text of the demo script."""
    out = tmp_path_factory.mktemp("out")
    command = [sys.executable, ROOT / "notebooks" / "execute.py"]
    done = subprocess.run(
        [*command, ROOT / "notebooks" / "01_tour.ipynb", "--out", out],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def texts(notebook, kind="text/plain"):
    return [
        output.data[kind]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if kind in output.get("data", {})
    ]


def test_the_tour_runs_and_says_what_its_words_promise(demo):
    notebook = nbformat.read(demo[0] / "01_tour.ipynb", as_version=4)
    plain = "\n".join(texts(notebook))
    assert "'The capital of Italy is Rome.'" in plain
    assert "{'name': 'Maria Lopez', 'age': 34, 'city': 'Lisbon'}" in plain
    for city in ("Paris", "Lisbon", "Warsaw", "Ottawa"):
        assert f"is {city}." in plain
    printed = "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )
    first, again = re.findall(r"(\d+) of (\d+) prompt tokens cached", printed)
    assert int(first[0]) < 10
    assert again[0] == again[1], "the second time the whole prompt is cached"


def test_a_line_for_each_program(demo):
    lines = [line for line in demo[1].splitlines() if re.search(r"run-\d+ .*In\[", line)]
    assert len(lines) == 5
    for line in lines:
        assert re.search(r"[\d,]+ tokens · .* cached · [\d,]+ forced · [\d.]+ s$", line)


def test_the_page_needs_nothing_from_outside(demo):
    page = (demo[0] / "01_tour.html").read_text(encoding="utf-8")
    loads = re.findall(r"""(?:src|href)\s*=\s*["'](https?:)?//[^"']+""", page)
    assert not loads
    assert "@import" not in page
    assert "What is 7 + 15?" in page
    assert page.count("<details open") >= 5
    assert "RunView" not in page
