"""Any decoder-only architecture, run by transformers over our paged pool.

transformers lets an attention function be registered by name. Ours writes the new keys and
values into the pool and attends over it; all else is the library's own code.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from transformers import AttentionInterface

from ..attention import AttentionBackend
from ..kv_cache import KVCache
from .base import Batch, Model

_numbers = itertools.count()


class TransformersModel(Model):
    """A ``transformers`` causal language model.

    Raises:
        ValueError: the architecture keeps state that is not keys and values (Mamba, RWKV), or
            does not let its attention be replaced.
    """

    kind = "transformers"

    def __init__(self, hf: Any):
        config = hf.config.get_text_config()
        name = type(hf).__name__
        if not getattr(hf, "_supports_attention_backend", False):
            raise ValueError(
                f"model: {name} does not support replaceable attention in transformers, so its "
                "keys and values cannot be kept in the paged pool"
            )
        self.layers = config.num_hidden_layers
        heads = config.num_attention_heads
        self.kv_heads = getattr(config, "num_key_value_heads", None) or heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.vocab_size = config.vocab_size
        self.context_length = config.max_position_embeddings
        self.dtype, self.device = hf.dtype, hf.device
        self._hf = hf
        self._now: tuple[Any, KVCache, AttentionBackend] | None = None
        self._name = f"sglnb-{next(_numbers)}"
        AttentionInterface.register(self._name, self._attend)
        hf.set_attn_implementation(self._name)

    def forward(self, batch: Batch, kv: KVCache, attention: AttentionBackend) -> torch.Tensor:
        self._now = (batch.plan, kv, attention)
        try:
            return (
                self._hf(
                    **self._inputs(batch),
                    use_cache=False,
                    logits_to_keep=batch.wanted,
                )
                .logits[0]
                .float()
            )
        finally:
            self._now = None

    def _inputs(self, batch: Batch) -> dict[str, torch.Tensor]:
        """What the model is called with for the tokens of ``batch``."""
        return {"input_ids": batch.ids[None], "position_ids": batch.positions[None]}

    def _attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: Any,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        **unused: Any,
    ) -> tuple[torch.Tensor, None]:
        """The registered function: query, key, value are [1, heads, N, head size]."""
        plan, kv, attention = self._now
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
        out = attention.attend(plan, module.layer_idx, kv, q, k, v, scale, sliding_window, softcap)
        return out[None], None
