"""The KV pool's storage: keys and values of every slot and layer."""

from __future__ import annotations

import torch

SPARE = 16
"""Slots behind the pool's own, a page of either size: the rows that fill a captured step up to its
size write there."""


class KVCache:
    """Tensors [layers, slots, key heads, head size], one for keys and one for values.

    Memory is reserved at once but, on a CPU, only touched as slots are used. There are
    ``SPARE`` more slots than asked for; ``spare`` is the first of them.

    Args:
        layers, slots, heads, head_dim: the shape.
        dtype, device: of the model.
    """

    def __init__(
        self,
        layers: int,
        slots: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self.spare = slots
        shape = (layers, slots + SPARE, heads, head_dim)
        self.k = torch.empty(shape, dtype=dtype, device=device)
        self.v = torch.empty(shape, dtype=dtype, device=device)
        if device.type == "cuda":  # kernels may load a page's unwritten end and mask it: no NaN
            self.k.zero_()
            self.v.zero_()

    @staticmethod
    def bytes_per_token(layers: int, heads: int, head_dim: int, dtype: torch.dtype) -> int:
        """Memory of one slot over all layers, keys and values."""
        return 2 * layers * heads * head_dim * dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes reserved."""
        return self.k.nbytes + self.v.nbytes

    def write(self, layer: int, slots: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        """Store k, v [N, heads, head size] of new tokens at ``slots`` [N]."""
        self.k[layer].index_copy_(0, slots, k)
        self.v[layer].index_copy_(0, slots, v)

    def pages(self, layer: int, page_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a layer as [pages, page_size, heads, head size]."""
        shape = (-1, page_size, *self.k.shape[2:])
        return self.k[layer].view(shape), self.v[layer].view(shape)

    def take(self, other: KVCache, slots: list[int]) -> None:
        """Copy what ``other`` holds in ``slots`` to the first slots of this one, layer by
        layer."""
        place = torch.tensor(slots, dtype=torch.long, device=self.k.device)
        for layer in range(self.k.shape[0]):
            self.k[layer, : len(slots)] = other.k[layer][place]
            self.v[layer, : len(slots)] = other.v[layer][place]
