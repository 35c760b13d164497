"""What a request adds to or takes from logits: repetition, frequency, presence, bias."""

from __future__ import annotations

from collections import Counter

import torch

from .request import Request


class TokenCounts:
    """How often each token occurs in a text that only grows.

    Args:
        prompt_len: leading tokens that are the prompt.
    """

    def __init__(self, prompt_len: int):
        self.prompt_len = prompt_len
        self.output: Counter[int] = Counter()
        """Times by output token."""
        self.seen: dict[int, None] = {}
        """The tokens of prompt and output, in order of appearance."""
        self._read = 0

    def read(self, ids: list[int]) -> TokenCounts:
        """Count what is new in ``ids``."""
        self.seen.update(dict.fromkeys(ids[self._read :]))
        self.output.update(ids[max(self._read, self.prompt_len) :])
        self._read = len(ids)
        return self


def adjust(logits: torch.Tensor, requests: list[Request]) -> None:
    """Apply the requests' penalties and biases to their rows [rows, vocab], in place.

    The repetition penalty divides positive logits of tokens in prompt or output and multiplies
    negative ones (CTRL, Keskar et al. 2019, as transformers has it). The frequency penalty is
    taken from an output token's logit once for each time it occurred, the presence penalty once.
    """
    for row, request in zip(logits, requests, strict=True):
        params = request.params
        if not params.adjusts:
            continue
        if params.repeats_penalised:
            if request.counts is None:
                request.counts = TokenCounts(request.prompt_len)
            _penalise(row, request.counts.read(request.ids), request)
        if params.logit_bias:
            ids = torch.tensor(list(params.logit_bias), device=row.device)
            row[ids] += torch.tensor(list(params.logit_bias.values()), device=row.device)


def _penalise(row: torch.Tensor, counts: TokenCounts, request: Request) -> None:
    params = request.params
    if params.repetition_penalty != 1:
        ids = torch.tensor(list(counts.seen), device=row.device)
        old = row[ids]
        row[ids] = torch.where(
            old < 0, old * params.repetition_penalty, old / params.repetition_penalty
        )
    if counts.output and (params.frequency_penalty or params.presence_penalty):
        ids = torch.tensor(list(counts.output), device=row.device)
        times = torch.tensor(list(counts.output.values()), dtype=row.dtype, device=row.device)
        row[ids] -= params.frequency_penalty * times + params.presence_penalty
