"""What extend, decode and cascade attention share: the launch and the float32 reference.

The kernel's limit: decoding moves 2 * head size * itemsize bytes of each key head and position
that an item reads, and does 4 * head size * group FLOP with them, far below what the tensor cores
could do meanwhile; extending does 4 * head size FLOP for each (query, query head, key) and is
bound by the tensor cores.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ._device import overlap
from .items import NO_WINDOW, Heads


class Scores(NamedTuple):
    """How scores are made from products."""

    scale: float
    """Factor of the scores."""
    softcap: float | None = None
    """Scores become ``softcap * tanh(score / softcap)``."""


class Tile(NamedTuple):
    """A launch's fixed choices. They depend on the shape alone, so nothing is tuned at run time."""

    block_n: int
    warps: int
    stages: int


def tile_for(block_m: int, head_dim: int, itemsize: int, split: bool) -> Tile:
    """Keys in a step, warps and pipeline depth: the fastest of those tried on an H200
    (``benchmarks/gpu_kernels.py --tiles``) among those that in half precision need at most 99 KB
    of shared memory, which smaller GPUs have too.

    A step loads up to 16 KB each of keys and values; the small tiles of decoding and the short rows
    of small heads have room for more. Large tiles take 4 warps, except that chunks (``split``),
    which are short, finish sooner with 8.
    """
    import triton

    row = max(16, triton.next_power_of_2(head_dim)) * itemsize
    block_n = max(16, min(64, 16384 // row))
    if block_m >= 128:
        if split or itemsize > 2:
            return Tile(block_n, 8, 3)
        return Tile(128 if row <= 128 else block_n, 4, 3)
    if block_m == 16 and itemsize == 2 and row <= 256:
        return Tile(128, 4, 3)
    return Tile(block_n, 4, 3)


def launch(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    items: torch.Tensor,
    queries: torch.Tensor | None,
    kv_indices: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    scores: Scores,
    window: int,
    block_m: int,
    split: bool,
) -> None:
    """Compute ``items`` [T, 8] into ``out`` and ``lse``: the batch's, or, with ``split``, the
    partial results'. ``queries`` lists query numbers; None: they are counted through."""
    import triton

    from ._attend_triton import attend_kernel

    heads = heads_of(q, k)
    tile = tile_for(block_m, heads.head_dim, q.element_size(), split)
    attend_kernel[(heads.kv_heads, len(items))](
        q,
        k,
        v,
        items,
        items if queries is None else queries,
        kv_indices,
        out,
        lse,
        scores.scale,
        scores.softcap or 1.0,
        window,
        len(items),
        q.stride(0),
        k.stride(0),
        G=heads.group,
        D=heads.head_dim,
        BLOCK_D=max(16, triton.next_power_of_2(heads.head_dim)),
        BLOCK_M=block_m,
        BLOCK_N=tile.block_n,
        LISTED=queries is not None,
        SPLIT=split,
        WINDOW=window != NO_WINDOW,
        SOFTCAP=bool(scores.softcap),
        num_warps=tile.warps,
        num_stages=tile.stages,
        **overlap(q),
    )


def heads_of(q: torch.Tensor, k: torch.Tensor) -> Heads:
    """The attention's shape, of q [N, query heads, head size] and k [slots, key heads, head size].

    Raises:
        ValueError: they do not fit.
    """
    if q.shape[1] % k.shape[1] or q.shape[2] != k.shape[2]:
        raise ValueError(f"q: shape {tuple(q.shape)} does not fit a pool of {tuple(k.shape)}")
    if q.stride()[1:] != (q.shape[2], 1):
        raise ValueError("q: the heads of a token must lie behind one another")
    return Heads(q.shape[1], k.shape[1], q.shape[2])


def attend_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    own: torch.Tensor,
    scores: Scores,
    window: int = NO_WINDOW,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of some queries over some keys with whole score matrices, in float32.

    Args:
        q: [n, query heads, head size].
        k, v: [keys, key heads, head size].
        own: [n] each query's own key: it sees the keys up to that one.
        window: and of those the last ``window``.

    Returns:
        out [n, query heads, head size] and lse [n, query heads], float32. A query that sees
        nothing gives zeros and -inf.
    """
    group = q.shape[1] // k.shape[1]
    k, v = (x.float().repeat_interleave(group, 1) for x in (k, v))
    products = torch.einsum("qhd,khd->hqk", q.float(), k) * scores.scale
    if scores.softcap:
        products = scores.softcap * torch.tanh(products / scores.softcap)
    key = torch.arange(k.shape[0], device=q.device)
    own = own[:, None]
    seen = (key <= own) & (key > own - window)
    products = products.masked_fill(~seen, float("-inf"))
    lse = products.logsumexp(-1)
    weights = torch.exp(products - lse.masked_fill(lse == float("-inf"), 0.0)[..., None])
    return torch.einsum("hqk,khd->qhd", weights, v), lse.T
