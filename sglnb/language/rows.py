"""The rows of a batch: lists, iterators and tables of arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple


class Rows(NamedTuple):
    """What ``run_batch`` was given: ``known`` if it is all there, else only ``each``."""

    each: Iterator[dict[str, Any] | TypeError]
    known: list[dict[str, Any]] | None = None

    @property
    def total(self) -> int | None:
        """How many there are; None when only the end will tell."""
        return None if self.known is None else len(self.known)

    def listed(self) -> list[dict[str, Any]]:
        """All of them now. TypeError for one that cannot be a row."""
        rows = list(self.each)
        for row in rows:
            if isinstance(row, TypeError):
                raise row
        return rows


def rows_of(batch: Any, names: list[str]) -> Rows:
    """The arguments of each row as a fresh dict; ``names`` are those of the parameters.

    A sequence is looked through at once. Of an iterator one row is taken at a time, and a row
    that cannot be one comes as the error that it is.

    Raises:
        TypeError: no rows at all, or a row of a sequence is neither a dict nor a list of values.
    """
    if isinstance(batch, (str, bytes, dict)) or not isinstance(batch, Iterable):
        raise TypeError(
            "batch_kwargs: must be a list of rows, an iterator of rows or a DataFrame, "
            f"got {type(batch).__name__} {batch!r:.60}"
        )
    if not isinstance(batch, Sequence):
        return Rows(_row(i, row, names) for i, row in enumerate(batch))
    rows = Rows(_row(i, row, names) for i, row in enumerate(batch)).listed()
    return Rows(iter(rows), rows)


def _row(i: int, row: Any, names: list[str]) -> dict[str, Any] | TypeError:
    if isinstance(row, dict):
        return dict(row)
    if isinstance(row, (list, tuple)) and len(row) <= len(names):
        return dict(zip(names, row, strict=False))
    return TypeError(
        f"batch_kwargs: row {i} must be a dict of arguments or a list with at most "
        f"{len(names)} values ({', '.join(names)}), got {row!r:.60}"
    )


MOST_THREADS = 64
"""Plain programs in progress at once. A row holds a thread while its Python body runs, because
it may wait in there; a row whose body is over needs none until its generations are."""

MOST_TASKS = 256
"""Async programs in progress at once: they need no threads, only memory and KV."""


def rows_at_once(num_threads: int | str, is_async: bool) -> int:
    """How many rows may be in progress. ValueError for a wrong ``num_threads``."""
    if num_threads == "auto":
        return MOST_TASKS if is_async else MOST_THREADS
    if not isinstance(num_threads, int) or isinstance(num_threads, bool) or num_threads < 1:
        raise ValueError(
            f"num_threads: must be 'auto' or a whole number of at least 1, got {num_threads!r}"
        )
    return num_threads
