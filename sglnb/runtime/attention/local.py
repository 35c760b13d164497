"""Attention whose scores are not plain: sliding windows and capped scores.

A window changes which keys a query sees, so it has a plan of its own, made once a step for each
width and used by all layers of that width. It reads only what the window lets through:

* decoding rows: their last ``window`` slots, padded and read in one call for all rows;
* longer rows: blocks of queries, each over the keys that one of its queries sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from .base import Row
from .plan import Scattered, pad_slots

BLOCK = 128
"""Queries in a block: beside a window, as many keys again are read in vain."""


class Block(NamedTuple):
    """Some queries of one row and the keys they see."""

    queries: slice
    """Token numbers in the batch."""
    slots: torch.Tensor
    """[L] slots of the keys, in the order of positions."""
    mask: torch.Tensor
    """[queries, L] added to the scores: 0 or -inf."""


@dataclass(slots=True)
class LocalPlan:
    """The attention of one step under one window."""

    blocks: list[Block]
    scattered: Scattered | None
    """Rows with one new token."""


def make_local_plan(rows: list[Row], window: int | None, device: torch.device) -> LocalPlan:
    """Sort the queries of ``rows`` into blocks and decoding rows.

    Args:
        window: each position sees only the last ``window`` positions; None sees all.
    """
    blocks: list[Block] = []
    single: list[int] = []  # token numbers
    short: list[list[int]] = []
    at = 0
    for row in rows:
        stop = row.start + row.count
        if row.count == 1:
            single.append(at)
            short.append(row.slots[_first(row.start, window) : stop])
        else:
            for start in range(row.start, stop, BLOCK):
                end = min(start + BLOCK, stop)
                queries = slice(at + start - row.start, at + end - row.start)
                blocks.append(_block(row, queries, start, end, window, device))
        at += row.count
    scattered = None
    if single:
        everything = len(single) == at
        queries = slice(0, at) if everything else torch.tensor(single, device=device)
        scattered = pad_slots(short, queries, device)
    return LocalPlan(blocks, scattered)


def _first(position: int, window: int | None) -> int:
    """The first position that ``position`` sees."""
    return 0 if window is None else max(0, position + 1 - window)


def _block(
    row: Row, queries: slice, start: int, end: int, window: int | None, device: torch.device
) -> Block:
    first = _first(start, window)
    query = torch.arange(start, end, device=device)[:, None]
    key = torch.arange(first, end, device=device)[None]
    hidden = key > query
    if window is not None:
        hidden |= key <= query - window
    mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, float("-inf"))
    return Block(queries, torch.tensor(row.slots[first:end], device=device), mask)
