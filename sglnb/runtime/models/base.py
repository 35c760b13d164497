"""What the engine asks of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ..attention import AttentionBackend
from ..kv_cache import KVCache


class Batch(NamedTuple):
    """One forward pass over ragged rows, N tokens in total."""

    ids: torch.Tensor
    """[N] token ids."""
    positions: torch.Tensor
    """[N] position of each token in its own text, or [3, N] (time, row, column)."""
    plan: Any
    """The attention backend's plan of these rows."""
    wanted: torch.Tensor
    """[M] which tokens' logits are wanted."""
    features: Sequence[tuple[slice, torch.Tensor]] = ()
    """Tokens that are part of an image, with their embeddings [n, hidden size]."""


class Model(ABC):
    """A decoder-only model over the paged pool."""

    layers: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    dtype: torch.dtype
    device: torch.device
    eos_ids: tuple[int, ...]
    kind: str
    """"native" (our decoder) or "transformers"."""
    sees = False
    """Whether it takes images: it is a :class:`~sglnb.runtime.models.vision.VisionModel`."""

    @abstractmethod
    def forward(self, batch: Batch, kv: KVCache, attention: AttentionBackend) -> torch.Tensor:
        """Write the batch's KV and return float32 logits [M, vocab_size]."""

    def kv_cache(self, slots: int) -> KVCache:
        """An empty pool of ``slots`` tokens for this model."""
        return KVCache(self.layers, slots, self.kv_heads, self.head_dim, self.dtype, self.device)

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory of one token's KV over all layers."""
        return KVCache.bytes_per_token(self.layers, self.kv_heads, self.head_dim, self.dtype)
