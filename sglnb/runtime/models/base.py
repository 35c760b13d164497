"""What the engine asks of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ..attention import AttentionBackend
from ..kv_cache import KVCache
from ..lora_batch import Adapter, Rows, Target

FAR = 1 << 17
"""Positions served when a configuration states no limit."""


class Batch(NamedTuple):
    """One forward pass over ragged rows, N tokens in total."""

    ids: torch.Tensor
    """[N] token ids."""
    positions: torch.Tensor
    """[N] position of each token in its own text, or [3, N] (time, row, column)."""
    plan: Any
    """The attention backend's plan of these rows."""
    wanted: torch.Tensor | None
    """[M] which tokens' logits are wanted; None: all."""
    features: Sequence[tuple[slice, torch.Tensor]] = ()
    """Tokens that are part of an image, with their embeddings [n, hidden size]."""
    adapters: Sequence[tuple[Rows, Adapter]] = ()
    """LoRA adapters and the tokens that each is for."""


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
    capturable = False
    """Whether a decode step can be recorded as a CUDA graph: it reads nothing back."""
    sees = False
    """Whether it takes images: it is a :class:`~sglnb.runtime.models.vision.VisionModel`."""

    @abstractmethod
    def forward(self, batch: Batch, kv: KVCache, attention: AttentionBackend) -> torch.Tensor:
        """Write the batch's KV and return float32 logits [M, vocab_size]."""

    def lora_targets(self) -> dict[str, Target]:
        """The linear layers that a LoRA adapter can change, by their path in the checkpoint."""
        return {}

    @property
    @abstractmethod
    def weights_bytes(self) -> int:
        """Memory of the weights."""

    def kv_cache(self, slots: int) -> KVCache:
        """An empty pool of ``slots`` tokens for this model."""
        return KVCache(self.layers, slots, self.kv_heads, self.head_dim, self.dtype, self.device)

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory of one token's KV over all layers."""
        return KVCache.bytes_per_token(self.layers, self.kv_heads, self.head_dim, self.dtype)


def context_limit(config: Any) -> int:
    """Positions up to which the cached keys of a text do not depend on how it goes on.

    With "longrope" (Phi-3) all rotations change once a text is longer than the original
    context, so that is where texts end. "dynamic" changes past ``max_position_embeddings``.
    """
    limit = getattr(config, "max_position_embeddings", None) or FAR
    ropes = getattr(config, "rope_parameters", None) or {}
    for rope in (ropes, *ropes.values()):
        if isinstance(rope, dict) and rope.get("rope_type") == "longrope":
            limit = min(limit, rope.get("original_max_position_embeddings") or limit)
    return limit
