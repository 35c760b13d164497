"""Decode steps as CUDA graphs.

A decode step is some hundred short kernels; started one by one from Python they take longer than
they run. A graph starts them all at once. It is recorded the first time a batch of its size comes
along: batches are filled up to a power of two with rows that write to a spare slot and whose
results nobody reads.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .attention import AttentionBackend, Row
from .attention.cascade import Group, find_groups
from .kv_cache import KVCache
from .models import Batch
from .progress import Progress
from .transfer import send

if TYPE_CHECKING:
    from .recorded_draw import RecordedDraws


@dataclass(slots=True)
class Captured:
    """A recorded step."""

    inputs: torch.Tensor
    """[2, size] int64: ids and positions."""
    plan: Any
    """The attention's, whose tables the graph reads."""
    logits: torch.Tensor
    """[size, vocab_size] float32."""
    graph: torch.cuda.CUDAGraph
    recorder: Recorder
    draws: RecordedDraws | None = None
    """Sampling from these logits, once it was asked for."""


class Replayed:
    """A step that the device takes.

    Args:
        captured: the recorded step.
        places: which of its rows each row is that was asked for.
    """

    def __init__(self, captured: Captured, places: list[int]):
        self.captured, self.places = captured, places

    @property
    def logits(self) -> torch.Tensor:
        """[rows, vocab_size], good until the next step."""
        logits = self.captured.logits
        if self.places == list(range(len(self.places))):
            return logits[: len(self.places)]
        return logits[send(self.places, logits.device)]


class Recorder:
    """Records work on one device as CUDA graphs that share their memory."""

    def __init__(self, device: torch.device):
        self._device, self._memory = device, None
        self._stream = _recording_stream(device)

    def record(self, work: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
        """``work`` is done once, then recorded. Returns the graph and what the recorded work
        returned, which each replay writes over."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):  # all that happens once happens here
            work()
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # The notebook's own threads may use the GPU meanwhile: only this one is watched.
        how = {"stream": self._stream, "capture_error_mode": "thread_local"}
        with torch.cuda.graph(graph, pool=self._memory, **how):
            made = work()
        self._memory = graph.pool()
        return graph, made


class DecodeGraphs:
    """The graphs of one model over one pool.

    Args:
        forward: computes a batch: logits [N, vocab_size] float32.
        device: of the model.
        kv: the pool.
        attention: whose tables stay where they are.
        page_size: of the pool.
        most: rows of the largest batch that is recorded.
        progress: told when a graph is recorded.
    """

    def __init__(
        self,
        forward: Callable[[Batch], torch.Tensor],
        device: torch.device,
        kv: KVCache,
        attention: AttentionBackend,
        page_size: int,
        most: int,
        progress: Progress,
    ):
        self._forward, self._device, self._kv, self._attention = forward, device, kv, attention
        self._page_size, self._most, self._progress = page_size, most, progress
        self._graphs: dict[tuple[int, bool], Captured] = {}
        self._recorder = Recorder(device)
        self._sent = torch.cuda.Event()
        self.refused = ""
        """Why this model's steps cannot be recorded; empty: they can."""

    def run(
        self, ids: list[int] | torch.Tensor, positions: list[int], rows: list[Row]
    ) -> Replayed | None:
        """Start a step of rows with one new token each; None when there are too many of them, or
        the model cannot be recorded.

        Args:
            ids: of the tokens; a tensor is on the device.
            positions: of the tokens.
            rows: where their keys and values lie.
        """
        if self.refused or len(rows) > self._most or not self._attention.fits(rows):
            return None
        order, groups, filled = fill(rows, self._kv.spare, self._page_size, self._attention.least)
        straight = order == list(range(len(rows)))
        size = len(filled)
        inputs = torch.zeros(2, size, dtype=torch.int64, pin_memory=True)
        inputs.numpy()[1, : len(rows)] = [positions[i] for i in order]
        if not isinstance(ids, torch.Tensor):
            inputs.numpy()[0, : len(rows)] = [ids[i] for i in order]
        elif not straight:
            ids = ids[send(order, self._device)]
        captured = self._graphs.get((size, bool(groups)))
        if captured is None:
            captured = self._capture(inputs, ids, filled, groups)
            if captured is None:
                return None
            self._graphs[size, bool(groups)] = captured
        else:
            self._fill(captured.inputs, inputs, ids)
            self._sent.synchronize()  # the tables are written here before they are sent again
            self._attention.refill(captured.plan, filled, groups)
            self._sent.record()
            captured.graph.replay()
        return Replayed(captured, order if straight else np.argsort(order).tolist())

    @staticmethod
    def _fill(there: torch.Tensor, here: torch.Tensor, ids: list[int] | torch.Tensor) -> None:
        """Bring ids and positions to where a graph reads them."""
        there.copy_(here, non_blocking=True)
        if isinstance(ids, torch.Tensor):
            there[0, : len(ids)] = ids

    def _capture(
        self,
        inputs: torch.Tensor,
        ids: list[int] | torch.Tensor,
        rows: list[Row],
        groups: list[Group],
    ) -> Captured | None:
        with self._progress.task(f"recording the decode step for {len(rows)} rows"):
            here = torch.empty_like(inputs, device=self._device)
            self._fill(here, inputs, ids)
            plan = self._attention.fixed_plan(len(rows), bool(groups))
            self._attention.refill(plan, rows, groups)
            batch = Batch(here[0], here[1], plan, None)
            plain = self._forward(batch)
            try:
                graph, logits = self._recorder.record(lambda: self._forward(batch))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # it asks the GPU for something and waits for the answer
                return self._refuse(str(error).splitlines()[0])
            graph.replay()
            if not _alike(logits, plain):
                return self._refuse("the recorded step computes something else")
        return Captured(here, plan, logits, graph, self._recorder)

    def _refuse(self, why: str) -> None:
        self.refused = why
        warnings.warn(
            f"this model's decode steps cannot be recorded as CUDA graphs and run without: {why}",
            stacklevel=1,
        )


def _alike(some: torch.Tensor, others: torch.Tensor) -> bool:
    """Whether two passes over the same tokens gave the same, but for rounding."""
    finite = others.isfinite()
    size = others.masked_fill(~finite, 0.0).abs().amax(-1, keepdim=True)
    return bool(((some - others).abs() <= 0.05 * size).logical_or_(~finite).all())


@cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """The same for all engines: cuBLAS keeps a workspace of 32 MB for each stream it has seen."""
    return torch.cuda.Stream(device)


def padded_size(rows: int) -> int:
    """The size of the graph for a batch of ``rows``."""
    return 1 << (rows - 1).bit_length()


def fill(
    rows: list[Row], spare: int, page_size: int, least: int
) -> tuple[list[int], list[Group], list[Row]]:
    """Rows as a graph takes them: those that share a prefix first, group after group, then the
    others, then rows that write to the slot ``spare``.

    Returns:
        The order of the rows, the groups under their new numbers, and all rows.
    """
    groups, at = [], 0
    order: list[int] = []
    for group in find_groups(rows, page_size, least):
        order += group.rows
        groups.append(Group(list(range(at, len(order))), group.length))
        at = len(order)
    order += sorted(set(range(len(rows))) - set(order))
    nobody = Row(0, 1, [spare], [(spare, spare + 1)])
    missing = padded_size(len(rows)) - len(rows)
    return order, groups, [rows[i] for i in order] + [nobody] * missing
