"""What the model runner asks of an attention backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch

from ..kv_cache import KVCache


class Row(NamedTuple):
    """One request's share of a batch: which positions are computed and where KV lies."""

    start: int
    """First position computed now; the KV of positions before it is in the pool."""
    count: int
    """Positions computed now (1 = decode)."""
    slots: list[int]
    """KV slot of every position below ``start + count``, and maybe of some after it."""
    runs: list[tuple[int, int]]
    """``slots`` as half-open runs of consecutive slots."""


class AttentionBackend(ABC):
    """Writes new keys and values into the pool and attends over it.

    A batch is ragged: the tokens of all rows lie behind one another, N in total.
    """

    @abstractmethod
    def plan(self, rows: list[Row]) -> Any:
        """Everything about a batch that is the same in each layer."""

    @abstractmethod
    def attend(
        self,
        plan: Any,
        layer: int,
        kv: KVCache,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
        sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Causal attention of each row's new tokens over all of its positions.

        Args:
            q: [N, query heads, head size], rotated.
            k, v: [N, key heads, head size] of the new tokens, rotated.
            scale: factor of the scores.
            window: each position sees only the last ``window`` positions.
            softcap: scores become ``softcap * tanh(score / softcap)``.
            sinks: [query heads] score of one more key whose value is 0 (GPT-OSS).

        Returns:
            [N, query heads, head size].
        """
