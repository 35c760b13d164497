"""Which queries read which KV, worked out once per step and used by every layer.

A row's keys fall into three kinds:

* **segments**: long runs of slots that all of the row's queries see whole. Rows that hold the
  same slots (a shared prefix in the radix tree, a fork) read a segment together, once: this is
  cascade attention, and it follows from the tree alone.
* **causal**: the row's own new tokens, when there is more than one.
* **scattered**: what is left of a decoding row, short runs here and there; they are gathered,
  padded and read in one call for all rows.

The partial results are merged by their log-sum-exp (FlashAttention; FlashInfer, "cascade").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from .base import Row
from .tables import clip

MIN_SEGMENT = 512
"""Least tokens, counted once for each row that reads them, that make a segment. Below, one more
call and its merge cost more than gathering the slots with the rest."""


@dataclass(slots=True)
class Segment:
    """KV that a set of queries sees whole."""

    slots: slice | torch.Tensor
    """A run of slots (read as a view) or slot numbers [L] (gathered)."""
    queries: slice | torch.Tensor
    """Token numbers in the batch."""


@dataclass(slots=True)
class Scattered:
    """Padded leftovers of decoding rows."""

    slots: torch.Tensor
    """[rows, longest], padded with a slot of the same row."""
    queries: slice | torch.Tensor
    """One token number a row."""
    mask: torch.Tensor | None
    """[rows, 1, 1, longest] added to the scores: 0 or -inf. None: all the same length."""


@dataclass(slots=True)
class Plan:
    """The attention of one step."""

    rows: list[Row]
    new_slots: torch.Tensor
    """[N] slot of each new token."""
    segments: list[Segment] = field(default_factory=list)
    causal: list[tuple[int, int]] = field(default_factory=list)
    """Token ranges in the batch."""
    scattered: Scattered | None = None
    merge: bool = False
    """Whether some query gets more than one partial result."""
    local: dict[int | None, Any] = field(default_factory=dict)
    """What a backend works out once a step for each width of window."""
    longest: int = 0
    """Positions of the longest row: a window as wide hides nothing."""

    @property
    def tokens(self) -> int:
        """Tokens in the batch."""
        return len(self.new_slots)


def make_plan(rows: list[Row], device: torch.device) -> Plan:
    """Sort the keys of ``rows`` into segments, causal ranges and scattered leftovers."""
    new_slots: list[int] = []
    causal: list[tuple[int, int]] = []
    reads: list[tuple[int, int]] = []  # token range of each row's queries
    visible: list[list[tuple[int, int]]] = []  # runs that all of a row's queries see
    at = 0
    for row in rows:
        new_slots += row.slots[row.start : row.start + row.count]
        reads.append((at, at + row.count))
        if row.count > 1:
            causal.append((at, at + row.count))
            visible.append(clip(row.runs, 0, row.start))
        else:  # the one new token is written first, and sees itself
            visible.append(clip(row.runs, 0, row.start + 1))
        at += row.count
    plan = Plan(rows, torch.tensor(new_slots, device=device), causal=causal)

    shared, leftover = _share(visible)
    for (start, stop), members in shared:
        plan.segments.append(Segment(slice(start, stop), _queries(reads, members, device)))
    short: list[int] = []
    for i, slots in enumerate(leftover):
        if not slots:
            continue
        if rows[i].count > 1:
            plan.segments.append(Segment(torch.tensor(slots, device=device), slice(*reads[i])))
        else:
            short.append(i)
    if short:
        plan.scattered = pad_slots(
            [leftover[i] for i in short], _queries(reads, short, device), device
        )
    plan.longest = max((row.start + row.count for row in rows), default=0)
    parts = len(plan.segments) + len(plan.causal) + (plan.scattered is not None)
    plan.merge = parts > 1
    return plan


def _share(
    visible: list[list[tuple[int, int]]],
) -> tuple[list[tuple[tuple[int, int], list[int]]], list[list[int]]]:
    """Split runs where rows part, and tell which rows read which piece.

    Returns:
        ((start, stop), rows) per segment, and per row the slots that made no segment.
    """
    cuts = sorted({edge for runs in visible for run in runs for edge in run})
    place = {edge: i for i, edge in enumerate(cuts)}
    members: dict[int, list[int]] = {}
    for i, runs in enumerate(visible):
        for start, stop in runs:
            for piece in range(place[start], place[stop]):
                members.setdefault(piece, []).append(i)
    segments: list[tuple[tuple[int, int], list[int]]] = []
    leftover: list[list[int]] = [[] for _ in visible]
    for piece in sorted(members):
        start, stop, rows = cuts[piece], cuts[piece + 1], members[piece]
        if segments and segments[-1][0][1] == start and segments[-1][1] == rows:
            segments[-1] = ((segments[-1][0][0], stop), rows)
        else:
            segments.append(((start, stop), rows))
    kept = []
    alone = len(visible) == 1 and len(visible[0]) == 1  # nothing to merge: read as it lies
    for (start, stop), rows in segments:
        if (stop - start) * len(rows) >= MIN_SEGMENT or alone:
            kept.append(((start, stop), rows))
        else:
            for i in rows:
                leftover[i].extend(range(start, stop))
    return kept, leftover


def _queries(
    reads: list[tuple[int, int]], members: list[int], device: torch.device
) -> slice | torch.Tensor:
    """Token numbers of some rows; a slice when they lie side by side."""
    ranges = [reads[i] for i in members]
    if all(a[1] == b[0] for a, b in pairwise(ranges)):
        return slice(ranges[0][0], ranges[-1][1])
    return torch.tensor([t for start, stop in ranges for t in range(start, stop)], device=device)


def pad_slots(
    slots: list[list[int]], queries: slice | torch.Tensor, device: torch.device
) -> Scattered:
    """One query a row over that row's ``slots``, padded to the longest."""
    longest = max(map(len, slots))
    # Not slot 0: what was never written may be NaN, and 0 * NaN is NaN.
    padded = torch.tensor([s + s[:1] * (longest - len(s)) for s in slots], device=device)
    lengths = [len(s) for s in slots]
    if min(lengths) == longest:
        return Scattered(padded, queries, None)
    outside = torch.arange(longest, device=device) >= torch.tensor(lengths, device=device)[:, None]
    mask = torch.zeros(outside.shape, device=device).masked_fill_(outside, float("-inf"))
    return Scattered(padded, queries, mask[:, None, None, :])
