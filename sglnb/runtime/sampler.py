"""From logits to tokens: mask, penalties and bias, temperature, top-k, top-p, min-p, draw."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch

from sglnb.kernels.bitmask import apply_bitmask

from ..errors import EngineError
from .draw import DrawByKernel, DrawByTorch, Drawn
from .logit_reader import LogitReader
from .noise import Noise
from .penalties import adjust
from .request import Request
from .scores import TokenScore
from .transfer import Fetch, send

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


class Sampler:
    """Draws the next token of each row. Each row depends on its own logits, parameters and seed
    alone, so the batch it is in makes no difference.

    Args:
        vocab_size: width of the logits.
        text_ids: ids that are tokens of the tokenizer; the logits past them are padding.
        device: of the logits. On CUDA one kernel draws (:mod:`sglnb.kernels.sample`).
    """

    def __init__(self, vocab_size: int, text_ids: int, device: torch.device):
        self.vocab_size, self.device = vocab_size, device
        self._padding = text_ids if text_ids < vocab_size else None
        noise = Noise(vocab_size, device)
        has_kernel = device.type == "cuda" and find_spec("triton") is not None
        self._draw = DrawByKernel(noise) if has_kernel else DrawByTorch(noise)

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
        return self.ask(logits, requests, masks).read()

    def ask(
        self, logits: torch.Tensor, requests: list[Request], masks: list[np.ndarray | None]
    ) -> Draw:
        """The same, without waiting for it: the logits may be written to by what the device is
        asked for later."""
        reader = LogitReader(
            logits,
            [r.report for r in requests],
            [_alternatives(r) for r in requests],
            [i for i, r in enumerate(requests) if r.run],
        )
        bits, masked = self._bits(masks), [mask is not None for mask in masks]
        if any(request.params.adjusts for request in requests):
            return self._ask_adjusted(logits, bits, masked, requests, reader)
        drawn = self._draw(logits, bits, requests, reader)
        allowed = None if reader.top_ids is None else _allowed(bits, reader.top_ids)
        return Draw(requests, masked, reader, drawn, ~drawn.masses.isnan(), allowed)

    def _ask_adjusted(
        self,
        logits: torch.Tensor,
        bits: torch.Tensor | None,
        masked: list[bool],
        requests: list[Request],
        reader: LogitReader,
    ) -> Draw:
        """The same where penalties, biases or users' processors change the logits first."""
        changed = logits.clone()  # the reader keeps the model's own
        norm, ids = reader.norm[:, 0], reader.top_ids
        masses = norm
        if bits is not None:
            apply_bitmask(changed, bits)
            masses = (torch.logsumexp(changed, -1) - norm).exp()
        adjust(changed, requests)
        failed = self._process(changed, requests)
        drawn = self._draw(changed, None, requests, LogitReader(changed, [], []))
        drawn = drawn._replace(masses=masses, logprobs=None)
        allowed = None if ids is None else changed.gather(1, ids).isfinite()
        return Draw(requests, masked, reader, drawn, norm.isfinite(), allowed, failed)

    def _bits(self, masks: list[np.ndarray | None]) -> torch.Tensor | None:
        """[rows, ceil(vocab_size / 32)] int32 on the device; None: all may come everywhere."""
        if all(mask is None for mask in masks):
            return None
        every = np.full(-(-self.vocab_size // 32), -1, dtype=np.int32)
        return send(np.stack([every if mask is None else mask for mask in masks]), self.device)

    def _process(self, logits: torch.Tensor, requests: list[Request]) -> dict[int, Exception]:
        """The users' own processors. What is forbidden stays so. Returns what they raised."""
        failed: dict[int, Exception] = {}
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
        return failed


class Draw:
    """Tokens that are being drawn."""

    def __init__(
        self,
        requests: list[Request],
        masked: list[bool],
        reader: LogitReader,
        drawn: Drawn,
        sound: torch.Tensor,
        allowed: torch.Tensor | None,
        failed: dict[int, Exception] | None = None,
    ):
        self._requests, self._masked, self._failed = requests, masked, failed or {}
        self.tokens = drawn.tokens.clamp(min=0)
        """[rows] int64 on the device."""
        self._asked = reader.ask(self.tokens, drawn.logprobs)
        self._fetch = Fetch(drawn.tokens, drawn.masses, sound, allowed)

    def read(self) -> list[Sampled | Exception]:
        """Wait for them."""
        tokens, masses, sound, allowed = self._fetch.wait()
        tokens, masses = tokens.tolist(), masses.tolist()
        allowed = [[]] * len(tokens) if allowed is None else allowed.tolist()
        out: list[Sampled | Exception] = []
        for i, score in enumerate(self._asked.read()):
            error = self._failed.get(i)
            if error is None and tokens[i] < 0:
                error = EngineError(NOTHING_LEFT if sound[i] else BROKEN)
            top = [(at, lp, ok) for (lp, at), ok in zip(score.top, allowed[i], strict=False)]
            asked = score._replace(top=score.top[: self._requests[i].report.top_logprobs_num])
            mass = masses[i] if self._masked[i] else None
            out.append(error or Sampled(tokens[i], asked, top, mass, score.entropy))
        return out


def _allowed(bits: torch.Tensor | None, ids: torch.Tensor) -> torch.Tensor:
    """Which of ``ids`` [rows, n] the mask lets come."""
    if bits is None:
        return torch.ones_like(ids, dtype=torch.bool)
    return (bits.gather(1, ids >> 5) >> (ids & 31)) & 1 != 0


def _alternatives(request: Request) -> int:
    """How many of the likeliest tokens to report."""
    return max(request.report.top_logprobs_num, TOP if request.run else 0)
