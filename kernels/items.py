"""Work items: how attention is cut into programs.

An item is a tile of up to ``block_m`` packed rows, each a (query, query head of the key head)
pair, and a range of keys. It is 8 int32:

    first      where its segment's queries begin (in the list of queries, if there is one)
    count      how many queries the segment has; 0 = no item
    tile       which tile of the segment's count * group packed rows
    begin, end its keys, as a range of ``kv_indices``
    own        place in ``kv_indices`` of the first query's own key: query j of the segment sees
               the keys up to ``own + j``
    part       partial result of query 0; query j's is ``part + j * parts``
    parts      partial results of each query

Long ranges are cut into chunks, so that a batch of any shape fills the GPU (FlashDecoding,
split-k); the partial results are merged by their log-sum-exp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from ._device import multiprocessors, uses_triton

FIELDS = 8
LEAST_CHUNK = 128
"""Fewest keys in a chunk: below, the merge costs more than the chunk saves."""
WAVES = 2
"""Programs per multiprocessor that a split aims at."""
NO_WINDOW = 1 << 30


class Heads(NamedTuple):
    """Shape of the attention."""

    q_heads: int
    kv_heads: int
    head_dim: int

    @property
    def group(self) -> int:
        """Query heads of one key head."""
        return self.q_heads // self.kv_heads


@dataclass(slots=True)
class Partials:
    """Room for partial results."""

    out: torch.Tensor
    """[parts, query heads, head size] float32."""
    lse: torch.Tensor
    """[parts, query heads] float32, natural logarithm."""

    @classmethod
    def empty(cls, parts: int, heads: Heads, device: torch.device) -> Partials:
        """Room for ``parts`` results of a query."""
        shape = (parts, heads.q_heads, heads.head_dim)
        out = torch.empty(shape, dtype=torch.float32, device=device)
        return cls(out, torch.empty(shape[:2], dtype=torch.float32, device=device))


class RowPlan:
    """The items of a ragged batch in which each row attends to its own keys.

    Nothing is allocated after construction, and :meth:`fill` reads the lengths on the device, so
    both it and the attention can be captured in a CUDA graph.

    Args:
        rows: rows of the batch (B).
        tokens: queries of the batch (N). ``tokens == rows`` with ``one_each`` is decoding.
        heads: shape of the attention.
        device: of all tensors.
        one_each: each row has one query; ``qo_indptr`` is not read.
        programs: programs that a split aims at, None for :data:`WAVES` a multiprocessor.
        split: cut long ranges of keys; None: only when the batch alone does not fill the GPU.
    """

    def __init__(
        self,
        rows: int,
        tokens: int,
        heads: Heads,
        device: torch.device,
        one_each: bool = False,
        programs: int | None = None,
        split: bool | None = None,
    ):
        self.rows, self.tokens, self.heads, self.one_each = rows, tokens, heads, one_each
        programs = programs or WAVES * multiprocessors(device)
        self.block_m = tile_rows(tokens * heads.group / max(rows, 1), heads.head_dim)
        tiles = rows if one_each else tokens * heads.group // self.block_m + rows
        if one_each and heads.group > self.block_m:
            tiles = rows * -(-heads.group // self.block_m)
        self.split = tiles * heads.kv_heads < programs if split is None else split
        self.programs = -(-programs // heads.kv_heads)
        self.items_used = tiles + self.programs * self.split
        self.items = torch.empty(self.items_used, FIELDS, dtype=torch.int32, device=device)
        self.merge_indptr = torch.empty(tokens + 1, dtype=torch.int32, device=device)
        each = 1 if one_each else self.block_m // heads.group + 1
        parts = tokens + self.programs * each if self.split else 0
        self.partials = Partials.empty(parts, heads, device)
        self.qo_indptr: torch.Tensor | None = None
        self.kv_indptr = torch.zeros(rows + 1, dtype=torch.int32, device=device)
        self.window = NO_WINDOW

    def fill(
        self, qo_indptr: torch.Tensor | None, kv_indptr: torch.Tensor, window: int | None = None
    ) -> RowPlan:
        """Make the items of a batch.

        Args:
            qo_indptr: int32 [B + 1] queries of each row; None with ``one_each``.
            kv_indptr: int32 [B + 1] keys of each row, its new tokens' included, which come last.
                A row without keys gives zeros.
            window: each query sees only its last ``window`` keys, its own among them.

        Raises:
            ValueError: a table has the wrong length.
        """
        for name, table in (("qo_indptr", qo_indptr), ("kv_indptr", kv_indptr)):
            if table is not None and len(table) != self.rows + 1:
                raise ValueError(f"{name}: must have {self.rows + 1} entries, got {len(table)}")
        self.qo_indptr, self.kv_indptr, self.window = qo_indptr, kv_indptr, window or NO_WINDOW
        if uses_triton(kv_indptr):
            self._launch()
        return self

    def _launch(self) -> None:
        import triton

        from ._plan_triton import plan_kernel

        block_b = max(16, triton.next_power_of_2(self.rows))
        block_t = max(4, min(128, 8192 // block_b))
        entries = max(self.items_used, self.tokens + 1 if self.split else 0)
        plan_kernel[(triton.cdiv(entries, block_t),)](
            self.kv_indptr if self.qo_indptr is None else self.qo_indptr,
            self.kv_indptr,
            self.items,
            self.merge_indptr,
            self.rows,
            self.items_used,
            self.tokens,
            self.window,
            self.programs,
            LEAST_CHUNK,
            G=self.heads.group,
            BLOCK_B=block_b,
            BLOCK_T=block_t,
            BLOCK_M=self.block_m,
            BLOCK_N=LEAST_CHUNK,
            ONE_EACH=self.one_each,
            SPLIT=self.split,
        )


def tile_rows(mean: float, head_dim: int) -> int:
    """Packed rows of a tile for rows of ``mean`` packed rows: the tensor cores' least, 16, for
    decoding, more the more there are."""
    if mean <= 16:
        return 16
    return 64 if mean <= 64 or head_dim > 128 else 128
