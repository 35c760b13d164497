"""Attention whose bits depend on a token's own text and position alone.

Floating-point sums depend on their order, and kernels choose the order by the shapes they are
given. So here the shapes are a function of the position:

* queries are computed in tiles that begin at fixed positions (0, T, 2T, ...); the tile's other
  tokens are there or they are zeros, which changes nothing in the token's own row;
* a tile reads the keys from its window's start to its own end, both rounded to fixed
  boundaries, gathered in the order of positions; what it must not see is masked with -inf;
* nothing is merged from parts, so it does not matter what the cache or other requests share.

Tiles with as many keys are computed in one call, as elements of a batch that do not know of one
another. Query rows come in eights, so that each thread's scratch memory begins on a cache line:
MKL's small products round differently when it does not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..kv_cache import KVCache
from .base import AttentionBackend, Row, Scoring

KEYS = 64
"""Keys are read in multiples of this."""

QUERY_ROWS = 8
"""Query rows of a key head are computed in multiples of this."""

MOST_SLOTS = 1 << 16
"""Slots gathered in one call at most, to bound the memory."""

_flash_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class TilePlan:
    """The rows of one step, and their tiles by window."""

    def __init__(self, rows: list[Row], device: torch.device):
        self.rows = rows
        slots = [s for row in rows for s in row.slots[row.start : row.start + row.count]]
        self.new_slots = torch.tensor(slots, device=device)
        self.calls: dict[int | None, list[_Call]] = {}


class _Tile(NamedTuple):
    """Some tokens of one row, side by side."""

    row: Row
    start: int
    """Position of the tile's first query, whether it is computed now or not."""
    first: int
    """Position of the first key."""
    keys: int
    tokens: range
    """Token numbers in the batch."""
    place: int
    """Where in the tile the first of them is."""


class _Call(NamedTuple):
    """Tiles with as many keys."""

    tokens: torch.Tensor
    """[n] token numbers in the batch."""
    places: torch.Tensor
    """[n] their places among the tiles' queries."""
    tiles: int
    slots: torch.Tensor
    """[tiles or 1, keys]: all tiles of a call read the same keys, or each its own."""
    mask: torch.Tensor
    """[tiles, 1, query rows, keys]."""


class DeterministicAttention(AttentionBackend):
    """Causal attention in float32 on a CPU, the same bits in every batch."""

    name = "deterministic"

    def __init__(self, device: torch.device):
        self.device = device

    def plan(self, rows: list[Row]) -> TilePlan:
        return TilePlan(rows, self.device)

    def attend(
        self,
        plan: TilePlan,
        layer: int,
        kv: KVCache,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scoring: Scoring,
    ) -> torch.Tensor:
        scale, window, softcap, sinks = scoring
        if softcap or sinks is not None:
            raise ValueError(
                "deterministic: this model's attention has a soft cap or sinks, which are not "
                "computed in tiles; use deterministic=False"
            )
        kv.write(layer, plan.new_slots, k, v)
        heads, (n_heads, dim) = k.shape[1], q.shape[1:]
        group = n_heads // heads
        size = max(1, QUERY_ROWS // group)
        if window not in plan.calls:
            plan.calls[window] = _calls(plan.rows, size, group, window, heads, self.device)
        out = torch.empty(q.shape, dtype=q.dtype)
        for call in plan.calls[window]:
            tiles = call.tiles
            part = q.new_zeros(tiles * size, n_heads, dim)
            part[call.places] = q[call.tokens]
            folded = part.view(tiles, size, heads, group, dim).transpose(1, 2)
            folded = folded.reshape(tiles, heads, size * group, dim)
            folded = F.pad(folded, (0, 0, 0, call.mask.shape[2] - size * group))
            keys, values = (
                x[call.slots].transpose(1, 2).expand(tiles, -1, -1, -1)
                for x in (kv.k[layer], kv.v[layer])
            )
            o = _flash_cpu(folded, keys, values, 0.0, False, attn_mask=call.mask, scale=scale)[0]
            o = o[:, :, : size * group].view(tiles, heads, size, group, dim).transpose(1, 2)
            out[call.tokens] = o.reshape(tiles * size, n_heads, dim)[call.places]
        return out


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


def _tiles(rows: list[Row], size: int, window: int | None) -> list[_Tile]:
    """The tiles that hold a new token."""
    out, at = [], 0
    for row in rows:
        position, stop = row.start, row.start + row.count
        while position < stop:
            start = position // size * size
            end = min(start + size, stop)
            first = 0 if window is None else max(0, start + 1 - window) // KEYS * KEYS
            keys = _up(start + size, KEYS) - first
            tokens = range(at + position - row.start, at + end - row.start)
            out.append(_Tile(row, start, first, keys, tokens, position - start))
            position = end
        at += row.count
    return out


def _calls(
    rows: list[Row],
    size: int,
    group: int,
    window: int | None,
    heads: int,
    device: torch.device,
) -> list[_Call]:
    """Tiles of the same row and keys, or decoding tiles with as many keys, computed together."""
    together: dict[tuple[int, int, int], list[_Tile]] = {}
    for tile in _tiles(rows, size, window):
        whose = id(tile.row) if tile.row.count > size else 0
        most = 0 if whose else max(1, MOST_SLOTS // tile.keys)
        key = (whose, tile.first if whose else 0, tile.keys)
        batch = together.setdefault(key, [])
        if most and len(batch) == most:
            batch = together[key] = []
        batch.append(tile)
    return [
        _call(tiles, key[0] != 0, size, group, window, heads, device)
        for key, tiles in together.items()
    ]


def _call(
    tiles: list[_Tile],
    shared: bool,
    size: int,
    group: int,
    window: int | None,
    heads: int,
    device: torch.device,
) -> _Call:
    tokens = [t for tile in tiles for t in tile.tokens]
    places = [
        i * size + tile.place + j for i, tile in enumerate(tiles) for j in range(len(tile.tokens))
    ]
    if heads == 1 and len(tiles) == 1:
        # One piece of work alone is not done in a parallel region, but by MKL with threads of
        # its own, which may share it out otherwise.
        tiles = tiles * 2
    query = torch.tensor([tile.start for tile in tiles])[:, None] + torch.arange(size)
    key = torch.tensor([tile.first for tile in tiles])[:, None] + torch.arange(tiles[0].keys)
    hidden = key[:, None] > query[..., None]
    if window is not None:
        hidden |= key[:, None] <= query[..., None] - window
    mask = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
    mask = mask.repeat_interleave(group, 1)
    mask = F.pad(mask, (0, 0, 0, _up(size * group, QUERY_ROWS) - size * group))
    slots = [_slots(tile) for tile in (tiles[:1] if shared else tiles)]
    return _Call(
        torch.tensor(tokens, device=device),
        torch.tensor(places, device=device),
        len(tiles),
        torch.tensor(slots, device=device),
        mask[:, None].to(device),
    )


def _slots(tile: _Tile) -> list[int]:
    """The tile's keys in order, padded with a slot of its row: what was never written may be
    NaN, and a masked NaN is NaN."""
    row = tile.row
    slots = row.slots[tile.first : min(tile.first + tile.keys, row.start + row.count)]
    return slots + row.slots[:1] * (tile.keys - len(slots))
