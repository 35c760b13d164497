"""Execute a notebook and leave it, with its outputs, as .ipynb and as one .html file.

    python notebooks/execute.py notebooks/01_tour.ipynb --out out

The page holds everything it shows: it opens without a kernel and with the network off.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from tqdm import tqdm

SUMMARY = "%sgl runs"
"""Run after the last cell: one line per program."""

WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> tuple[nbformat.NotebookNode, str]:
    """Run all cells in a kernel of this Python; returns the notebook and a line per program.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    summary = nbformat.v4.new_code_cell(SUMMARY)
    notebook.cells.append(summary)
    with client.setup_kernel():
        for i, cell in enumerate(tqdm(notebook.cells, desc=path.name, unit="cell")):
            client.execute_cell(cell, i)
    notebook.cells.pop()
    told = (output.get("data", {}).get("text/plain") for output in summary.outputs)
    return notebook, "\n".join(text for text in told if text)


def to_html(notebook: nbformat.NotebookNode, title: str) -> str:
    """One page without scripts from elsewhere. Live widgets need a kernel, so the static
    outputs stand in for them, unfolded."""
    plain = copy.deepcopy(notebook)
    for cell in plain.cells:
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
    exporter = HTMLExporter(embed_images=True)
    exporter.mathjax_url = exporter.require_js_url = exporter.jquery_url = ""
    exporter.widget_renderer_url = ""
    page, _ = exporter.from_notebook_node(plain, resources={"metadata": {"name": title}})
    return page.replace("<details ", "<details open ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        notebook, summary = execute(args.notebook)
    except CellExecutionError as error:
        print(f"{args.notebook}: a cell failed\n{error}", file=sys.stderr)
        return 1
    target = args.out / args.notebook.name
    nbformat.write(notebook, target)
    page = target.with_suffix(".html")
    page.write_text(to_html(notebook, args.notebook.stem), encoding="utf-8")
    print(
        f"{summary}\n\n  {page}   open it in a browser\n  {target}   open it in Jupyter (make lab)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
