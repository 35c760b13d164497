"""A run's program as HTML that survives saving (:mod:`.static_html` says what may be in it)."""

from __future__ import annotations

from typing import Any

from .program_rows import MARKS, Row, program_rows, program_words
from .text import escape

_SMALL = "font-size: 11px; opacity: 0.7"
_ROLE = f"display: inline-block; width: 66px; text-align: right; padding-right: 10px; {_SMALL}"
_CODE = "font-family: monospace; font-size: 12.5px; white-space: pre"
_HOLE = (
    "border: 1px solid #0072B2; border-radius: 3px; padding: 0 4px; "
    "background-color: rgba(30, 140, 215, 0.12)"
)
_MADE = "border: 1px dashed #888888; border-radius: 3px; padding: 0 3px"
_CACHED = (
    "border-left: 3px solid #009E73; padding-left: 2px; background-color: rgba(0, 158, 115, 0.14)"
)
_COLOURS = {"done": "#009E73", "running": "#0072B2", "failed": "#D55E00"}
_LEGEND = {"constant, cached": _CACHED, "hole": _HOLE, "made as it runs": _MADE}


def program_html(view: dict[str, Any]) -> str:
    """What the source says, a row a message, a hole or a block, with what came of it."""
    legend = " ".join(f'<span style="{look}">{word}</span>' for word, look in _LEGEND.items())
    rows = "".join(_row(row) for row in program_rows(view))
    return (
        f'<details><summary style="cursor: pointer">program · '
        f"{escape(program_words(view['program']))}</summary>"
        f'<div style="{_SMALL}; padding: 2px 0">{legend}</div>'
        f'<div style="overflow-x: auto">{rows}</div></details>'
    )


def _row(row: Row) -> str:
    status, kind = row["status"], row["kind"]
    colour = _COLOURS.get(status, "#888888")
    mark = MARKS.get(status or kind, "")
    parts = [f'<span style="{_ROLE}">{escape(row["role"])}</span>']
    parts.append(f'<span style="padding-left: {18 * row["depth"]}px">')
    if mark:
        parts.append(f'<span style="color: {colour}">{mark}</span> ')
    if row["label"]:
        look = _HOLE if kind in ("gen", "select") else "opacity: 0.75"
        parts.append(f'<span style="{look}; {_CODE}">{escape(row["label"])}</span> ')
    for what, text, share in row["parts"]:
        look = (_CACHED if share else "") if what == "text" else _MADE
        parts.append(f'<span style="{_CODE}{"; " if look else ""}{look}">{escape(text)}</span>')
    if row["text"] and not row["parts"]:
        parts.append(f'<span style="{_CODE}">{escape(row["text"])}</span>')
    note = f' <span style="{_SMALL}">{escape(row["note"])}</span>' if row["note"] else ""
    return f'<div style="white-space: nowrap">{"".join(parts)}</span>{note}</div>'
