"""Log-probabilities: read from the model's logits, kept by position, told with SGLang's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .report import Report


class TokenScore(NamedTuple):
    """What the model's own distribution said where a token was added."""

    logprob: float
    top: list[tuple[float, int]]
    """(logprob, id) of the likeliest tokens."""
    given: list[float]
    """Log-probabilities of the ids that were asked for."""
    entropy: float | None
    """In nats; None when nobody asked."""


class LogitReader:
    """Reads some rows of logits, each for what its own request wants to know.

    Args:
        logits: [rows, vocab] float32 as the model gave them; kept, so not to be changed later.
        reports: what is wanted of each row.
        tops: how many of the likeliest tokens to read in each row.
    """

    def __init__(self, logits: torch.Tensor, reports: Sequence[Report], tops: Sequence[int]):
        self._logits, self._reports, self._tops = logits, reports, tops
        self.norm = torch.logsumexp(logits, -1, keepdim=True)
        """[rows, 1]: logit minus norm is log-probability."""
        wide = min(max(tops, default=0), logits.shape[1])
        self.top_ids = torch.topk(logits, wide).indices if wide else None
        """[rows, most of ``tops``] the likeliest tokens, best first."""

    def scores(self, tokens: torch.Tensor) -> list[TokenScore]:
        """The score of one token in each row; ``tokens`` is [rows]."""
        chosen = (self._logits.gather(1, tokens[:, None]) - self.norm)[:, 0].tolist()
        tops, given, entropies = self._read_tops(), self._read_given(), self._read_entropies()
        return [TokenScore(*parts) for parts in zip(chosen, tops, given, entropies, strict=True)]

    def _read_tops(self) -> list[list[tuple[float, int]]]:
        if self.top_ids is None:
            return [[] for _ in self._tops]
        values = (self._logits.gather(1, self.top_ids) - self.norm).tolist()
        return [
            list(zip(v[:n], i[:n], strict=True))
            for v, i, n in zip(values, self.top_ids.tolist(), self._tops, strict=True)
        ]

    def _read_given(self) -> list[list[float]]:
        out: list[list[float]] = [[] for _ in self._reports]
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, report in enumerate(self._reports):
            if report.token_ids_logprob:
                groups.setdefault(report.token_ids_logprob, []).append(row)
        for ids, rows in groups.items():
            at = torch.tensor(rows, device=self._logits.device)[:, None]
            columns = torch.tensor(ids, device=self._logits.device)
            found = (self._logits[at, columns] - self.norm[rows]).tolist()
            for row, values in zip(rows, found, strict=True):
                out[row] = values
        return out

    def _read_entropies(self) -> list[float | None]:
        out: list[float | None] = [None] * len(self._reports)
        rows = [i for i, report in enumerate(self._reports) if report.return_entropy]
        if rows:
            probs = torch.softmax(self._logits[rows], -1)
            for row, value in zip(rows, torch.special.entr(probs).sum(-1).tolist(), strict=True):
                out[row] = value
        return out


class Scores:
    """The scores of one request's tokens, by position. The engine's thread writes, any reads.

    Args:
        report: what was asked for.
        prompt_len: tokens of the prompt.
        pieces: display text of each id, for ``return_text_in_logprobs``.
    """

    def __init__(self, report: Report, prompt_len: int, pieces: Sequence[str] = ()):
        self.report, self._prompt_len, self._pieces = report, prompt_len, pieces
        self.start = report.start(prompt_len)
        """First token to be reported."""
        self._known: dict[int, TokenScore] = {}
        self._unscored = max(1, self.start)

    def add(self, at: int, score: TokenScore) -> None:
        """Keep the score of the token at position ``at``."""
        self._known[at] = score

    @property
    def unscored(self) -> int:
        """The first position that still lacks a score. (Position 0 never gets one.)"""
        while self._unscored in self._known:
            self._unscored += 1
        return self._unscored

    def meta_info(self, ids: list[int]) -> dict[str, Any]:
        """The part of ``meta_info`` that was asked for; ``ids`` are prompt and output."""
        report, out = self.report, {}
        spans = (
            ("input", range(min(self.start, self._prompt_len), self._prompt_len)),
            ("output", range(self._prompt_len, len(ids))),
        )
        for side, span in spans:
            scores = [self._known.get(at) for at in span]
            if report.return_logprob:
                out[f"{side}_token_logprobs"] = [
                    self._named(None if s is None else s.logprob, ids[at])
                    for at, s in zip(span, scores, strict=True)
                ]
                if report.top_logprobs_num:
                    out[f"{side}_top_logprobs"] = [
                        None if s is None else [self._named(*pair) for pair in s.top]
                        for s in scores
                    ]
                if report.token_ids_logprob:
                    out[f"{side}_token_ids_logprobs"] = [
                        None if s is None else self._named_given(s.given) for s in scores
                    ]
            if report.return_entropy and side == "output":
                out["output_token_entropy"] = [None if s is None else s.entropy for s in scores]
        return out

    def _named_given(self, values: list[float]) -> list[tuple[float | None, int, str | None]]:
        ids = self.report.token_ids_logprob
        return [self._named(lp, i) for lp, i in zip(values, ids, strict=True)]

    def _named(self, logprob: float | None, i: int) -> tuple[float | None, int, str | None]:
        return logprob, i, self._pieces[i] if self.report.return_text_in_logprobs else None
