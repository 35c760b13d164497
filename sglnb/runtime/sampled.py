"""What sampling tells, whoever does it."""

from __future__ import annotations

from typing import NamedTuple

import torch

from .request import Request
from .scores import TokenScore

TOP = 5
"""Alternatives recorded for each observed token."""

NOTHING_LEFT = (
    "nothing is left to draw from: mask, bias or custom_logit_processor forbid every token or "
    "gave NaN"
)
BROKEN = "the model's logits are NaN or infinite; look at its weights and dtype"


class Sampled(NamedTuple):
    """What the sampler tells about one token."""

    token: int
    score: TokenScore
    """Under the model's own distribution: before everything that the sampler does."""
    top: list[tuple[int, float, bool]]
    """(id, logprob, allowed) of the likeliest tokens; empty when nobody asked."""
    mass: float | None
    """Probability that the mask left standing; None = no mask."""
    entropy: float | None = None
    """Of that same distribution of the model, in nats; None when nobody asked."""


def alternatives(request: Request) -> int:
    """How many of the likeliest tokens to report."""
    return max(request.report.top_logprobs_num, TOP if request.run else 0)


def allowed_by(bits: torch.Tensor | None, ids: torch.Tensor) -> torch.Tensor:
    """Which of ``ids`` [rows, n] the masks [rows, words] let come; None: all."""
    if bits is None:
        return torch.ones_like(ids, dtype=torch.bool)
    return (bits.gather(1, ids >> 5) >> (ids & 31)) & 1 != 0
