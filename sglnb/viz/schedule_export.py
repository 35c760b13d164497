"""Schedules alone: of a simulation, and of two beside each other."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from sglnb.events import Event

from .page import log_html
from .reduce import fold
from .static_schedule import compared_html, steps_html
from .text import escape, visible

_ROOT = "font-family: sans-serif; font-size: 13px; line-height: 1.6"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
</head>
<body style="background-color: #ffffff; color: #1f2328; margin: 18px">{body}</body>
</html>
"""


def simulation_html(name: str, words: str, events: Iterable[Event]) -> str:
    """A simulation's schedule for a cell's output; it survives in a saved notebook."""
    picture = steps_html(fold(events))
    return f'<div style="{_ROOT}"><b>{escape(name)}</b> {escape(words)}{picture}</div>'


def simulation_page(name: str, events: Iterable[Event]) -> str:
    """A simulation's views as one interactive page; needs no network."""
    return log_html(events, name, panes="schedule,branches,tree")


def comparison_html(words: list[str], named: list[tuple[str, Iterable[Event]]]) -> str:
    """Schedules on one axis of time, and the difference in words."""
    views: list[tuple[str, dict[str, Any]]] = [(name, fold(events)) for name, events in named]
    told = "".join(f"<div>{escape(line)}</div>" for line in words)
    return f'<div style="{_ROOT}">{told}{compared_html(views)}</div>'


def comparison_page(words: list[str], named: list[tuple[str, Iterable[Event]]]) -> str:
    """The same as one self-contained page."""
    title = html.escape(visible(" and ".join(name for name, _ in named)))
    return _PAGE.format(title=title, body=comparison_html(words, named))
