"""Runs a step's work through the model: the weights, the KV memory, and what depends on them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .attention import AttentionBackend, RecordableAttention, Row
from .graphs import DecodeGraphs, Replayed
from .image_features import ImageFeatures
from .lora_batch import group
from .models import Batch, Model
from .progress import Progress
from .request import Request
from .scheduler import Work
from .transfer import send


class Logits(NamedTuple):
    """What a step computed."""

    values: torch.Tensor
    """[M, vocab_size] float32."""
    rows: list[slice]
    """Per request of the step: its part of ``values``. The row read at position p tells of the
    token at p + 1."""


class ModelRunner:
    """The model over its KV memory.

    Args:
        text_ids: ids that are tokens of the tokenizer. The logits past them are padding and have
            no part in any distribution.
        slots: of the pool.
        page_size: of the pool.
        max_running: rows of the largest step that is recorded as a CUDA graph.
        cuda_graphs: record decode steps, where model and attention allow it.
        progress: told of what takes long.
    """

    def __init__(
        self,
        model: Model,
        attention: AttentionBackend,
        *,
        text_ids: int,
        slots: int,
        page_size: int,
        max_running: int,
        cuda_graphs: bool,
        progress: Progress,
    ):
        self.model: Model | None = model
        self.attention, self._progress = attention, progress
        self.kv = model.kv_cache(slots)
        self.features = ImageFeatures(model) if model.sees else None
        self._text_ids = text_ids
        self._page_size, self._max_running = page_size, max_running
        self._records = (
            cuda_graphs
            and model.device.type == "cuda"
            and model.capturable
            and isinstance(attention, RecordableAttention)
        )
        self.graphs: DecodeGraphs | None = None
        """The recorded steps; None before the first one."""

    # -- a step ----------------------------------------------------------------------------

    def run(self, work: list[Work]) -> Logits:
        """Compute ``work``: write its KV, and read the logits that are wanted of it."""
        rows, ids, positions = [], [], []
        wanted: list[int] = []
        reads: list[slice] = []
        base = 0
        for request, count in work:
            start, end = request.computed, request.computed + count
            rows.append(Row(start, count, request.table.slots, request.table.runs))
            ids += request.ids[start:end]
            positions += range(start, end)
            # Logits at p tell of the token at p + 1: those to be scored, and the next one.
            first = max(start, request.scores.start - 1) if request.report.scores else end - 1
            samples = end == len(request.ids) and request.budget > 0
            last = end if samples else min(end, len(request.ids) - 1)
            first = first if request.report.scores or samples else last
            at = len(wanted)
            wanted += range(base + first - start, base + last - start)
            reads.append(slice(at, len(wanted)))
            base += count
        return Logits(self._forward(work, ids, positions, rows, wanted), reads)

    def _forward(
        self,
        work: list[Work],
        ids: list[int],
        positions: list[int],
        rows: list[Row],
        wanted: list[int],
    ) -> torch.Tensor:
        """Logits [wanted, vocab_size]."""
        device = self.model.device
        adapted = any(request.lora is not None for request, _ in work)
        if self._records and len(ids) == len(rows) and not adapted:
            step = self._recorded().run(ids, positions, rows)
            if step is not None:
                logits = step.logits
                return logits if len(wanted) == len(rows) else logits[send(wanted, device)]
        batch = Batch(
            send(ids, device),
            send(positions, device),
            self.attention.plan(rows),
            send(wanted, device, torch.long),
        )
        if self.features is not None:
            batch = self.features.attach(batch, work)
        if adapted:
            batch = batch._replace(adapters=group(work, device))
        return self.forward(batch)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Write the batch's KV and return its logits."""
        logits = self.model.forward(batch, self.kv, self.attention)
        if self._text_ids < self.model.vocab_size:
            logits[:, self._text_ids :] = float("-inf")
        return logits

    @property
    def flies(self) -> bool:
        """Whether :meth:`fly` may be asked."""
        return self._records and not (self.graphs and self.graphs.refused)

    def fly(self, requests: list[Request], tokens: torch.Tensor) -> Replayed | None:
        """Start a decode step of one more token of each request: ``tokens`` [requests] on the
        device, which get the next slots of their tables. None: it cannot be recorded."""
        rows = [Row(r.computed, 1, r.table.slots, r.table.runs) for r in requests]
        return self._recorded().run(tokens, [row.start for row in rows], rows)

    def _recorded(self) -> DecodeGraphs:
        if self.graphs is None:
            self.graphs = DecodeGraphs(
                self.forward,
                self.model.device,
                self.kv,
                self.attention,
                self._page_size,
                self._max_running,
                self._progress,
            )
        return self.graphs

    def forget_graphs(self) -> None:
        """Give the memory of recorded steps back; they are recorded again when they are needed."""
        self.graphs = None
        torch.cuda.empty_cache()

    # -- memory ----------------------------------------------------------------------------

    @property
    def released(self) -> bool:
        """Whether weights or KV memory are given back for now."""
        return self.model is None or self.kv is None

    def resize(self, slots: int, kept: list[int]) -> None:
        """Take ``slots`` of KV memory instead; the first ones get what ``kept`` hold now."""
        self.graphs = None
        before, self.kv = self.kv, self.model.kv_cache(slots)
        self.kv.take(before, kept)

    def release(self, *, weights: bool = True, kv: bool = True) -> None:
        """Let go of weights, KV memory, or both; on a GPU others get the memory."""
        device = None if self.model is None else self.model.device
        if kv:
            self.kv = None
        if weights:
            self.model = None
            if self.features is not None:
                self.features.model = None
        self.graphs = None
        self.attention.release()
        if device is not None and device.type == "cuda":
            gc.collect()  # a model refers to itself
            torch.cuda.empty_cache()

    def resume(self, load: Callable[[], Model], slots: int) -> None:
        """Undo :meth:`release`."""
        if self.model is None:
            self.model = load()
            if self.features is not None:
                self.features.model = self.model
        if self.kv is None:
            self.kv = self.model.kv_cache(slots)

    def made_of(self) -> dict[str, Any]:
        """The parts that do not change, for :meth:`sglnb.runtime.engine.Engine.status`."""
        return {
            "decoder": self.model.kind,
            "device": str(self.model.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "attention": self.attention.name,
            "cuda_graphs": self.flies,
            "kv_bytes_per_token": self.model.kv_bytes_per_token,
            "weights_bytes": self.model.weights_bytes,
        }
