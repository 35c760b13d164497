"""A batch as tables on the device, in the layout that paged attention kernels share.

Rows lie behind one another, as in a compressed sparse row matrix: row ``i`` owns the queries
``qo_indptr[i] .. qo_indptr[i + 1]`` of the batch and reads the pages
``kv_indices[kv_indptr[i] .. kv_indptr[i + 1]]`` of the pool, the last of which holds
``last_page_len[i]`` tokens of its own. With pages of one slot ``kv_indices`` are slots.

What a row reads are a few runs of consecutive slots. Only the runs travel, in one copy; the device
writes the page numbers out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from sglnb.kernels.expand import expand_runs

from ..transfer import send
from .base import Row

MOST_RUNS = 8192
"""Runs in a recorded step."""

Runs = Sequence[tuple[int, int]]
"""Half-open runs of consecutive slots; each but the last ends with a page."""


class Tables(NamedTuple):
    """One ragged batch. ``host`` holds copies of the small tables for planning on the CPU."""

    qo_indptr: torch.Tensor
    """[rows + 1] int32."""
    kv_indptr: torch.Tensor
    """[rows + 1] int32, in pages."""
    last_page_len: torch.Tensor
    """[rows] int32; 0 where a row reads nothing."""
    kv_indices: torch.Tensor
    """[pages] int32."""
    host: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    """``qo_indptr``, ``kv_indptr`` and ``last_page_len`` on the CPU."""

    @property
    def rows(self) -> int:
        """Rows in the batch."""
        return len(self.last_page_len)


class TableBuilder:
    """Builds tables on ``device`` for a pool with pages of ``page_size`` slots."""

    def __init__(self, device: torch.device, page_size: int):
        self.device, self.page_size = device, page_size
        self._pin = device.type == "cuda"
        self._counting = torch.arange(1024, dtype=torch.int32, device=device)

    def build(self, reads: Sequence[Runs], counts: Sequence[int]) -> Tables:
        """Tables of rows with ``counts`` queries each that read ``reads``."""
        rows, page = len(reads), self.page_size
        runs = [run for one in reads for run in one]
        edges = np.array(runs, dtype=np.int64).reshape(-1, 2)
        first = edges[:, 0] // page
        pages = (edges[:, 1] - 1) // page - first + 1
        ends = np.concatenate(([0], np.cumsum(pages)))  # pages before each run
        slots = np.concatenate(([0], np.cumsum(edges[:, 1] - edges[:, 0])))
        row_runs = np.concatenate(([0], np.cumsum([len(one) for one in reads], dtype=np.int64)))
        lengths = np.diff(slots[row_runs])
        n_pages = int(ends[-1])

        sent = torch.empty(3 * rows + 2 + 2 * len(runs), dtype=torch.int32, pin_memory=self._pin)
        parts = torch.split(sent, [rows + 1, rows + 1, rows, len(runs), len(runs)])
        values = (
            np.concatenate(([0], np.cumsum(counts))),
            ends[row_runs],
            np.where(lengths > 0, (lengths - 1) % page + 1, 0),
            first - ends[:-1],  # a run's page number less its place in kv_indices
            pages,
        )
        for part, value in zip(parts, values, strict=True):
            part.numpy()[:] = value
        there = sent.to(self.device, non_blocking=True)
        qo, kv, last, shift, repeats = torch.split(there, [len(part) for part in parts])
        indices = torch.repeat_interleave(shift, repeats, output_size=n_pages)
        indices += self._count(n_pages)
        return Tables(qo, kv, last, indices, parts[:3])

    def slots(self, rows: Sequence[Row]) -> torch.Tensor:
        """[N] int64: the slot of each new token."""
        new: list[int] = []
        for row in rows:
            new += row.slots[row.start : row.start + row.count]
        return send(new, self.device, torch.int64)

    def _count(self, n: int) -> torch.Tensor:
        """0..n-1, kept from step to step."""
        if len(self._counting) < n:
            self._counting = torch.arange(2 * n, dtype=torch.int32, device=self.device)
        return self._counting[:n]


class FixedTables:
    """Tables of a recorded step: they stay where they are. A step's are sent in one copy; the
    slots are written out on the device, by :meth:`expand`.

    Args:
        rows: of the batch.
        place: int32 [pages], where the slots are written.
    """

    def __init__(self, rows: int, place: torch.Tensor):
        self.rows, self.kv_indices = rows, place
        lengths = [2 * rows, rows + 1, 1, 3 * MOST_RUNS]  # the first are int64
        self._here = torch.zeros(sum(lengths), dtype=torch.int32, pin_memory=place.is_cuda)
        self._there = self._here.to(place.device)
        slots, self._kv_indptr, self._count, self._runs = torch.split(self._here, lengths)
        self._slots = slots.view(torch.int64)
        slots, self.kv_indptr, self.count, runs = torch.split(self._there, lengths)
        self.new_slots = slots.view(torch.int64)
        """[rows] int64: where each row's new token goes."""
        self.runs = runs.view(MOST_RUNS, 3)

    def fill(self, reads: Sequence[Runs], slots: Sequence[int] = ()) -> np.ndarray:
        """Send what the rows read, and their new tokens' ``slots``. Returns ``kv_indptr``."""
        runs = np.array([run for one in reads for run in one], dtype=np.int64).reshape(-1, 2)
        lengths = runs[:, 1] - runs[:, 0]
        ends = np.concatenate(([0], np.cumsum(lengths)))
        table = np.stack([ends[:-1], runs[:, 0], lengths], axis=1)
        first = np.concatenate(([0], np.cumsum([len(one) for one in reads])))
        kv_indptr = self._kv_indptr.numpy()
        kv_indptr[:] = ends[first]
        self._count.numpy()[0] = len(runs)
        self._runs.numpy()[: table.size] = table.ravel()
        self._slots.numpy()[: len(slots)] = slots
        used = len(self._here) - len(self._runs) + table.size
        self._there[:used].copy_(self._here[:used], non_blocking=True)
        return kv_indptr

    def expand(self) -> None:
        """Write the slots to ``kv_indices``; can be recorded."""
        expand_runs(self.runs, self.count, self.kv_indices)


def clip(runs: Runs, start: int, stop: int) -> list[tuple[int, int]]:
    """The slots at positions ``start .. stop`` of ``runs``."""
    out = []
    for first, last in runs:
        if stop <= 0:
            break
        low, high = first + max(0, start), min(last, first + stop)
        if low < high:
            out.append((low, high))
        start, stop = start - (last - first), stop - (last - first)
    return out
