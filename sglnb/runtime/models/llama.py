"""Our own decoder for the Llama family: Llama, Mistral, Qwen2, Qwen3.

The weights come from transformers; the arithmetic is the same with fewer, larger products: Q, K
and V in one, gate and up in one. It pays where a step is short (see benchmarks/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F

from sglnb.kernels.rmsnorm import add_rmsnorm, rmsnorm
from sglnb.kernels.rotary_write import rotary_write
from sglnb.kernels.silu_mul import silu_mul
from sglnb.kernels.small_linear import small_linear

from ..attention import AttentionBackend, Scoring
from ..kv_cache import KVCache
from ..lora_batch import Target, add_lora
from .base import Batch, Model, context_limit
from .linear import Linear

SMALL = 8
"""Tokens of a pass in which products are bound by their weights' bytes alone."""

FAMILY = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""``config.model_type`` values this decoder computes."""


@dataclass(slots=True)
class _Layer:
    input_norm: torch.Tensor
    qkv: Linear
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    out: Linear
    post_norm: torch.Tensor
    gate_up: Linear
    down: Linear


class LlamaModel(Model):
    """Decoder-only transformer with RMSNorm, rotary positions, GQA and a gated MLP.

    Args:
        hf: the loaded ``transformers`` model; its weights are taken over layer by layer, so
            that both copies are never in memory together.
        silu: the activation, x [n, width] -> [n, width].
        linear: makes a layer of a weight [out, in] and a bias.
    """

    kind = "native"
    capturable = True

    def __init__(
        self,
        hf: Any,
        silu: Callable[[torch.Tensor], torch.Tensor] = F.silu,
        linear: Callable[[torch.Tensor, torch.Tensor | None], Linear] = Linear,
    ):
        config = hf.config
        self.layers = config.num_hidden_layers
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.vocab_size = config.vocab_size
        self.context_length = context_limit(config)
        self.eps = config.rms_norm_eps
        self.dtype, self.device = hf.dtype, hf.device
        self._scoring = Scoring(self.head_dim**-0.5, _window(config))
        self._silu = silu
        self._fused = self.device.type == "cuda" and find_spec("triton") is not None
        self._inner: int = config.intermediate_size
        self._embed = hf.model.embed_tokens.weight.detach()
        self._norm = hf.model.norm.weight.detach()
        self._head = linear(hf.lm_head.weight.detach(), _bias(hf.lm_head))
        self._cos, self._sin = _rotary_table(hf.model.rotary_emb, self.context_length, self.dtype)
        self._layers = []
        for i, layer in enumerate(hf.model.layers):
            self._layers.append(_take_layer(layer, linear))
            hf.model.layers[i] = torch.nn.Identity()
        plain = all(type(linear) is Linear for linear in self.linears())
        gated = all(layer.gate_up.bias is None for layer in self._layers)
        self._small = self._fused and plain and gated and self.dtype != torch.float32

    def forward(self, batch: Batch, kv: KVCache, attention: AttentionBackend) -> torch.Tensor:
        if self._small and len(batch.ids) <= SMALL and not batch.adapters:
            return self._forward_small(batch, kv, attention)
        if self._fused:
            h = self._layers_fused(batch, kv, attention)
        else:
            h = self._layers_plain(batch, kv, attention)
        if not len(h):
            return h.new_empty(0, self.vocab_size, dtype=torch.float32)
        return self._head(h).float()

    def _forward_small(
        self, batch: Batch, kv: KVCache, attention: AttentionBackend
    ) -> torch.Tensor:
        """A pass over a few tokens, where the time goes to reading weights: products with the
        steps around them in one kernel."""
        x = F.embedding(batch.ids, self._embed)  # the residual stream, added to in place
        for i, layer in enumerate(self._layers):
            norm = layer.input_norm, self.eps
            qkv = small_linear(x, layer.qkv.weight, layer.qkv.bias, norm=norm)
            h = self._attend_fused(qkv, layer, i, batch, kv, attention)
            small_linear(h, layer.out.weight, layer.out.bias, residual=x)
            norm = layer.post_norm, self.eps
            h = small_linear(x, layer.gate_up.weight, norm=norm, silu=True)
            small_linear(h, layer.down.weight, layer.down.bias, residual=x)
        x = _wanted(x, batch)
        logits = x.new_empty(len(x), self.vocab_size, dtype=torch.float32)
        if len(x):
            norm = self._norm, self.eps
            small_linear(x, self._head.weight, self._head.bias, norm=norm, out=logits)
        return logits

    def _layers_fused(self, batch: Batch, kv: KVCache, attention: AttentionBackend) -> torch.Tensor:
        """The last layer's normed output at the wanted tokens, with kernels that do several of
        the small steps at once: each is short, and starting it costs as much as its work."""
        x = F.embedding(batch.ids, self._embed)  # the residual stream, added to in place
        h = rmsnorm(x, self._layers[0].input_norm, self.eps)
        norms = [layer.input_norm for layer in self._layers[1:]] + [self._norm]
        for i, (layer, norm) in enumerate(zip(self._layers, norms, strict=True)):
            qkv = layer.qkv(h)
            add_lora(batch.adapters, (i, "qkv"), h, qkv)
            h = self._attend_fused(qkv, layer, i, batch, kv, attention)
            out = layer.out(h)
            add_lora(batch.adapters, (i, "out"), h, out)
            h = add_rmsnorm(out, x, layer.post_norm, self.eps)
            gate_up = layer.gate_up(h)
            add_lora(batch.adapters, (i, "gate_up"), h, gate_up)
            h = silu_mul(gate_up)
            down = layer.down(h)
            add_lora(batch.adapters, (i, "down"), h, down)
            h = add_rmsnorm(down, x, norm, self.eps)
        return _wanted(h, batch)

    def _attend_fused(self, qkv, layer, i, batch, kv, attention) -> torch.Tensor:
        """Rotation, the write to the pool, and attention: [n, query heads * head size]."""
        q = qkv[:, : self.heads * self.head_dim].unflatten(1, (self.heads, self.head_dim))
        heads = None if layer.q_norm is None else (layer.q_norm, layer.k_norm, self.eps)
        pool, slots = (kv.k[i], kv.v[i]), batch.plan.new_slots
        rotary_write(qkv, self._cos, self._sin, batch.positions, slots, *pool, q, heads)
        return attention.attend(batch.plan, i, kv, q, None, None, self._scoring).flatten(1)

    def _layers_plain(self, batch: Batch, kv: KVCache, attention: AttentionBackend) -> torch.Tensor:
        """The same in torch's own operations."""
        x = F.embedding(batch.ids, self._embed)
        cos, sin = self._cos[batch.positions], self._sin[batch.positions]
        for i, layer in enumerate(self._layers):
            h = self._rms(x, layer.input_norm)
            h = self._attention(h, cos, sin, layer, i, batch, kv, attention)
            x = layer.out.plus(h, x)
            add_lora(batch.adapters, (i, "out"), h, x)
            h = self._rms(x, layer.post_norm)
            gate_up = layer.gate_up(h)
            add_lora(batch.adapters, (i, "gate_up"), h, gate_up)
            gate, up = gate_up.chunk(2, -1)
            h = self._silu(gate).mul_(up)
            x = layer.down.plus(h, x)
            add_lora(batch.adapters, (i, "down"), h, x)
        return self.norm(_wanted(x, batch))

    def linears(self) -> Iterator[Linear]:
        """All products with weights."""
        yield self._head
        for layer in self._layers:
            yield from (layer.qkv, layer.out, layer.gate_up, layer.down)

    @property
    def weights_bytes(self) -> int:
        return self._embed.nbytes + sum(linear.nbytes for linear in self.linears())

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        """The last RMSNorm, x [n, hidden size]."""
        return self._rms(x, self._norm)

    def lora_targets(self) -> dict[str, Target]:
        hidden, inner = self._embed.shape[1], self._inner
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        modules = {  # in the order of the merged products' columns
            "qkv": {"self_attn.q_proj": (hidden, q), "self_attn.k_proj": (hidden, kv),
                    "self_attn.v_proj": (hidden, kv)},
            "out": {"self_attn.o_proj": (q, hidden)},
            "gate_up": {"mlp.gate_proj": (hidden, inner), "mlp.up_proj": (hidden, inner)},
            "down": {"mlp.down_proj": (inner, hidden)},
        }  # fmt: skip
        out = {}
        for i in range(self.layers):
            for product, parts in modules.items():
                start = 0
                for module, (inputs, outputs) in parts.items():
                    path = f"model.layers.{i}.{module}"
                    out[path] = Target((i, product), start, inputs, outputs)
                    start += outputs
        return out

    def _attention(self, h, cos, sin, layer, i, batch, kv, attention) -> torch.Tensor:
        n = h.shape[0]
        qkv = layer.qkv(h)
        add_lora(batch.adapters, (i, "qkv"), h, qkv)
        qkv = qkv.view(n, self.heads + 2 * self.kv_heads, self.head_dim)
        qk, v = qkv.split([self.heads + self.kv_heads, self.kv_heads], 1)
        if layer.q_norm is not None:
            q, k = qk.split([self.heads, self.kv_heads], 1)
            qk = torch.cat([self._rms(q, layer.q_norm), self._rms(k, layer.k_norm)], 1)
        qk = _rotate(qk, cos, sin)
        q, k = qk.split([self.heads, self.kv_heads], 1)
        h = attention.attend(batch.plan, i, kv, q, k, v, self._scoring)
        return h.reshape(n, -1)

    def _rms(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.float32:
            return F.rms_norm(x, (x.shape[-1],), weight, self.eps)
        # Rounded before the weight, as the reference does in half precision.
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return weight * wide.to(x.dtype)


def _wanted(x: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The rows of ``x`` [N, ...] whose logits are wanted."""
    return x if batch.wanted is None else x[batch.wanted]


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of x [n, heads, d] by cos, sin [n, 1, d]; sin has its first
    half negated, so that swapping the halves is all that is left to do."""
    # No fused multiply-add: where the vector loop ends, torch rounds it differently.
    return (x * cos).add_(x.roll(x.shape[-1] // 2, -1).mul_(sin))


def _rotary_table(rotary: Any, length: int, dtype: torch.dtype):
    """cos and sin [length, 1, d] of every position, as transformers computes them; the first
    half of sin is negated (see :func:`_rotate`)."""
    device = rotary.inv_freq.device
    positions = torch.arange(length, device=device)[None]
    cos, sin = rotary(torch.empty(0, dtype=dtype, device=device), positions)
    low, high = sin[0].chunk(2, -1)
    return cos[0][:, None], torch.cat((-low, high), -1)[:, None]


def _window(config: Any) -> int | None:
    """The sliding window in tokens, None when every position sees the whole text."""
    if getattr(config, "use_sliding_window", True) is False:
        return None
    return getattr(config, "sliding_window", None)


def supported(config: Any) -> bool:
    """Whether :class:`LlamaModel` computes what ``config`` describes."""
    same_layers = len(set(getattr(config, "layer_types", None) or ["full_attention"])) == 1
    silu = config.hidden_act == "silu" if hasattr(config, "hidden_act") else False
    return config.model_type in FAMILY and same_layers and silu


def _bias(linear: Any) -> torch.Tensor | None:
    return None if linear.bias is None else linear.bias.detach()


def _merge(linear: Callable[..., Linear], *parts: Any) -> Linear:
    """Several projections of the same input as one."""
    weight = torch.cat([part.weight.detach() for part in parts])
    biases = [_bias(part) for part in parts]
    return linear(weight, None if biases[0] is None else torch.cat(biases))


def _take_layer(layer: Any, linear: Callable[..., Linear]) -> _Layer:
    attn, mlp = layer.self_attn, layer.mlp
    norm = getattr(attn, "q_norm", None)
    return _Layer(
        input_norm=layer.input_layernorm.weight.detach(),
        qkv=_merge(linear, attn.q_proj, attn.k_proj, attn.v_proj),
        q_norm=None if norm is None else norm.weight.detach(),
        k_norm=None if norm is None else attn.k_norm.weight.detach(),
        out=_merge(linear, attn.o_proj),
        post_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=_merge(linear, mlp.gate_proj, mlp.up_proj),
        down=_merge(linear, mlp.down_proj),
    )
