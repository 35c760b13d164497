"""What the engine's thread does: admit, compute, sample, tell.

Nothing here is thread-safe; :class:`~sglnb.runtime.engine.Engine` sees to it that only its own
thread comes in.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ..errors import EngineError, RequestAborted
from ..events import (
    EventLog,
    RequestFinished,
    RequestMatched,
    RequestRetracted,
    RequestScheduled,
    StepRan,
    TokensGenerated,
)
from .attention import AttentionBackend, Row
from .graphs import DecodeGraphs
from .image_features import ImageFeatures
from .image_keys import ImageKeys
from .lora_batch import group
from .memory import MemoryManager
from .models import Batch, Model
from .output import Accepted, accept, allowed_mask, force
from .pool import SlotPool
from .progress import Progress
from .radix import RadixTree
from .radix_node import Node
from .request import Request
from .sampler import Sampled, Sampler
from .scheduler import Scheduler, Work
from .scores import LogitReader
from .sizing import default_kv_tokens
from .tokenizer import Tokenizer

RELEASED = "the engine is released; call engine.resume() first"

LEAST_CHUNK = 64
"""Prompt tokens of a step that is not halved any more when memory runs out."""


class EngineCore:
    """Model, memory, queues and the step that moves them."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        attention: AttentionBackend,
        events: EventLog,
        *,
        kv_tokens: int | None,
        page_size: int,
        policy: str,
        eviction: str,
        chunk_tokens: int,
        max_running: int,
        cuda_graphs: bool,
        seed: int | None,
        progress: Progress,
    ):
        self.model, self.tokenizer = model, tokenizer
        self.attention, self.events = attention, events
        slots = kv_tokens or default_kv_tokens(model)
        slots += -slots % page_size
        self.kv = model.kv_cache(slots)
        self.progress = progress
        self._cuda_graphs = cuda_graphs
        self._graphs: DecodeGraphs | None = None
        self.image_keys = ImageKeys(tokenizer)
        self.features = ImageFeatures(model) if model.sees else None
        pool = SlotPool(slots, page_size)
        tree = RadixTree(
            pool.free,
            events.emit,
            self.image_keys.pieces,
            clock=events.now,
            page_size=page_size,
            eviction=eviction,
        )
        self.memory = MemoryManager(pool, tree)
        self.scheduler = Scheduler(self.memory, policy, chunk_tokens, max_running, seed or 0)
        self.sampler = Sampler(model.vocab_size, len(tokenizer.hf), model.device)
        self.pins: dict[int, Node] = {}
        """Nodes pinned by the user, by handle."""
        self._seeds = random.Random(seed)
        self._steps = 0
        self._totals = dict.fromkeys(
            (
                "requests",
                "prompt_tokens",
                "cached_tokens",
                "completion_tokens",
                "forced_tokens",
                "retractions",
            ),
            0,
        )
        self._busy_seconds = 0.0

    # -- requests --------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nothing to compute."""
        return not self.scheduler.waiting and not self.scheduler.running

    def requests(self) -> list[Request]:
        """All requests that are not done."""
        return self.scheduler.waiting + self.scheduler.running

    def draw_seed(self) -> int:
        """A seed for a request that brings none."""
        return self._seeds.getrandbits(62)

    def add(self, request: Request) -> None:
        """Queue a request. Text that its constraint forces right away joins the prompt."""
        if self.released:
            self._fail(request, EngineError(RELEASED))
            return
        if request.cursor is not None and request.params.max_new_tokens:
            try:
                self._tell(request, [*force(request, self.tokenizer)])
            except Exception as error:  # a constraint's failure is that request's alone
                self._fail(request, error)
                return
        if not request.done:
            self.scheduler.add(request)

    def abort(self, request: Request) -> None:
        """End a request; what it has is kept."""
        if not request.done:
            self._finish(
                request,
                {"type": "abort", "message": "aborted"},
                RequestAborted(f"generation {request.name or request.rid!r} was stopped"),
            )

    def close(self, error: Exception) -> None:
        """End all requests and let go of model and pool."""
        for request in self.requests():
            self._fail(request, error)
        device = self.model.device if self.model is not None else None
        self.kv = self.model = None
        self._give_back(device)

    # -- the step --------------------------------------------------------------------------

    def step(self) -> None:
        """One forward pass over what the scheduler picked."""
        began = time.monotonic()
        plan = self.scheduler.next_step()
        for request in plan.admitted:
            self._admitted(request)
        for request in plan.retracted:
            self._retracted(request)
        for request in plan.starved:
            full = {"type": "length", "length": request.new_tokens, "message": "KV pool full"}
            self._finish(request, request.ending or full)
        plan = plan._replace(work=self._look(plan.work))
        if not plan.work:
            return
        self._steps += 1
        tell = [(w.request.computed, w.request.computed + w.count) for w in plan.work]
        prefill = [w.request.rid for w in plan.work if w.request.in_prompt]
        decode = [w.request.rid for w in plan.work if not w.request.in_prompt]
        prefill_tokens = sum(w.count for w in plan.work if w.request.in_prompt)
        short = False
        try:
            self._compute(plan.work)
        except torch.OutOfMemoryError:
            short = True  # seen to when the error's frames, and the tensors in them, are gone
        except Exception as error:  # the batch is lost, the engine goes on
            failure = EngineError(f"a step failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            for work in plan.work:
                self._fail(work.request, failure, keep=False)
        if short:
            self._shrink(plan.work)
        seconds = time.monotonic() - began
        self._busy_seconds += seconds
        for work, (start, end) in zip(plan.work, tell, strict=True):
            if work.request.rid in prefill:
                self.events.emit(
                    RequestScheduled(rid=work.request.rid, step=self._steps, start=start, end=end)
                )
        self.events.emit(
            StepRan(
                step=self._steps,
                prefill=prefill,
                decode=decode,
                prefill_tokens=prefill_tokens,
                waiting=len(self.scheduler.waiting),
                used_slots=self.memory.pool.total - self.memory.pool.free_count,
                total_slots=self.memory.pool.total,
                seconds=seconds,
            )
        )

    def _shrink(self, work: list[Work]) -> None:
        """The device has no memory for a step as large as this one: from now on steps are half as
        large, and these requests take part in the next ones. One that is too large alone fails."""
        self._graphs = None
        torch.cuda.empty_cache()
        prompt_tokens = sum(w.count for w in work if w.count > 1)
        if prompt_tokens > LEAST_CHUNK:
            self.scheduler.chunk_tokens = prompt_tokens // 2
        elif len(work) > 1:
            self.scheduler.max_running = len(work) // 2
        else:
            failure = EngineError(
                "the GPU's memory is full: free some in this kernel or beside it, or give the "
                "engine fewer kv_tokens"
            )
            self._fail(work[0].request, failure, keep=False)
        for request, _ in reversed(work):
            if not request.done:
                self.scheduler.put_back(request)
                self._retracted(request)

    def _retracted(self, request: Request) -> None:
        self._totals["retractions"] += 1
        self.events.emit(RequestRetracted(rid=request.rid))

    def _look(self, work: list[Work]) -> list[Work]:
        """Have the images that ``work`` computes looked at. A failure is that request's alone."""
        if self.features is None:
            return work
        out = []
        for one in work:
            try:
                self.features.look(one.request, one.count)
                out.append(one)
            except Exception as error:
                failure = EngineError(f"an image failed: {type(error).__name__}: {error}")
                failure.__cause__ = error
                self._fail(one.request, failure)
        return out

    def _admitted(self, request: Request) -> None:
        if request.cached_tokens is None:
            request.cached_tokens = min(request.computed, request.prompt_len)
            self._totals["requests"] += 1
            self._totals["prompt_tokens"] += request.prompt_len
            self._totals["cached_tokens"] += request.cached_tokens
        path = [node.id for node in request.node.path()]
        self.events.emit(RequestMatched(rid=request.rid, cached=request.computed, path=path))

    def _compute(self, work: list[Work]) -> None:
        rows, ids, positions = [], [], []
        wanted: list[int] = []
        reads: list[tuple[int, int]] = []  # per row: its slice of ``wanted``
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
            reads.append((at, len(wanted)))
            base += count
        logits = self._forward(work, ids, positions, rows, wanted)
        self.sampler.hide_padding(logits)
        sampling: list[tuple[Request, int]] = []
        for (request, count), (start, stop) in zip(work, reads, strict=True):
            request.computed += count
            samples = request.pending == 0 and request.budget > 0
            if request.report.scores:
                self._score(request, logits[start : stop - samples])
            if samples:
                sampling.append((request, stop - 1))
        for request, count in work:
            if request.computed - count < request.prompt_len:
                self.memory.share(request)
            if request.pending == 0 and request.budget <= 0:
                reason = {"type": "length", "length": request.params.max_new_tokens}
                self._finish(request, request.ending or reason)
        if sampling:
            self._sample(sampling, logits)

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
            if self._graphs is None:
                self._graphs = DecodeGraphs(
                    self.model,
                    self.kv,
                    self.attention,
                    self.memory.pool.page_size,
                    self.scheduler.max_running,
                    self.progress,
                )
            logits = self._graphs.run(ids, positions, rows)
            if logits is not None:
                return logits if len(wanted) == len(rows) else logits[wanted]
        batch = Batch(
            torch.tensor(ids, device=device),
            torch.tensor(positions, device=device),
            self.attention.plan(rows),
            torch.tensor(wanted, dtype=torch.long, device=device),
        )
        if self.features is not None:
            batch = self.features.attach(batch, work)
        if adapted:
            batch = batch._replace(adapters=group(work, device))
        return self.model.forward(batch, self.kv, self.attention)

    @property
    def _records(self) -> bool:
        """Whether decode steps are CUDA graphs."""
        on_gpu = self.model.device.type == "cuda"
        return (
            self._cuda_graphs and on_gpu and self.model.capturable and self.attention.capacity > 0
        )

    def _score(self, request: Request, logits: torch.Tensor) -> None:
        """Log-probabilities of tokens that are known already: prompt and forced tokens."""
        if not len(logits):
            return
        last = min(request.computed, len(request.ids) - 1)
        first = last - len(logits)  # position of the first row; it tells of the token behind it
        targets = torch.tensor(request.ids[first + 1 : last + 1], device=logits.device)
        report, n = request.report, len(logits)
        of_prompt = min(n, max(0, request.prompt_len - first - 1))
        quiet = replace(report, return_entropy=False)  # told of the output only
        reports = [quiet] * of_prompt + [report] * (n - of_prompt)
        reader = LogitReader(logits, reports, [report.top_logprobs_num] * n)
        for at, score in enumerate(reader.scores(targets), first + 1):
            request.scores.add(at, score)

    def _sample(self, sampling: list[tuple[Request, int]], logits: torch.Tensor) -> None:
        requests, masks = [], []
        for request, row in sampling:
            try:
                mask = allowed_mask(request, self.tokenizer)
            except Exception as error:  # a constraint's failure is that request's alone
                self._fail(request, error)
                continue
            requests.append((request, row))
            masks.append(mask)
        if not requests:
            return
        at = [row for _, row in requests]
        # A gather would wait for the GPU, which is still at it: all else is queued behind it.
        rows = logits if at == list(range(len(logits))) else logits[at]
        results = self.sampler(rows, [request for request, _ in requests], masks)
        for (request, _), sampled in zip(requests, results, strict=True):
            if isinstance(sampled, Exception):  # its KV may be as broken as its logits
                self._fail(request, sampled, keep=False)
                continue
            try:
                self._accept(request, sampled)
            except Exception as error:
                self._fail(request, error)

    def _accept(self, request: Request, sampled: Sampled) -> None:
        """Take a sampled token, and what it forces behind it."""
        request.scores.add(len(request.ids), sampled.score)
        accepted = [accept(request, sampled, self.tokenizer)]
        if accepted[0].reason is None:
            accepted += force(request, self.tokenizer)
        self._tell(request, accepted)
        if not request.done:
            request.updated()

    def _tell(self, request: Request, accepted: list[Accepted]) -> None:
        """Events for new tokens; ends the request if the last of them does."""
        pieces = self.tokenizer.pieces
        for how in ("sampled", "forced"):
            some = [a for a in accepted if a.how == how]
            if not some:
                continue
            self.events.emit(
                TokensGenerated(
                    rid=request.rid,
                    ids=[a.token for a in some],
                    pieces=[pieces[a.token] for a in some],
                    how=how,
                    logprobs=[a.logprob for a in some],
                    top=[[[pieces[i], i, lp, ok] for i, lp, ok in a.top] for a in some],
                    allowed=[a.allowed for a in some],
                    mass=[a.mass for a in some],
                    fsm_before=some[0].state_before,
                    fsm_after=some[-1].state_after,
                )
            )
        reason = accepted[-1].reason if accepted else None
        if reason is None:
            return
        if request.report.scores and request.scores.unscored < len(request.ids):
            request.ending = reason  # one more pass, for the scores of what was forced
        else:
            self._finish(request, reason)

    # -- the end of a request --------------------------------------------------------------

    def _finish(
        self, request: Request, reason: dict[str, Any], error: Exception | None = None, keep=True
    ) -> None:
        if request.done:
            return
        self.scheduler.remove(request, keep)
        self._totals["completion_tokens"] += request.new_tokens
        self._totals["forced_tokens"] += request.forced_tokens
        self.events.emit(
            RequestFinished(
                rid=request.rid,
                reason=reason["type"],
                matched=self._matched_text(reason.get("matched")),
                error="" if error is None else str(error),
                prompt_tokens=request.prompt_len,
                cached_tokens=request.cached_tokens or 0,
                completion_tokens=request.new_tokens,
                forced_tokens=request.forced_tokens,
            )
        )
        request.finish(reason, error)

    def _fail(self, request: Request, error: Exception, keep: bool = True) -> None:
        self._finish(request, {"type": "abort", "message": str(error)}, error, keep)

    def _matched_text(self, matched: str | int | None) -> str:
        if matched is None:
            return ""
        return self.tokenizer.pieces[matched] if isinstance(matched, int) else matched

    # -- memory ----------------------------------------------------------------------------

    def resize(self, kv_tokens: int) -> None:
        """See :meth:`sglnb.runtime.engine.Engine.resize`."""
        self._between_runs("resize")
        if self.released:
            raise EngineError(RELEASED)
        pool, tree = self.memory.pool, self.memory.tree
        total = kv_tokens + -kv_tokens % pool.page_size
        if tree.locked_size > total:
            raise ValueError(
                f"kv_tokens: {tree.locked_size:,} tokens are pinned, more than {total:,}; "
                "unpin some first"
            )
        if tree.size > total:
            tree.evict(tree.size - total, why="resize")
        old = tree.renumber()
        self._graphs = None
        before, self.kv = self.kv, self.model.kv_cache(total)
        self.kv.take(before, old)
        pool.restart(total, used=len(old))

    def release(self, *, weights: bool, kv: bool) -> None:
        """See :meth:`sglnb.runtime.engine.Engine.release`."""
        self._between_runs("release")
        device = None if self.released else self.model.device
        if kv:
            tree = self.memory.tree
            for node in self.pins.values():
                node.pins -= 1
                tree.unlock(node, "pin")
            self.pins.clear()
            tree.evict(tree.size, why="release")
            self.kv = None
        if weights:
            self.model = None
            if self.features is not None:
                self.features.model = None

        self._give_back(device)

    def _give_back(self, device: torch.device | None) -> None:
        """What was let go of goes back to the GPU, for others in the kernel and beside it."""
        self._graphs = None
        self.attention.release()
        if device is not None and device.type == "cuda":
            gc.collect()  # a model refers to itself
            torch.cuda.empty_cache()

    def resume(self, load: Callable[[], Model]) -> None:
        """See :meth:`sglnb.runtime.engine.Engine.resume`."""
        if self.model is None:
            self.model = load()
            if self.features is not None:
                self.features.model = self.model
        if self.kv is None:
            self.kv = self.model.kv_cache(self.memory.pool.total)

    @property
    def released(self) -> bool:
        """Whether weights or KV memory are given back for now."""
        return self.model is None or self.kv is None

    def _between_runs(self, what: str) -> None:
        if not self.idle:
            n = len(self.requests())
            raise EngineError(f"{what}: {n} requests are in progress; wait for them or abort()")

    # -- inspection ------------------------------------------------------------------------

    def made_of(self) -> dict[str, Any]:
        """The parts that do not change, for :meth:`sglnb.runtime.engine.Engine.status`."""
        return {
            "decoder": self.model.kind,
            "device": str(self.model.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "attention": self.attention.name,
            "cuda_graphs": self._records,
            "weights_bytes": self.model.weights_bytes,
            "kv_bytes_per_token": self.model.kv_bytes_per_token,
        }

    def metrics(self) -> dict[str, Any]:
        """See :meth:`sglnb.runtime.engine.Engine.metrics`."""
        pool, tree = self.memory.pool, self.memory.tree
        totals = self._totals
        return {
            "running": len(self.scheduler.running),
            "waiting": len(self.scheduler.waiting),
            "steps": self._steps,
            "busy_seconds": self._busy_seconds,
            **totals,
            "cache_hit_rate": totals["cached_tokens"] / max(1, totals["prompt_tokens"]),
            "kv_tokens": pool.total,
            "kv_used": pool.total - pool.free_count,
            "kv_cached": tree.size,
            "kv_locked": tree.locked_size,
            "tree_nodes": tree.count,
            **({"images_encoded": self.features.encoded} if self.features else {}),
        }

    def check(self) -> None:
        """See :meth:`sglnb.runtime.engine.Engine.check`."""
        pins: dict[int, int] = {}
        for node in self.pins.values():
            pins[node.id] = pins.get(node.id, 0) + 1
        self.memory.check(self.scheduler.running, pins)
        for request in self.scheduler.waiting:
            if request.node is not None or len(request.table):
                raise RuntimeError(f"{request} waits and holds slots")
