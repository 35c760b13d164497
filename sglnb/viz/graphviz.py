"""Pictures by Graphviz' ``dot``, where it is installed."""

from __future__ import annotations

import shutil
import subprocess

from .text import visible

DOT_SECONDS = 10


def dot_svg(dot: str) -> str | None:
    """SVG text for a DOT text; None where ``dot`` is missing, broken or slow."""
    program = shutil.which("dot")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-Tsvg"], input=dot.encode("utf-8", "replace"),
            capture_output=True, timeout=DOT_SECONDS, check=True,
        )  # fmt: skip
        svg = done.stdout.decode("utf-8", "replace")
        return svg[svg.index("<svg") :]
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def quote(text: str) -> str:
    """``text`` inside a DOT string, nothing in it taken for an escape."""
    return visible(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
