"""A run as one SVG: each state's text, token by token, its program, and the timeline of its
branches."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from typing import Any

from sglnb.events import Event

from .plain import LABEL, header_words, ordered_rows, row_label, title_of
from .program_rows import MARKS, has_shape, program_rows, program_words
from .reduce import fold
from .runlog import run_events
from .text import clip_middle, clip_piece, one_line, seconds, visible

WIDTH, LINE, CHAR, LEFT = 900, 20, 7.25, 12
TRACK, SIDE = 520, 150
MAX_TOKENS = 1500
"""Tokens shown for each state; of more, the last ones."""

_FILLS = {"sampled": "#0072B2", "forced": "#E69F00"}


def run_svg(events: Iterable[Event], run: str) -> str:
    """The run as SVG text. All model text in it is escaped."""
    view = fold(run_events(events, run))
    header, tokens = view["header"], view["tokens"]
    canvas = _Canvas()
    title = " · ".join([title_of(header, run), *header_words(header)])
    canvas.text(LEFT, title, bold=True)
    canvas.down()
    for depth, row in ordered_rows(tokens["rows"], tokens["order"]):
        _draw_row(canvas, depth, row, many=len(tokens["order"]) > 1)
    if has_shape(view["program"]):
        _draw_program(canvas, view)
    if len(view["branches"]["bars"]) > 1:
        _draw_branches(canvas, view["branches"])
    return canvas.svg(one_line(title))


class _Canvas:
    """Parts so far and the base line of the current row."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = 22.0

    def down(self, by: float = LINE) -> None:
        self.y += by

    def text(self, x: float, text: str, *, bold: bool = False, faint: bool = False) -> None:
        look = ' font-weight="700"' if bold else ' opacity="0.65"' if faint else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{self.y:.1f}"{look} xml:space="preserve">'
            f"{html.escape(one_line(text))}</text>"
        )

    def rect(self, x: float, width: float, height: float, look: str, dy: float = 0) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{self.y + dy:.1f}" width="{max(0.5, width):.1f}" '
            f'height="{height:.1f}" {look}/>'
        )

    def svg(self, label: str) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.y + 8:.0f}" '
            f'font-family="monospace" font-size="12" fill="currentColor" role="img" '
            f'aria-label="{html.escape(label, quote=True)}">{"".join(self.parts)}</svg>'
        )


def _draw_row(canvas: _Canvas, depth: int, row: dict[str, Any], many: bool) -> None:
    first = max(row["shared"], row["shown"] - MAX_TOKENS)
    left = min(LEFT + 18 * depth, WIDTH // 2)
    if first >= row["shown"] and not row["error"]:
        return
    if many:
        canvas.text(left, clip_middle(row_label(row), LABEL), faint=True)
        canvas.down()
    x = float(left)
    for i, token in enumerate(row["tokens"][first : row["shown"]], first):
        for n, part in enumerate(visible(clip_piece(token["piece"])).split("\n")):
            if n:
                canvas.down()
                x = float(left)
            x = _draw_piece(canvas, left, x, part.replace("\t", "    "), token, i < row["cached"])
    canvas.down()
    if row["error"]:
        canvas.text(left, f"✕ {clip_middle(row['error'], 110)}")
        canvas.down()


def _draw_piece(
    canvas: _Canvas, left: float, x: float, text: str, token: dict[str, Any], cached: bool
) -> float:
    """Draw ``text`` from ``x`` on, in further lines where it must be; returns where it ends."""
    while text:
        fits = int((WIDTH - LEFT - x) / CHAR)
        if len(text) > fits and x > left:
            canvas.down()
            x = left
            continue
        part, text = text[: max(1, fits)], text[max(1, fits) :]
        width = CHAR * len(part)
        if token["kind"] in _FILLS:
            logprob = token.get("logprob")
            p = 0.5 if logprob is None else math.exp(min(0.0, logprob))
            opacity = 0.16 if token["kind"] == "forced" else 0.08 + 0.3 * p
            look = f'fill="{_FILLS[token["kind"]]}" fill-opacity="{opacity:.2f}"'
            canvas.rect(x, width, 17, look, -13)
        if token["kind"] == "forced":
            canvas.rect(x, width, 0.5, 'fill="none" stroke="#E69F00" stroke-dasharray="2 2"', 6)
        if token["kind"] == "select":
            canvas.rect(x, width, 17, 'fill="none" stroke="#888888"', -13)
        if cached:
            canvas.rect(x, width, 1.5, 'fill="#009E73"', 4)
        canvas.text(x, part)
        x += width
    return x


def _draw_program(canvas: _Canvas, view: dict[str, Any]) -> None:
    canvas.down(6)
    words = program_words(view["program"])
    canvas.text(LEFT, f"program: {words}; underlined: constants from the cache", faint=True)
    canvas.down()
    for row in program_rows(view):
        canvas.text(LEFT, row["role"], faint=True)
        x = LEFT + 84 + 18.0 * row["depth"]
        mark = MARKS.get(row["status"] or row["kind"], "")
        for text, boxed in ((mark, False), (row["label"], row["kind"] in ("gen", "select"))):
            if not text:
                continue
            if boxed:
                look = 'fill="#0072B2" fill-opacity="0.1" stroke="#0072B2"'
                canvas.rect(x - 3, CHAR * len(text) + 6, 17, look, -13)
            canvas.text(x, text, faint=not boxed)
            x += CHAR * (len(text) + 1.5)
        for kind, text, share in row["parts"] or [["text", row["text"], 0]]:
            fits = max(1, int((WIDTH - LEFT - x) / CHAR))
            text = clip_middle(text, fits)
            if share:
                canvas.rect(x, share * CHAR * len(text), 1.5, 'fill="#009E73"', 4)
            if kind != "text":
                look = 'fill="none" stroke="#888888" stroke-dasharray="3 2"'
                canvas.rect(x - 1, CHAR * len(text) + 2, 17, look, -13)
            canvas.text(x, text)
            x += CHAR * len(text)
        canvas.down()


def _draw_branches(canvas: _Canvas, branches: dict[str, Any]) -> None:
    t0, t1 = branches["t0"] or 0.0, branches["t1"]
    scale = TRACK / max(1e-9, t1 - t0)
    canvas.down(6)
    canvas.text(
        LEFT,
        f"branches, 0 to {seconds(t1 - t0)}: outline waits, grey reads the prompt, blue writes",
        faint=True,
    )
    canvas.down()
    for depth, row in ordered_rows(branches["rows"], branches["order"]):
        bars = [branches["bars"][rid] for rid in row["bars"]]
        label = row_label(row, bars[0]["name"] if bars else "")
        canvas.text(LEFT + 12 * min(depth, 6), clip_middle(one_line(label), 18))
        for bar in bars:
            end = t1 if bar["end"] is None else bar["end"]
            scheduled = end if bar["scheduled"] is None else bar["scheduled"]
            first = end if bar["first"] is None else bar["first"]
            for start, stop, look in (
                (bar["arrived"], scheduled, 'fill="none" stroke="#999999"'),
                (scheduled, first, 'fill="#999999"'),
                (first, end, 'fill="#0072B2"'),
            ):
                if stop > start:
                    x = SIDE + LEFT + (start - t0) * scale
                    canvas.rect(x, (stop - start) * scale, 11, look, -10)
        canvas.down()
