"""Log-probabilities read from the model's logits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from .report import Report
from .scores import TokenScore
from .transfer import Fetch, send

_LEAST = -1e4
"""A log-probability whose probability is 0 in float32."""


class LogitReader:
    """Reads some rows of logits, each for what its own request wants to know.

    Args:
        logits: [rows, vocab] float32 as the model gave them; not to be changed before
            :meth:`ask`.
        reports: what is wanted of each row.
        tops: how many of the likeliest tokens to read in each row.
        entropies: rows whose entropy to read besides those whose report asks for it.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        reports: Sequence[Report],
        tops: Sequence[int],
        entropies: Sequence[int] = (),
    ):
        self._logits, self._reports, self.tops = logits, reports, tops
        asked = [i for i, report in enumerate(reports) if report.return_entropy]
        self._open = sorted({*asked, *entropies})
        wide = min(max(tops, default=0), logits.shape[1])
        self.top_ids = torch.topk(logits, wide).indices if wide else None
        """[rows, most of ``tops``] the likeliest tokens, best first."""

    @cached_property
    def norm(self) -> torch.Tensor:
        """[rows, 1]: logit minus norm is log-probability."""
        return torch.logsumexp(self._logits, -1, keepdim=True)

    def scores(self, tokens: torch.Tensor) -> list[TokenScore]:
        """The score of one token in each row; ``tokens`` is [rows]."""
        return self.ask(tokens).read()

    def ask(self, tokens: torch.Tensor, logprobs: torch.Tensor | None = None) -> Asked:
        """The same, without waiting for it.

        Args:
            tokens: [rows].
            logprobs: their log-probabilities, where they are known already.
        """
        if logprobs is None:
            logprobs = (self._logits.gather(1, tokens[:, None]) - self.norm)[:, 0]
        tops = None if self.top_ids is None else self._logits.gather(1, self.top_ids) - self.norm
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, report in enumerate(self._reports):
            if report.token_ids_logprob:
                groups.setdefault(report.token_ids_logprob, []).append(row)
        given = [self._given(ids, rows) for ids, rows in groups.items()]
        fetch = Fetch(logprobs, tops, self.top_ids, self._entropies(), *given)
        return Asked(fetch, self.tops, self._open, list(groups.values()))

    def _given(self, ids: tuple[int, ...], rows: list[int]) -> torch.Tensor:
        """Log-probabilities [rows, ids]."""
        at, columns = (send(some, self._logits.device) for some in (rows, ids))
        return self._logits[at[:, None], columns] - self.norm[at]

    def _entropies(self) -> torch.Tensor | None:
        """In nats, of the rows that it is wanted of."""
        if not self._open:
            return None
        if self._logits.device.type == "cpu":  # row by row, which its caches can hold
            return torch.cat(
                [entropy_of(self._logits[i : i + 1], self.norm[i : i + 1]) for i in self._open]
            )
        if len(self._open) == len(self._reports):
            return entropy_of(self._logits, self.norm)
        rows = send(self._open, self._logits.device)
        return entropy_of(self._logits[rows], self.norm[rows])


class Asked:
    """Scores on their way here."""

    def __init__(self, fetch: Fetch, tops: Sequence[int], rows: list[int], given: list[list[int]]):
        self._fetch, self._tops, self._open, self._given = fetch, tops, rows, given

    def read(self) -> list[TokenScore]:
        """One for each row."""
        logprobs, tops, top_ids, entropies, *given = self._fetch.wait()
        n = len(self._tops)
        best: list[list[tuple[float, int]]] = [[] for _ in range(n)]
        if tops is not None:
            for i, (values, ids) in enumerate(zip(tops.tolist(), top_ids.tolist(), strict=True)):
                wide = self._tops[i]
                best[i] = list(zip(values[:wide], ids[:wide], strict=True))
        asked: list[list[float]] = [[] for _ in range(n)]
        for rows, values in zip(self._given, given, strict=True):
            for row, some in zip(rows, values.tolist(), strict=True):
                asked[row] = some
        open_: list[float | None] = [None] * n
        if entropies is not None:
            for row, value in zip(self._open, entropies.tolist(), strict=True):
                open_[row] = value
        return [
            TokenScore(*parts) for parts in zip(logprobs.tolist(), best, asked, open_, strict=True)
        ]


def entropy_of(logits: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    """-sum(p log p) of each row, in nats; what has no chance at all (-inf) adds nothing."""
    logs = logits - norm
    return -torch.linalg.vecdot(logs.exp(), logs.clamp_(min=_LEAST))
