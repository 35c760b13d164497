"""What an architecture asks of its attention, found out when it is loaded.

Nothing is concluded from a model's name. A short pass through the model shows each layer's
heads, scale, soft cap, sinks and the mask that transformers would have given it, as a function
of positions (:func:`look`). Then the model's logits on a short text, computed over a scattered
pool in several steps of several rows, are compared with transformers' own attention
(:func:`check`). Both together cost about six decode steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..attention import Row, TorchAttention
from ..pool import runs_of
from .base import Batch, Model, context_limit
from .interface import LOOKING, NAME, Mask, run

LENGTH = 24
"""Tokens of the short text."""

TOLERANCE = {torch.float32: 2e-4}
"""Largest relative error (norm of the difference by norm of the logits) that counts as equal."""

HALF_TOLERANCE = 0.1
"""The same in half precision, where a router may choose another expert."""


@dataclass(slots=True)
class Layer:
    """One attention layer."""

    number: int
    """Its place in the pool."""
    kv_heads: int
    sizes: tuple[int, int]
    """Head size of keys and of values."""
    scale: float
    window: int | None
    softcap: float | None


@dataclass(slots=True)
class Seen:
    """What a model's attention needs."""

    layers: dict[int, Layer]
    """By transformers' layer number."""
    context_length: int
    """Positions up to which a text is served exactly."""


def look(hf: Any) -> Seen:
    """Run a short text through ``hf`` and see what its attention layers are called with.

    Raises:
        ValueError: naming what the architecture needs and we do not have.
    """
    config = hf.config.get_text_config()
    limit = context_limit(config)
    name = type(hf).__name__
    looking = _Look(name, limit)
    if hf._can_set_attn_implementation():
        hf.set_attn_implementation(LOOKING)
        with _explained(name):
            run(hf, looking, input_ids=_text(hf, limit)[None])
        hf.set_attn_implementation(NAME)
    if not looking.layers:
        raise ValueError(
            f"model: {name} does not support replaceable attention in transformers, so its keys "
            "and values cannot be kept in the paged pool"
        )
    layers = config.num_hidden_layers
    if len(looking.layers) < layers:
        raise ValueError(
            f"model: {name} cannot be served: {len(looking.layers)} of its {layers} layers attend "
            "over keys and values; there is no room in the pool for the state of the others"
        )
    return Seen(looking.layers, min(limit, looking.limit))


def check(model: Model, hf: Any) -> None:
    """Compare logits over the pool with those of transformers' own attention.

    Raises:
        ValueError: they differ.
    """
    name = type(hf).__name__
    ids = _text(hf, model.context_length)
    hf.set_attn_implementation("eager")
    with _explained(name):
        want = hf(input_ids=ids[None], use_cache=False).logits[0].float()
    hf.set_attn_implementation(NAME)
    attention = TorchAttention(model.device)
    n = len(ids)
    slots = [list(range(i, 2 * n, 2)) for i in (1, 0)]  # two rows, one slot each in turn
    slots[0].reverse()
    kv = model.kv_cache(2 * n)
    half, third = n // 2, n // 3
    for spans in (
        [(0, 0, third)],
        [(0, third, n - 2), (1, 0, half)],
        [(0, n - 2, n - 1), (1, half, half + 1)],
        [(1, half + 1, n - 1), (0, n - 1, n)],
    ):
        rows = [
            Row(start, stop - start, slots[i][:stop], runs_of(slots[i][:stop]))
            for i, start, stop in spans
        ]
        at = torch.tensor([p for _, a, b in spans for p in range(a, b)], device=ids.device)
        everything = torch.arange(len(at), device=ids.device)
        batch = Batch(ids[at], at, attention.plan(rows), everything)
        with _explained(name):
            got = model.forward(batch, kv, attention)
        error = float((got - want[at]).norm() / want[at].norm())
        if not error <= TOLERANCE.get(model.dtype, HALF_TOLERANCE):
            raise ValueError(
                f"model: {name} cannot be served: over the paged pool its logits differ from "
                f"transformers' by {error:.1%}"
            )


class _Look:
    """Records the attention calls of one pass; the answers do not matter."""

    def __init__(self, name: str, context_length: int):
        self.name, self.limit = name, context_length
        self.layers: dict[int, Layer] = {}

    def attend(self, module, query, key, value, mask, options):
        index = getattr(module, "layer_idx", None)
        if index is None or index in self.layers:
            raise ValueError(
                f"model: {self.name} cannot be served: an attention layer has no number of its "
                "own (layer_idx), so its keys and values have no place in the pool"
            )
        if not getattr(module, "is_causal", True) or options.get("is_causal") is False:
            raise ValueError(
                f"model: {self.name} cannot be served: layer {index} sees tokens that come later"
            )
        window = options.get("sliding_window")
        if isinstance(mask, Mask):
            window = self._window(mask.visible, index)
        elif mask is not None:
            raise ValueError(
                f"model: {self.name} cannot be served: layer {index} brings an attention mask "
                "(a position bias?) of a kind we do not know"
            )
        scale = options.get("scaling")
        self.layers[index] = Layer(
            len(self.layers),
            key.shape[1],
            (key.shape[-1], value.shape[-1]),
            query.shape[-1] ** -0.5 if scale is None else float(scale),
            window,
            options.get("softcap"),
        )
        n = query.shape[2]
        return query.new_zeros(n, query.shape[1], value.shape[-1])

    def _window(self, visible: Callable[..., torch.Tensor], index: int) -> int | None:
        """The window behind a mask; None: each position sees all before it."""
        end = self.limit
        key = torch.arange(end)
        seen = [_row(visible, q, key) for q in (end - 1, end // 2, 0)]
        width = int(seen[0].sum())
        for q, row in zip((end - 1, end // 2, 0), seen, strict=True):
            if not torch.equal(row, (key <= q) & (key > q - width)):
                return self._chunks(visible, key, index)
        return None if width >= end else width

    def _chunks(self, visible: Callable[..., torch.Tensor], key: torch.Tensor, index: int) -> None:
        """Chunked attention (Llama 4) is plain in its first chunk: no text goes further."""
        zero = torch.zeros_like(key)
        firsts = visible(zero, zero, key, zero)  # who sees the first position
        length = int(firsts.sum())
        plain = all(torch.equal(_row(visible, q, key), key <= q) for q in (0, length - 1))
        if not firsts[:length].all() or not plain:
            raise ValueError(
                f"model: {self.name} cannot be served: the mask of layer {index} is neither "
                "causal nor a sliding window"
            )
        self.limit = min(self.limit, length)


def _row(visible: Callable[..., torch.Tensor], q: int, key: torch.Tensor) -> torch.Tensor:
    zero = torch.zeros_like(key)
    return visible(zero, zero, zero + q, key).expand(key.shape)


def _text(hf: Any, limit: int) -> torch.Tensor:
    """Some ids, all different where the vocabulary allows it."""
    size = hf.config.get_text_config().vocab_size
    return torch.arange(min(LENGTH, limit), device=hf.device) * 7 % max(1, size - 10) + 10


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """A model's code was not made for what we give it: say so."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"model: {name} cannot be served: its code does not go with our attention "
            f"({type(error).__name__}: {error})"
        ) from error
