"""From logits to a token: mask, temperature, top-k, top-p, min-p, seeded draw."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch

from sglnb.kernels.bitmask import apply_bitmask

from .request import Request

TOP = 5
"""Alternatives recorded for each observed token."""


class Sampled(NamedTuple):
    """What the sampler tells about one token."""

    token: int
    logprob: float
    """Natural log of the model's probability, before temperature and mask."""
    top: list[tuple[int, float, bool]]
    """(id, logprob, allowed) of the likeliest tokens; empty when nobody asked."""
    mass: float | None
    """Probability that the mask left standing; None = no mask."""


class Sampler:
    """Draws the next token of each row. Each row depends on its own logits, parameters and seed
    alone, so the batch it is in makes no difference.

    Args:
        vocab_size: width of the logits.
        text_ids: ids that are tokens of the tokenizer; the logits past them are padding.
    """

    def __init__(self, vocab_size: int, text_ids: int, device: torch.device):
        self.vocab_size, self.device = vocab_size, device
        self._padding = text_ids if text_ids < vocab_size else None

    def __call__(
        self, logits: torch.Tensor, requests: list[Request], masks: list[np.ndarray | None]
    ) -> list[Sampled]:
        """Sample one token a row.

        Args:
            logits: [rows, vocab_size] float32; changed in place.
            requests: the rows' requests.
            masks: packed bits [ceil(vocab_size / 32)] int32 of the tokens that may come, or
                None where all may.
        """
        if self._padding is not None:
            logits[:, self._padding :] = float("-inf")
        norm = torch.logsumexp(logits, -1, keepdim=True)
        wide = max((_alternatives(r) for r in requests), default=0)
        top_values, top_ids = (
            torch.topk(logits, min(wide, self.vocab_size)) if wide else (None, None)
        )
        mass: dict[int, float] = {}
        raw = logits
        masked = [i for i, mask in enumerate(masks) if mask is not None]
        if masked:
            raw = logits.clone()
            bits = torch.from_numpy(np.stack([masks[i] for i in masked])).to(self.device)
            if len(masked) == len(masks):
                apply_bitmask(logits, bits)
            else:
                logits[masked] = apply_bitmask(logits[masked], bits)
            left = torch.logsumexp(logits[masked], -1) - norm[masked, 0]
            mass = dict(zip(masked, left.exp().tolist(), strict=True))
        tokens = self._draw(logits, requests)
        chosen = (raw.gather(1, tokens[:, None]) - norm)[:, 0].tolist()
        tops: list[list[tuple[int, float, bool]]] = [[] for _ in requests]
        if wide:
            allowed = torch.isfinite(logits.gather(1, top_ids)).tolist()
            values, ids = (top_values - norm).tolist(), top_ids.tolist()
            for i, request in enumerate(requests):
                n = _alternatives(request)
                tops[i] = list(zip(ids[i][:n], values[i][:n], allowed[i][:n], strict=True))
        return [
            Sampled(token, chosen[i], tops[i], mass.get(i))
            for i, token in enumerate(tokens.tolist())
        ]

    def _draw(self, logits: torch.Tensor, requests: list[Request]) -> torch.Tensor:
        tokens = logits.argmax(-1)
        for i, request in enumerate(requests):
            if not request.params.greedy:
                tokens[i] = self._draw_one(logits[i], request)
        return tokens

    def _draw_one(self, logits: torch.Tensor, request: Request) -> torch.Tensor:
        """The exponential race: the token with the largest p / e, e ~ Exp(1), is a draw from p.
        The noise comes from (seed, position) and the token's id alone."""
        params = request.params
        probs = torch.softmax(logits / params.temperature, -1)
        if params.top_k > 0 or params.top_p < 1 or params.min_p > 0:
            probs = _filter(probs, params.top_k, params.top_p, params.min_p)
        generator = torch.Generator().manual_seed(_mix(request.seed, len(request.ids)))
        noise = torch.empty(self.vocab_size).exponential_(generator=generator).to(self.device)
        return (probs / noise).argmax()


def _alternatives(request: Request) -> int:
    """How many of the likeliest tokens to report."""
    return max(request.top_logprobs_num, TOP if request.run else 0)


def _filter(probs: torch.Tensor, top_k: int, top_p: float, min_p: float) -> torch.Tensor:
    """Set the probabilities [vocab] of tokens outside top-k, top-p or min-p to 0."""
    order_probs, order = probs.sort(descending=True, stable=True)
    keep = torch.ones_like(order_probs, dtype=torch.bool)
    if top_k > 0:
        keep[top_k:] = False
    if top_p < 1:
        before = order_probs.cumsum(-1) - order_probs
        keep &= before < top_p
    if min_p > 0:
        keep &= order_probs >= min_p * order_probs[0]
    keep[0] = True
    return torch.zeros_like(probs).scatter_(0, order, order_probs * keep)


def _mix(seed: int, position: int) -> int:
    """A seed for one position: 63 bits, unrelated for neighbouring seeds and positions."""
    digest = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
