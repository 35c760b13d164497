"""Any decoder-only architecture, run by transformers over our paged pool.

transformers lets an attention function be registered by name. Ours writes the new keys and
values into the pool and attends over it; all else is the library's own code. What an
architecture asks of its attention is looked at when it is loaded, and the result is compared
with the library's own (see :mod:`.look`), so that a text is never wrong in silence.
"""

from __future__ import annotations

from typing import Any

import torch

from ..attention import AttentionBackend, Scoring
from ..kv_cache import KVCache
from ..lora_batch import Target
from .base import Batch, Model
from .hf_lora import LoraHooks
from .interface import run
from .look import check, look


class TransformersModel(Model):
    """A ``transformers`` causal language model.

    Raises:
        ValueError: the architecture keeps state that is not keys and values (Mamba, RWKV), does
            not let its attention be replaced, or asks for what our attention cannot do.
    """

    kind = "transformers"
    capturable = True  # tried; most architectures read nothing back while they decode

    def __init__(self, hf: Any):
        config = hf.config.get_text_config()
        self.vocab_size = config.vocab_size
        self.dtype, self.device = hf.dtype, hf.device
        self._hf = hf
        self._lora = LoraHooks(hf)
        seen = look(hf)
        self._layers = seen.layers
        self.layers = len(seen.layers)
        self.kv_heads = max(layer.kv_heads for layer in seen.layers.values())
        self.head_dim = max(max(layer.sizes) for layer in seen.layers.values())
        self.context_length = seen.context_length
        check(self, hf)

    def forward(self, batch: Batch, kv: KVCache, attention: AttentionBackend) -> torch.Tensor:
        with self._lora.active(batch.adapters, len(batch.ids)):
            out = run(
                self._hf,
                _Serve(self._layers, batch.plan, kv, attention),
                **self._inputs(batch),
                logits_to_keep=0 if batch.wanted is None else batch.wanted,
            )
        return out.logits[0].float()

    def lora_targets(self) -> dict[str, Target]:
        return self._lora.targets()

    @property
    def weights_bytes(self) -> int:
        return sum(weight.nbytes for weight in self._hf.parameters())

    def _inputs(self, batch: Batch) -> dict[str, torch.Tensor]:
        """What the model is called with for the tokens of ``batch``."""
        return {"input_ids": batch.ids[None], "position_ids": batch.positions[None]}


class _Serve:
    """Attention over the pool."""

    def __init__(self, layers: dict[int, Any], plan: Any, kv: KVCache, attention: AttentionBackend):
        self._layers, self._plan, self._kv, self._attention = layers, plan, kv, attention

    def attend(self, module, query, key, value, mask, options):
        layer = self._layers[module.layer_idx]
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
        heads, size = self._kv.k.shape[2:]
        group = q.shape[1] // k.shape[1]
        out = self._attention.attend(
            self._plan,
            layer.number,
            self._kv,
            _padded(q, heads * group, size),
            _padded(k, heads, size),
            _padded(v, heads, size),
            Scoring(layer.scale, layer.window, layer.softcap, options.get("s_aux")),
        )
        return out[:, : q.shape[1], : v.shape[2]]


def _padded(x: torch.Tensor, heads: int, size: int) -> torch.Tensor:
    """x [N, heads, head size] with zeros up to the pool's shape, where a layer has fewer heads
    or smaller ones than another (Gemma 4), or values are smaller than keys (DeepSeek)."""
    if x.shape[1:] == (heads, size):
        return x
    return torch.nn.functional.pad(x, (0, size - x.shape[2], 0, heads - x.shape[1]))
