"""Attention over segments of keys that several queries share, each read once for all of them.

When 32 forks decode behind one prefix, decode attention reads the prefix 32 times; here its keys
are loaded once per step for a tile of (query, head) rows on the tensor cores, each row's own
rest is a segment of its own, and the partial results are merged by their log-sum-exp.

Source: cascade inference (FlashInfer, Ye et al. 2024), Hydragen (Juravsky et al. 2024). Limit:
each segment's keys and values are read once, 2 * key heads * head size * itemsize bytes a
position, plus the partial results, 8 * query heads * head size bytes written and read.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from ._device import multiprocessors, uses_triton
from .attend import Scores, attend_reference, heads_of, launch
from .items import FIELDS, LEAST_CHUNK, NO_WINDOW, WAVES, Heads, Partials, tile_rows
from .merge import merge_states


@dataclass(frozen=True, slots=True)
class Segments:
    """Which queries read which keys, in host memory (int32 or int64 arrays)."""

    kv_indptr: np.ndarray
    """[S + 1] keys of each segment, as ranges of ``kv_indices``."""
    q_indptr: np.ndarray
    """[S + 1] queries of each segment, as ranges of ``queries``."""
    queries: np.ndarray
    """[nnz] query numbers."""
    visible: np.ndarray | None = None
    """[S] keys that a segment's first query sees; each later one sees one more (a row's own new
    tokens, in order). None: every query sees the whole segment."""


@dataclass(slots=True)
class _Group:
    """Segments that are computed with one tile size, by one launch."""

    block_m: int
    at: int
    """First item."""
    room: int
    """Items reserved."""


class CascadePlan:
    """The items of a batch of shared segments, made on the host.

    Tensors have fixed places and sizes, and :meth:`fill` copies into them once: a captured graph
    can be replayed after another fill.

    Args:
        tokens: queries of the batch (N).
        heads: shape of the attention.
        device: of all tensors.
        segments: most segments.
        readers: most (segment, query) pairs.
        programs: programs that a split aims at, None for two a multiprocessor.
    """

    def __init__(
        self,
        tokens: int,
        heads: Heads,
        device: torch.device,
        segments: int,
        readers: int,
        programs: int | None = None,
    ):
        self.tokens, self.heads = tokens, heads
        programs = programs or WAVES * multiprocessors(device)
        self.programs = -(-programs // heads.kv_heads)
        sizes = sorted({tile_rows(mean, heads.head_dim) for mean in (heads.group, 1 << 20)})
        self._groups = []
        at = 0
        for block_m in sizes:
            room = segments + readers * heads.group // block_m + self.programs
            self._groups.append(_Group(block_m, at, room))
            at += room
        # A segment's queries that fit no tile evenly cost one more tile: see RowPlan.
        each = sizes[-1] // heads.group + 1
        self._parts = readers + self.programs * (each + 1)
        self.partials = Partials.empty(self._parts, heads, device)
        lengths = {
            "items": at * FIELDS,
            "queries": readers,
            "merge_indptr": tokens + 1,
            "merge_indices": self._parts,
        }
        self._host = torch.zeros(sum(lengths.values()), dtype=torch.int32)
        if device.type == "cuda":
            self._host = self._host.pin_memory()
        self._device = self._host.to(device)
        places = np.cumsum([0, *lengths.values()])
        self._places = {
            name: slice(*bounds) for name, bounds in zip(lengths, pairwise(places), strict=True)
        }
        self.segments: Segments | None = None

    def table(self, name: str) -> torch.Tensor:
        """One of "items", "queries", "merge_indptr", "merge_indices" on the device."""
        return self._device[self._places[name]]

    def fill(self, segments: Segments) -> CascadePlan:
        """Make the items of a batch.

        Raises:
            ValueError: there are more segments or readers than the plan was made for.
        """
        self.segments = segments
        keys, counts = np.diff(segments.kv_indptr), np.diff(segments.q_indptr)
        visible = keys if segments.visible is None else segments.visible
        chunk = np.ones(len(keys), dtype=np.int64)
        picks = self._pick(counts)
        for group, pick in zip(self._groups, picks, strict=True):
            tiles = -(-counts[pick] * self.heads.group // group.block_m)
            fair = -(-int((tiles * keys[pick]).sum()) // self.programs)
            # Long enough that the keys outweigh the partial results of the tile.
            least = max(LEAST_CHUNK, 2 * group.block_m)
            chunk[pick] = -(-max(fair, least) // LEAST_CHUNK) * LEAST_CHUNK
        chunks = np.where(counts > 0, -(-keys // chunk), 0)
        part = np.concatenate([[0], np.cumsum(counts * chunks)])
        if part[-1] > self._parts or len(segments.queries) > self._size("queries"):
            raise ValueError(f"segments: the plan has room for {self._size('queries')} readers")
        host = self._host.numpy()
        host[self._places["items"]] = 0
        items = host[self._places["items"]].reshape(-1, FIELDS)
        for group, pick in zip(self._groups, picks, strict=True):
            made = self._items(segments, np.flatnonzero(pick), group, visible, chunk, chunks, part)
            if len(made) > group.room:
                raise ValueError("segments: more than the plan has room for")
            items[group.at : group.at + len(made)] = made
        host[self._places["queries"]][: len(segments.queries)] = segments.queries
        self._merge_table(host, segments, counts, chunks, part)
        self._device.copy_(self._host, non_blocking=True)
        return self

    def _size(self, name: str) -> int:
        return self._places[name].stop - self._places[name].start

    def _pick(self, counts: np.ndarray) -> list[np.ndarray]:
        """Which segments each group computes."""
        small = counts * self.heads.group <= self._groups[0].block_m
        return [small, ~small] if len(self._groups) == 2 else [np.ones_like(small)]

    def _items(self, segments, pick, group, visible, chunk, chunks, part) -> np.ndarray:
        counts = np.diff(segments.q_indptr)[pick]
        tiles = -(-counts * self.heads.group // group.block_m)
        n = tiles * chunks[pick]
        of = np.repeat(np.arange(len(pick)), n)
        local = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        seg = pick[of]
        piece, tile = local // np.maximum(tiles[of], 1), local % np.maximum(tiles[of], 1)
        begin = segments.kv_indptr[seg] + piece * chunk[seg]
        return np.stack(
            [
                segments.q_indptr[seg],
                counts[of],
                tile,
                begin,
                np.minimum(begin + chunk[seg], segments.kv_indptr[seg + 1]),
                segments.kv_indptr[seg] + visible[seg] - 1,
                part[seg] + piece,
                chunks[seg],
            ],
            axis=1,
        )

    def _merge_table(self, host, segments, counts, chunks, part) -> None:
        """Which parts each query merges."""
        seg = np.repeat(np.arange(len(counts)), counts)
        j = np.arange(len(seg)) - np.repeat(segments.q_indptr[:-1], counts)
        each = chunks[seg]
        first = np.repeat(part[seg] + j * each, each)
        parts = first + np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        query = np.repeat(segments.queries, each)
        order = np.argsort(query, kind="stable")
        host[self._places["merge_indices"]][: len(order)] = parts[order]
        ends = np.cumsum(np.bincount(query, minlength=self.tokens))
        host[self._places["merge_indptr"]] = np.concatenate([[0], ends])


def cascade_attention(
    plan: CascadePlan,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    kv_indices: torch.Tensor,
    scores: Scores,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend: arguments as :func:`~sglnb.kernels.extend.extend_attention`, except that
    ``kv_indices`` holds the slots of the plan's segments. Sliding windows are not for segments
    that rows share: use decode attention where a window cuts."""
    if not uses_triton(q):
        return cascade_reference(plan.segments, q, k, v, kv_indices, scores, out, lse)
    if heads_of(q, k) != plan.heads:
        raise ValueError(f"plan: made for {plan.heads}, got {heads_of(q, k)}")
    into = plan.partials
    items = plan.table("items").view(-1, FIELDS)
    for group in plan._groups:
        launch(
            q,
            k,
            v,
            items[group.at : group.at + group.room],
            plan.table("queries"),
            kv_indices,
            into.out,
            into.lse,
            scores,
            NO_WINDOW,
            group.block_m,
            split=True,
        )
    return merge_states(into, plan.table("merge_indptr"), plan.table("merge_indices"), out, lse)


def cascade_reference(
    segments: Segments,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    kv_indices: torch.Tensor,
    scores: Scores,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in float32: each query's segments behind one another, as one set of keys."""
    mine: list[list[torch.Tensor]] = [[] for _ in range(len(q))]
    for s in range(len(segments.kv_indptr) - 1):
        begin, end = segments.kv_indptr[s : s + 2]
        readers = segments.queries[segments.q_indptr[s] : segments.q_indptr[s + 1]]
        for j, query in enumerate(readers.tolist()):
            stop = end if segments.visible is None else min(end, begin + segments.visible[s] + j)
            mine[query].append(kv_indices[begin : max(stop, begin)])
    for query, pieces in enumerate(mine):
        slots = torch.cat(pieces).long() if pieces else kv_indices[:0].long()
        own = torch.tensor([len(slots) - 1], device=q.device)
        part = q[query : query + 1]
        o, o_lse = attend_reference(part, k[slots], v[slots], own, scores)
        out[query], lse[query] = o[0].to(out.dtype), o_lse[0]
    return out, lse
