"""Log-probabilities read from the model's logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .report import Report
from .scores import TokenScore

_LEAST = -1e4
"""A log-probability whose probability is 0 in float32."""
_AT_ONCE = 1 << 18
"""Logits whose entropies a CPU computes at once: its caches hold them."""


class LogitReader:
    """Reads some rows of logits, each for what its own request wants to know.

    Args:
        logits: [rows, vocab] float32 as the model gave them; kept, so not to be changed later.
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
        self._logits, self._reports, self._tops = logits, reports, tops
        asked = [i for i, report in enumerate(reports) if report.return_entropy]
        self._open = sorted({*asked, *entropies})
        self.norm = torch.logsumexp(logits, -1, keepdim=True)
        """[rows, 1]: logit minus norm is log-probability."""
        wide = min(max(tops, default=0), logits.shape[1])
        self.top_ids = torch.topk(logits, wide).indices if wide else None
        """[rows, most of ``tops``] the likeliest tokens, best first."""

    def scores(self, tokens: torch.Tensor) -> list[TokenScore]:
        """The score of one token in each row; ``tokens`` is [rows]."""
        entropies = self._entropies()  # first, so that a GPU is not waited for once more
        chosen = (self._logits.gather(1, tokens[:, None]) - self.norm)[:, 0].tolist()
        tops, given, entropies = self._read_tops(), self._read_given(), self._placed(entropies)
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

    def _entropies(self) -> torch.Tensor | None:
        """In nats, of the rows that it is wanted of."""
        if not self._open:
            return None
        logits, norm = self._logits, self.norm
        if len(self._open) < len(self._reports):
            logits, norm = logits[self._open], norm[self._open]
        if logits.device.type != "cpu":
            return _entropy(logits, norm)
        rows = max(1, _AT_ONCE // logits.shape[1])
        parts = zip(logits.split(rows), norm.split(rows), strict=True)
        return torch.cat([_entropy(*part) for part in parts])

    def _placed(self, values: torch.Tensor | None) -> list[float | None]:
        out: list[float | None] = [None] * len(self._reports)
        if values is not None:
            for row, value in zip(self._open, values.tolist(), strict=True):
                out[row] = value
        return out


def _entropy(logits: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    """-sum(p log p) of each row; what has no chance at all (-inf) adds nothing."""
    logs = (logits - norm).clamp_(min=_LEAST)
    return -torch.linalg.vecdot(torch.softmax(logits, -1), logs)
