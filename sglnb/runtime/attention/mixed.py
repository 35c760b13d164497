"""FlashInfer for passes over prompts, our Triton kernels for recorded decode steps.

FlashInfer's kernels are the faster ones for many queries. A recorded step is planned on the device
with ours, so that the host has little to do between two steps, and they start while the kernel
before them still runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..kv_cache import KVCache
from .base import RecordableAttention, Row, Scoring
from .cascade import Group
from .flashinfer_backend import FlashInferAttention
from .triton_backend import TritonAttention, TritonPlan


class MixedAttention(RecordableAttention):
    """What ``attention="auto"`` takes where both are there."""

    name = "flashinfer and triton"

    def __init__(self, passes: FlashInferAttention, steps: TritonAttention):
        self._passes, self._steps = passes, steps
        self.capacity, self.least = steps.capacity, steps.least

    def plan(self, rows: list[Row]) -> Any:
        return self._passes.plan(rows)

    def fits(self, rows: list[Row]) -> bool:
        return self._steps.fits(rows)

    def fixed_plan(self, size: int, shared: bool) -> TritonPlan:
        return self._steps.fixed_plan(size, shared)

    def refill(self, plan: TritonPlan, rows: list[Row], groups: Sequence[Group]) -> None:
        self._steps.refill(plan, rows, groups)

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
        backend = self._steps if isinstance(plan, TritonPlan) else self._passes
        return backend.attend(plan, layer, kv, q, k, v, scoring)

    def release(self) -> None:
        self._passes.release()
        self._steps.release()
