"""The notebook on constraints: it runs, and shows what its words promise."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from test_tour import texts

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    done = subprocess.run(
        [sys.executable, ROOT / "notebooks" / "execute.py",
         ROOT / "notebooks" / "02_constraints.ipynb", "--out", out],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return nbformat.read(out / "02_constraints.ipynb", as_version=4)


def test_values_are_of_their_types(notebook):
    plain = "\n".join(texts(notebook))
    assert "'Rome'" in plain
    assert "Person(name='Maria Lopez', age=34, city='Lisbon')" in plain
    assert "'constraint_met': True" in plain


def test_the_automaton_is_drawn_compressed(notebook):
    (drawn,) = (t for t in texts(notebook, "text/html") if "when compressed" in t)
    assert "the text may end here" in drawn
    printed = "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )
    plain, compressed = map(int, re.search(r"(\d+) states; (\d+) when", printed).groups())
    assert compressed < plain / 2
    call = re.search(r"^(convert|days)\(.*\)$", printed, re.MULTILINE)
    ast.parse(call[0], mode="eval")


def test_the_tables_say_what_is_written_below_them(notebook):
    jump, distribution = (t for t in texts(notebook) if t.lstrip().startswith("tokens"))
    forced = {row.split()[0]: int(row.split()[2]) for row in re.findall(r"^o.*$", jump, re.M)[:2]}
    assert forced["off"] == 0 < forced["on"]
    rows = {
        name: [float(n) for n in re.search(rf"^{name} +(.*)$", distribution, re.M)[1].split()]
        for name in ("masks only", "jump-forward", "healed prompt")
    }
    assert rows["jump-forward"][0] < rows["masks only"][0], "fewer tokens"
    assert rows["jump-forward"][2] > rows["masks only"][2], "and likelier"
