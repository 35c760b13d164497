"""top-k, top-p and min-p as one number for each row: the least probability that stays.

Each filter keeps the likeliest tokens down to some probability. Tokens that tie with the last one
kept stay too, so that the result depends on the probabilities alone and never on the order in
which a sort happens to leave equal ones (transformers' top-k does the same).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .noise import Noise

WIDTH = 1024
"""Likeliest tokens looked at first. Where the filters cut inside of them, as they nearly always
do, the rest of the vocabulary need be neither sorted nor given noise."""


class Filters(NamedTuple):
    """The filters of some rows, each [rows]."""

    top_k: torch.Tensor
    """int64; the vocabulary's size where there is none."""
    top_p: torch.Tensor
    """float64; 1 where there is none."""
    min_p: torch.Tensor
    """float32; 0 where there is none."""

    def at(self, rows: torch.Tensor) -> Filters:
        """Those of some rows."""
        return Filters(*(part[rows] for part in self))


def cut(ordered: torch.Tensor, filters: Filters) -> torch.Tensor:
    """The least probability that stays, [rows].

    Args:
        ordered: [rows, n] float32, the n largest probabilities of each row in falling order. A
            filter that cuts nothing off among them gives a value of at most the last one.
    """
    n = ordered.shape[1]
    last = filters.top_k.clamp(max=n) - 1
    by_k = ordered.gather(1, last[:, None])[:, 0].masked_fill(filters.top_k > n, 0.0)
    wide = ordered.double()
    before = wide.cumsum(-1) - wide
    inside = (before < filters.top_p[:, None]).sum(-1).clamp(min=1)
    by_p = ordered.gather(1, inside[:, None] - 1)[:, 0].masked_fill(filters.top_p >= 1, 0.0)
    return torch.maximum(torch.maximum(by_k, by_p), filters.min_p * ordered[:, 0])


def draw(
    probs: torch.Tensor, filters: Filters, noise: Noise, places: list[tuple[int, int]]
) -> torch.Tensor:
    """Draw a token id from each row of ``probs`` [rows, vocab] under its filters.

    The few candidates and the whole vocabulary give the same draw: the noise belongs to the id.
    """
    vocab = probs.shape[1]
    top = probs.topk(min(WIDTH, vocab))
    least = cut(top.values, filters)
    # All that stays is among the candidates if the last one of them does not.
    narrow = (least > top.values[:, -1]) | (top.values.shape[1] == vocab)
    weights = top.values.masked_fill(top.values < least[:, None], 0.0)
    tokens = top.indices.gather(1, noise.race(weights, places, top.indices)[:, None])[:, 0]
    if not narrow.all():
        rest = (~narrow).nonzero()[:, 0]
        wide = probs[rest]
        least = cut(wide.sort(descending=True).values, filters.at(rest))
        weights = wide.masked_fill(wide < least[:, None], 0.0)
        tokens[rest] = noise.race(weights, [places[i] for i in rest.tolist()])
    return tokens
