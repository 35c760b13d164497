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


class Scoring(NamedTuple):
    """How a layer turns queries and keys into weights."""

    scale: float
    """Factor of the scores."""
    window: int | None = None
    """Each position sees only the last ``window`` positions."""
    softcap: float | None = None
    """Scores become ``softcap * tanh(score / softcap)``."""
    sinks: torch.Tensor | None = None
    """[query heads] score of one more key whose value is 0 (GPT-OSS)."""


class AttentionBackend(ABC):
    """Writes new keys and values into the pool and attends over it.

    A batch is ragged: the tokens of all rows lie behind one another, N in total.
    """

    name: str
    """What users call it: ``Engine(attention=...)``."""

    @abstractmethod
    def plan(self, rows: list[Row]) -> Any:
        """Everything about a batch that is the same in each layer. Its ``new_slots`` [N] int64
        say where the new tokens' keys and values go."""

    @abstractmethod
    def attend(
        self,
        plan: Any,
        layer: int,
        kv: KVCache,
        q: torch.Tensor,
        k: torch.Tensor | None,
        v: torch.Tensor | None,
        scoring: Scoring,
    ) -> torch.Tensor:
        """Causal attention of each row's new tokens over all of its positions.

        Args:
            q: [N, query heads, head size], rotated.
            k, v: [N, key heads, head size] of the new tokens, rotated; None when they are in the
                pool already.

        Returns:
            [N, query heads, head size].
        """

    def release(self) -> None:  # noqa: B027  (nothing to give back is the rule)
        """Give back what is kept on the device between steps."""


class RecordableAttention(AttentionBackend):
    """A backend whose decode steps can be recorded as CUDA graphs (:mod:`..graphs`): the tables
    of such a step stay at one address and are filled anew."""

    capacity: int
    """Positions, of all rows together, that a fixed plan has room for."""
    least: int
    """Reads of one token's KV in one layer that rows must save together to be read as a group
    (:mod:`.cascade`). Below, one more kernel and a merge cost more than they save."""

    def fits(self, rows: list[Row]) -> bool:
        """Whether a fixed plan has room for ``rows``."""
        return sum(row.start + 1 for row in rows) <= self.capacity

    @abstractmethod
    def fixed_plan(self, size: int, shared: bool) -> Any:
        """A plan for ``size`` rows with one new token each, to be filled by :meth:`refill`.

        Args:
            shared: rows that begin with the same KV are read once.
        """

    @abstractmethod
    def refill(self, plan: Any, rows: list[Row], groups: Sequence[Group]) -> None:
        """Put the tables of a step's rows into a fixed plan.

        Args:
            groups: rows that begin alike, in the order of ``rows`` and before all others.
        """
