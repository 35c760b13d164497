"""The engine's steps as HTML that survives saving (:mod:`.static_html` says what may be in it)."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from .columns import Column, column_words, schedule_words, step_columns, time_columns
from .text import escape, seconds

COLUMNS = 72
WIDTH = 9
"""Pixels of a column."""
HEIGHT = 100
MOST = 8
"""Requests of a column that have a box of their own."""
HUES = ("#0072B2", "#E69F00", "#56B4E9", "#CC79A7", "#B8A800")
OTHERS = "#AAAAAA"
CACHED = "#009E73"

_SMALL = "font-size: 11px; opacity: 0.7"
_ROW = "white-space: nowrap; overflow-x: auto; line-height: 0; margin-top: 2px"
_LEGEND = {
    "writes": "background-color: #0072B2",
    "reads": "border: 1px dashed #0072B2; background-color: #0072B233",
    "cached": f"background-color: {CACHED}",
    "others": f"background-color: {OTHERS}",
}


def schedule_html(view: dict[str, Any]) -> str:
    """One column a step, stacked by request; under it who waits, pool use and hit rate."""
    words = escape(schedule_words(view["schedule"]))
    return (
        f'<details><summary style="cursor: pointer">schedule · {words}</summary>'
        f"{steps_html(view)}</details>"
    )


def steps_html(view: dict[str, Any]) -> str:
    """What :func:`schedule_html` unfolds."""
    columns = step_columns(view["schedule"], COLUMNS)
    size = max((column["size"] for column in columns), default=1)
    each = f" · each column is the mean of {size} steps" if size > 1 else ""
    top = max((column["top"] for column in columns), default=1.0)
    return _legend(each) + _picture(view, columns, top)


def compared_html(views: list[tuple[str, dict[str, Any]]]) -> str:
    """Schedules beneath each other on one axis of time; ``views`` are names and views."""
    spans = [_span(view) for _, view in views]
    longest = max((t1 - t0 for t0, t1 in spans), default=0.0) or 1.0
    drawn = [
        (name, view, time_columns(view["schedule"], t0, longest / COLUMNS, COLUMNS))
        for (name, view), (t0, _) in zip(views, spans, strict=True)
    ]
    top = max((c["top"] for _, _, columns in drawn for c in columns), default=1.0)
    parts = [_legend(f" · from 0 to {seconds(longest)}, the same for all")]
    for name, view, columns in drawn:
        words = escape(f"{name} · {schedule_words(view['schedule'])}")
        parts.append(f'<div style="padding-top: 6px">{words}</div>')
        parts.append(_picture(view, columns, top))
    return "".join(parts)


def _span(view: dict[str, Any]) -> tuple[float, float]:
    steps = view["schedule"]["steps"]
    return (steps[0]["t"] - steps[0]["seconds"], steps[-1]["t"]) if steps else (0.0, 0.0)


def _legend(more: str) -> str:
    marks = " ".join(
        f'<span style="display: inline-block; width: 11px; height: 9px; {look}"></span> {word}'
        for word, look in _LEGEND.items()
    )
    return f'<div style="{_SMALL}">{marks}{escape(more)}</div>'


def _picture(view: dict[str, Any], columns: list[Column], top: float) -> str:
    """The columns; ``top`` is as high as the picture."""
    scale = min(18.0, HEIGHT / max(1.0, top))
    waits = max((column["waiting"] for column in columns), default=0.0)
    stacks = []
    for column in columns:
        title = escape("\n".join(column_words(view, column["first"], column["size"])))
        boxes = [_box(view, *part) for part in _parts(column, scale)]
        stacks.append(
            f'<div style="display:inline-block;width:{WIDTH - 1}px;margin-right:1px;'
            f'vertical-align:bottom" title="{title}">{"".join(reversed(boxes))}</div>'
        )
    parts = []
    if any(column["retracted"] for column in columns):
        marks = ["▼" if column["retracted"] else "" for column in columns]
        look = "height:10px;font-size:9px;line-height:10px;color:#D55E00"
        parts.append(_row(_runs(marks, look), "sent back"))
    parts.append(_row("".join(stacks), "steps"))
    if waits:
        high = [round(24 * column["waiting"] / waits) for column in columns]
        look = "height:{}px;background-color:#999999"
        parts.append(_row(_runs(high, look, "top"), "waiting"))
    for word, name, hue in (("pool use", "pool", "96,96,96"), ("hit rate", "hit", "0,158,115")):
        shares = [round(column[name] or 0.0, 1) for column in columns]
        parts.append(_row(_runs(shares, f"height:5px;background-color:rgba({hue},{{}})"), word))
    return "".join(parts)


def _parts(column: Column, scale: float) -> list[tuple[str, str, int]]:
    """``(rid, kind, pixels)`` from the bottom up; in a large batch most are put together."""
    bands = column["bands"]
    if len(bands) > MOST:
        rest = [sum(heights) for heights in zip(*(b[1:] for b in bands[MOST:]), strict=True)]
        bands = [*bands[:MOST], ["", *rest]]
    return [
        (rid, kind, max(1, round(high * scale)))
        for rid, cached, read, wrote in bands
        for kind, high in (("wrote", wrote), ("read", read), ("cached", cached))
        if high > 0
    ]


def _box(view: dict[str, Any], rid: str, kind: str, pixels: int) -> str:
    if kind == "cached":
        return _block(pixels, f"background-color:{CACHED}")
    at = view["schedule"]["requests"][rid]["at"] if rid else 0
    hue = HUES[at % len(HUES)] if rid else OTHERS
    if kind == "read" and pixels > 3:
        return _block(pixels - 2, f"border:1px dashed {hue};background-color:{hue}33")
    if at % (2 * len(HUES)) >= len(HUES):
        return _block(pixels, f"background-color:{hue}bb;border-left:3px double {hue}")
    return _block(pixels, f"background-color:{hue}")


def _block(pixels: int, look: str) -> str:
    return f'<div style="height:{pixels}px;{look};margin-top:1px"></div>'


def _runs(values: list[Any], look: str, align: str = "bottom") -> str:
    """One box for each run of equal values, as wide as the columns it stands for. ``look`` may
    hold the value; a text is shown."""
    out = []
    for value, group in groupby(values):
        width = WIDTH * len(list(group))
        text = value if isinstance(value, str) else ""
        out.append(
            f'<div style="display:inline-block;width:{width}px;vertical-align:{align};'
            f'{look.format(value)}">{text}</div>'
        )
    return "".join(out)


def _row(cells: str, word: str) -> str:
    return (
        f'<div style="{_ROW}" tabindex="0">{cells}'
        f'<span style="display: inline-block; line-height: 11px; vertical-align: bottom; '
        f'padding-left: 4px; {_SMALL}">{word}</span></div>'
    )
