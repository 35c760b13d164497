"""What the model runner asks of an attention backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..kv_cache import KVCache

if TYPE_CHECKING:
    from .cascade import Group


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

    name: str
    """What users call it: ``Engine(attention=...)``."""
    capacity = 0
    """Positions, of all rows together, that a fixed plan has room for."""
    least = 1 << 62
    """Reads of one token's KV in one layer that rows must save together to be read as a group
    (:mod:`.cascade`). Below, one more kernel and a merge cost more than they save."""

    @abstractmethod
    def plan(self, rows: list[Row]) -> Any:
        """Everything about a batch that is the same in each layer. Its ``new_slots`` [N] int64
        say where the new tokens' keys and values go."""

    def fixed_plan(self, size: int, shared: bool) -> Any | None:
        """A plan for ``size`` rows with one new token each whose tables stay at one address, so
        that a CUDA graph can be made of the step; None when this backend has none.

        Args:
            shared: rows that begin with the same KV are read once.
        """
        return None

    def refill(self, plan: Any, rows: list[Row], groups: Sequence[Group]) -> None:
        """Put the tables of another step's rows into a fixed plan.

        Args:
            groups: rows that begin alike, in the order of ``rows`` and before all others.
        """
        raise NotImplementedError

    def release(self) -> None:  # noqa: B027  (nothing to give back is the rule)
        """Give back what is kept on the device between steps."""

    @abstractmethod
    def attend(
        self,
        plan: Any,
        layer: int,
        kv: KVCache,
        q: torch.Tensor,
        k: torch.Tensor | None,
        v: torch.Tensor | None,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
        sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Causal attention of each row's new tokens over all of its positions.

        Args:
            q: [N, query heads, head size], rotated.
            k, v: [N, key heads, head size] of the new tokens, rotated; None when they are in the
                pool already.
            scale: factor of the scores.
            window: each position sees only the last ``window`` positions.
            softcap: scores become ``softcap * tanh(score / softcap)``.
            sinks: [query heads] score of one more key whose value is 0 (GPT-OSS).

        Returns:
            [N, query heads, head size].
        """
