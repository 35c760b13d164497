"""Log-probabilities of a request's tokens: kept by position, told with SGLang's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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

    def forget(self, start: int) -> None:
        """Drop the scores from position ``start`` on: other tokens come there."""
        self._known = {at: score for at, score in self._known.items() if at < start}
        self._unscored = min(self._unscored, max(1, self.start, start))

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
