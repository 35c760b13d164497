"""Attention by our own Triton kernels over the pool; see :mod:`sglnb.kernels.attend`.

They read slots, whatever the page size, and take any dtype and head size. A batch's work is laid
out on the device from its rows' lengths, once for each window; where rows begin with the same KV,
segments take the place of rows and the shared one is read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sglnb.kernels.attend import Scores
from sglnb.kernels.cascade import CascadePlan, Segments, cascade_attention
from sglnb.kernels.decode import decode_plan
from sglnb.kernels.extend import extend_attention
from sglnb.kernels.items import Heads, RowPlan

from ..kv_cache import KVCache
from .base import RecordableAttention, Row, Scoring
from .cascade import Group, find_groups
from .tables import MOST_RUNS, FixedTables, Runs, TableBuilder, Tables, clip

SAVED = 32 * 2**20
"""Bytes of KV in one layer that make a group (see ``least``). On an H200, 32 rows behind 4,000
tokens: a recorded step of 1.58 ms without cascade and 1.38 with it where that saves 63 MB, 2.65
and 1.48 at 254 MB, 8.98 and 5.70 at 508 MB."""

CAPACITY = 1 << 22
"""Positions of all rows together in a captured step; their slots take 16 MB."""

CASCADED = 1024
"""Most new tokens of a step that reads shared prefixes once: each partial result is kept in
float32 until it is merged."""


@dataclass(slots=True)
class TritonPlan:
    """The attention of one step."""

    rows: list[Row]
    groups: list[Group]
    new_slots: torch.Tensor
    """[N] slot of each new token."""
    longest: int
    """Positions of the longest row: a window as wide hides nothing."""
    tables: Tables | FixedTables | None = None
    """What each row reads, its share of a common prefix too."""
    by_window: dict[tuple[Heads, int | None], RowPlan] = field(default_factory=dict)
    segments: Segments | None = None
    """The groups' prefixes and the rows' rests."""
    slots: torch.Tensor | None = None
    """The slots that ``segments`` speaks of."""
    pieces: FixedTables | None = None
    """A fixed plan's tables of ``segments``."""
    cascades: dict[Heads, CascadePlan] = field(default_factory=dict)
    fixed: bool = False
    """Its tables stay where they are."""
    shared: bool = False
    """A fixed plan that reads common prefixes once."""
    layer: int = 1 << 30
    """That attended last."""
    ready: set[Any] = field(default_factory=set)
    """What a fixed plan's pass has made of its tables so far."""


