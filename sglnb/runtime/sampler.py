"""From logits to tokens: mask, penalties and bias, temperature, top-k, top-p, min-p, draw."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from sglnb.kernels.bitmask import apply_bitmask

from ..errors import EngineError
from .filters import Filters, draw
from .logit_reader import LogitReader
from .noise import Noise
from .penalties import adjust
from .request import Request
from .scores import TokenScore

TOP = 5
"""Alternatives recorded for each observed token."""


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
        self._noise = Noise(vocab_size, device)

    def hide_padding(self, logits: torch.Tensor) -> None:
        """Take ids that are no tokens out of the distribution, in place."""
        if self._padding is not None:
            logits[:, self._padding :] = float("-inf")

    def __call__(
        self, logits: torch.Tensor, requests: list[Request], masks: list[np.ndarray | None]
    ) -> list[Sampled | Exception]:
        """Sample one token a row.

        Args:
            logits: [rows, vocab_size] float32 without padding.
            requests: the rows' requests.
            masks: packed bits [ceil(vocab_size / 32)] int32 of the tokens that may come, or
                None where all may.

        Returns:
            For each row what was drawn, or the error that its request fails with.
        """
        reader = LogitReader(
            logits,
            [r.report for r in requests],
            [_alternatives(r) for r in requests],
            [i for i, r in enumerate(requests) if r.run],
        )
        failed: dict[int, Exception] = {}
        mass: dict[int, float] = {}
        masked = [i for i, mask in enumerate(masks) if mask is not None]
        if masked or any(request.params.adjusts for request in requests):
            logits = logits.clone()  # the reader keeps the model's own
        if masked:
            bits = torch.from_numpy(np.stack([masks[i] for i in masked])).to(self.device)
            if len(masked) == len(masks):
                apply_bitmask(logits, bits)
            else:
                logits[masked] = apply_bitmask(logits[masked], bits)
            left = torch.logsumexp(logits[masked], -1) - reader.norm[masked, 0]
            mass = dict(zip(masked, left.exp().tolist(), strict=True))
        adjust(logits, requests)
        self._process(logits, requests, failed)
        self._guard(logits, reader.norm, failed)
        tokens = self._draw(logits, requests, failed)
        allowed = None if reader.top_ids is None else logits.gather(1, reader.top_ids).isfinite()
        allowed = [[]] * len(requests) if allowed is None else allowed.tolist()
        out: list[Sampled | Exception] = []
        scores = reader.scores(tokens)
        for i, (token, score) in enumerate(zip(tokens.tolist(), scores, strict=True)):
            top = [(at, lp, ok) for (lp, at), ok in zip(score.top, allowed[i], strict=False)]
            asked = score._replace(top=score.top[: requests[i].report.top_logprobs_num])
            out.append(failed.get(i) or Sampled(token, asked, top, mass.get(i), score.entropy))
        return out

    def _process(
        self, logits: torch.Tensor, requests: list[Request], failed: dict[int, Exception]
    ) -> None:
        """The users' own processors. What is forbidden stays so."""
        for i, request in enumerate(requests):
            processor = request.params.custom_logit_processor
            if processor is None:
                continue
            before = logits[i : i + 1].clone()
            try:
                ids = torch.tensor([request.ids], device=self.device)
                logits[i : i + 1] = processor(ids, before.clone())
            except Exception as error:  # recorded: that request's alone
                failed[i] = error
            logits[i : i + 1].masked_fill_(before == float("-inf"), float("-inf"))

    def _guard(
        self, logits: torch.Tensor, norm: torch.Tensor, failed: dict[int, Exception]
    ) -> None:
        """Rows without a distribution fail; they get a harmless one, so that the others go on."""
        sound = norm[:, 0].isfinite()
        ok = (sound & logits.amax(-1).isfinite()).tolist()
        if all(ok):
            return
        for i, fine in enumerate(ok):
            if not fine:
                error = (
                    "nothing is left to draw from: mask, bias or custom_logit_processor forbid "
                    "every token or gave NaN"
                    if sound[i]
                    else "the model's logits are NaN or infinite; look at its weights and dtype"
                )
                failed.setdefault(i, EngineError(error))
                logits[i] = 0.0

    def _draw(
        self, logits: torch.Tensor, requests: list[Request], failed: dict[int, Exception]
    ) -> torch.Tensor:
        tokens = torch.zeros(len(requests), dtype=torch.long, device=self.device)
        greedy = [i for i, r in enumerate(requests) if r.params.greedy]
        if greedy:
            tokens[greedy] = logits[greedy].argmax(-1)
        free = [i for i, r in enumerate(requests) if not r.params.greedy and i not in failed]
        plain = [i for i in free if not requests[i].params.filters]
        filtered = [i for i in free if requests[i].params.filters]
        for rows in (plain, filtered):
            if not rows:
                continue
            params = [requests[i].params for i in rows]
            places = [(requests[i].seed, len(requests[i].ids)) for i in rows]
            heat = torch.tensor([p.temperature for p in params], device=self.device)
            probs = torch.softmax(logits[rows] / heat[:, None], -1)
            if rows is plain:
                tokens[rows] = self._noise.race(probs, places)
            else:
                tokens[rows] = draw(probs, self._filters(params), self._noise, places)
        return tokens

    def _filters(self, params: list) -> Filters:
        top_k = [p.top_k if p.top_k > 0 else self.vocab_size for p in params]
        return Filters(
            torch.tensor(top_k, device=self.device),
            torch.tensor([p.top_p for p in params], dtype=torch.float64, device=self.device),
            torch.tensor([p.min_p for p in params], dtype=torch.float32, device=self.device),
        )


def _alternatives(request: Request) -> int:
    """How many of the likeliest tokens to report."""
    return max(request.report.top_logprobs_num, TOP if request.run else 0)
