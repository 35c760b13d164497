"""A small table for a notebook and for a terminal. Every text in it is escaped."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any


class Note(str):
    """Text that is displayed as it is, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


_CELL = "text-align:left;padding:2px 12px 2px 0;border:0;vertical-align:top"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts under a title. Without ``columns`` the table has no head."""

    title: str
    rows: list[tuple[Any, ...]]
    columns: tuple[str, ...] = ()
    note: str = field(default="", kw_only=True)
    """A sentence under the table."""

    def __repr__(self) -> str:
        texts = [tuple(map(str, row)) for row in self.rows]
        grid = [*([self.columns] if self.columns else []), *texts]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in grid]
        return "\n".join([self.title, *(f"  {line}" for line in lines), *filter(None, [self.note])])

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="{_CELL}">{escape(c)}</th>' for c in self.columns)
        rows = "".join(
            "<tr>" + "".join(f'<td style="{_CELL}">{escape(str(v))}</td>' for v in row) + "</tr>"
            for row in self.rows
        )
        note = f"<div>{escape(self.note)}</div>" if self.note else ""
        return (
            f"<div><b>{escape(self.title)}</b>"
            f'<table style="border-collapse:collapse">{f"<tr>{head}</tr>" if head else ""}{rows}'
            f"</table>{note}</div>"
        )