class TritonAttention(RecordableAttention):
    """The kernels of :mod:`sglnb.kernels`.

    Args:
        device: of the pool. Without CUDA the kernels' references compute.
        token_bytes: of one token's KV in one layer.
    """

    name = "triton"
    capacity = CAPACITY

    def __init__(self, device: torch.device, token_bytes: int):
        self.device = device
        self.least = max(1, SAVED // token_bytes)
        self._tables = TableBuilder(device, 1)  # slots, whatever the pool's pages
        self._places: dict[str, torch.Tensor] = {}
        """Slots of the fixed plans, of which one is in use at a time."""

    # -- plans -----------------------------------------------------------------------------

    def plan(self, rows: list[Row]) -> TritonPlan:
        longest = max((row.start + row.count for row in rows), default=0)
        few = sum(row.count for row in rows) <= CASCADED
        groups = find_groups(rows, 1, self.least) if few else []
        return TritonPlan(rows, groups, self._tables.slots(rows), longest)

    def fits(self, rows: list[Row]) -> bool:
        # Each shared prefix and each row's rest may cut a run in two.
        runs = sum(len(row.runs) for row in rows) + 2 * len(rows)
        return runs <= MOST_RUNS and super().fits(rows)

    def fixed_plan(self, size: int, shared: bool) -> TritonPlan:
        tables = FixedTables(size, self._place("rows"))
        plan = TritonPlan([], [], tables.new_slots, 0, tables, fixed=True, shared=shared)
        if shared:
            plan.slots = self._place("segments")
            plan.pieces = FixedTables(2 * size, plan.slots)
        return plan

    def refill(self, plan: TritonPlan, rows: list[Row], groups: Sequence[Group]) -> None:
        plan.rows, plan.groups = rows, list(groups)
        plan.longest = max(row.start + 1 for row in rows)
        reads = [clip(row.runs, 0, row.start + 1) for row in rows]
        plan.tables.fill(reads, [row.slots[row.start] for row in rows])
        if plan.shared:
            reads, readers, visible = self._cut(plan)
            reads += [[]] * (plan.pieces.rows - len(reads))
            kv_indptr = plan.pieces.fill(reads)[: len(readers) + 1]
            plan.segments = _segments_of(kv_indptr, readers, visible)
            for cascade in plan.cascades.values():
                cascade.fill(plan.segments)

    def _place(self, what: str) -> torch.Tensor:
        if what not in self._places:
            self._places[what] = torch.zeros(self.capacity, dtype=torch.int32, device=self.device)
        return self._places[what]

    def _whole(self, rows: list[Row]) -> Tables:
        reads = [clip(row.runs, 0, row.start + row.count) for row in rows]
        return self._tables.build(reads, [row.count for row in rows])

    def _cut(self, plan: TritonPlan) -> tuple[list[Runs], list[np.ndarray], list[int]]:
        """The batch as segments, the groups' prefixes first, then each row's rest: what each
        reads, which queries read it, and how many of its keys the first of them sees."""
        rows, groups = plan.rows, plan.groups
        first = np.concatenate(([0], np.cumsum([row.count for row in rows])))
        skip = [0] * len(rows)
        reads, readers, visible = [], [], []
        for group in groups:
            reads.append(clip(rows[group.rows[0]].runs, 0, group.length))
            readers.append(np.concatenate([np.arange(first[i], first[i + 1]) for i in group.rows]))
            visible.append(group.length)
            for i in group.rows:
                skip[i] = group.length
        for i, (row, n) in enumerate(zip(rows, skip, strict=True)):
            reads.append(clip(row.runs, n, row.start + row.count))
            readers.append(np.arange(first[i], first[i + 1]))
            visible.append(row.start - n + 1)
        return reads, readers, visible

    def _segments(self, plan: TritonPlan) -> tuple[Segments, torch.Tensor]:
        """The segments of a plan that is used once, and their slots."""
        reads, readers, visible = self._cut(plan)
        tables = self._tables.build(reads, [len(r) for r in readers])
        return _segments_of(tables.host[1].numpy(), readers, visible), tables.kv_indices

    # -- kernels ---------------------------------------------------------------------------

    def attend(
        self,
        plan: TritonPlan,
        layer: int,
        kv: KVCache,
        q: torch.Tensor,
        k: torch.Tensor | None,
        v: torch.Tensor | None,
        scoring: Scoring,
    ) -> torch.Tensor:
        scale, window, softcap, sinks = scoring
        if layer <= plan.layer:  # a pass begins
            plan.ready.clear()
        plan.layer = layer
        if k is not None:
            kv.write(layer, plan.new_slots, k, v)
        if window is not None and window >= plan.longest and not plan.fixed:
            window = None
        if q.stride()[1:] != (q.shape[2], 1):
            q = q.contiguous()
        heads = Heads(q.shape[1], kv.k.shape[2], q.shape[2])
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        lse = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
        pool, scores = (kv.k[layer], kv.v[layer]), Scores(scale, softcap)
        if window is None and (plan.shared if plan.fixed else plan.groups):
            cascade = self._cascade(plan, heads)
            cascade_attention(cascade, q, *pool, plan.slots, scores, out, lse)
        else:
            rows = self._rows(plan, heads, window)
            extend_attention(rows, q, *pool, plan.tables.kv_indices, scores, out, lse)
        if sinks is not None:  # a key without a value takes its share of the sum, no more
            out *= torch.sigmoid(lse - sinks.float())[..., None].to(out.dtype)
        return out

    def _rows(self, plan: TritonPlan, heads: Heads, window: int | None) -> RowPlan:
        made = plan.by_window.get((heads, window))
        if plan.fixed:
            if made is None:
                made = decode_plan(len(plan.rows), heads, self.device)
                plan.by_window[heads, window] = made
            # Recorded: each replay makes these from what was sent.
            if "rows" not in plan.ready:
                plan.tables.expand()
                plan.ready.add("rows")
            if (heads, window) not in plan.ready:
                made.fill(None, plan.tables.kv_indptr, window)
                plan.ready.add((heads, window))
            return made
        if made is not None:
            return made
        n, plan.tables = len(plan.rows), self._whole(plan.rows)
        if all(row.count == 1 for row in plan.rows):
            made = decode_plan(n, heads, self.device)
            made.fill(None, plan.tables.kv_indptr, window)
        else:
            made = RowPlan(n, len(plan.new_slots), heads, self.device)
            made.fill(plan.tables.qo_indptr, plan.tables.kv_indptr, window)
        plan.by_window[heads, window] = made
        return made

    def _cascade(self, plan: TritonPlan, heads: Heads) -> CascadePlan:
        if plan.fixed and "segments" not in plan.ready:
            plan.pieces.expand()
            plan.ready.add("segments")
        known = plan.cascades.get(heads)
        if known is not None:
            return known
        if plan.segments is None:
            plan.segments, plan.slots = self._segments(plan)
        n = len(plan.new_slots)
        segments = 2 * n if plan.fixed else len(plan.segments.kv_indptr) - 1
        readers = 2 * n if plan.fixed else len(plan.segments.queries)
        made = CascadePlan(n, heads, self.device, segments, readers).fill(plan.segments)
        plan.cascades[heads] = made
        return made

    def release(self) -> None:
        self._places.clear()


def _segments_of(kv_indptr: np.ndarray, readers: list[np.ndarray], visible: list[int]) -> Segments:
    # A group's queries see the whole prefix; each of a row's own sees one key more.
    return Segments(
        kv_indptr,
        np.concatenate(([0], np.cumsum([len(r) for r in readers]))).astype(np.int32),
        np.concatenate(readers).astype(np.int32),
        np.array(visible, dtype=np.int32),
    )
