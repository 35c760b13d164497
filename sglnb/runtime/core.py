"""What the engine's thread does: admit, compute, sample, tell.

Nothing here is thread-safe; :class:`~sglnb.runtime.engine.Engine` sees to it that only its own
thread comes in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ..errors import EngineError, RequestAborted
from ..events import EventLog
from .attention import AttentionBackend
from .constraints.compiler import cached
from .flight import Flight
from .graphs import Replayed
from .image_keys import ImageKeys
from .journal import Accepted, Begun, Journal
from .logit_reader import LogitReader
from .memory import MemoryManager
from .models import Model
from .output import accept, allowed_mask, cut_short, force
from .pool import SlotPool
from .progress import Progress
from .radix import RadixTree
from .radix_node import Node
from .recorded_draw import RecordedDraw
from .request import Request
from .runner import ModelRunner
from .sampled import Sampled
from .sampler import Draw, Sampler
from .scheduler import Scheduler, Work
from .sizing import default_kv_tokens
from .tokenizer import Tokenizer
from .transfer import send

RELEASED = "the engine is released; call engine.resume() first"

MANY_JUMPS = 0.25
"""Above this share of tokens with forced ones behind them no step is started ahead: both are
computed in one pass, and the step would be taken for few."""

SLOTS_AHEAD = 16
"""KV slots that a decoding request is given at once while there are plenty."""

LEAST_CHUNK = 64
"""Prompt tokens of a step that is not halved any more when memory runs out."""


class EngineCore:
    """Queues, memory and model, and the step that moves them."""

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
        self.tokenizer, self.events = tokenizer, events
        slots = kv_tokens or default_kv_tokens(model)
        slots += -slots % page_size
        self.runner = ModelRunner(
            model,
            attention,
            text_ids=len(tokenizer.hf),
            slots=slots,
            page_size=page_size,
            max_running=max_running,
            cuda_graphs=cuda_graphs,
            progress=progress,
        )
        self.image_keys = ImageKeys(tokenizer)
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
        self.sampler = Sampler(model.vocab_size, model.device)
        self.journal = Journal(events, pool, self.image_keys.pieces)
        self.compiling: list[Request] = []
        """Requests whose constraint is not ready yet."""
        self.pins: dict[int, Node] = {}
        """Nodes pinned by the user, by handle."""
        self._flight: Flight | None = None
        self._drawn: dict[Request, int] = {}
        """The tokens that the flight computes."""
        self._jumps = 0.0
        """Share of sampled tokens that lately had forced ones behind them."""
        self._seeds = random.Random(seed)

    # -- requests --------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nothing to compute."""
        return not self.scheduler.waiting and not self.scheduler.running

    def requests(self) -> list[Request]:
        """All requests that are not done."""
        return self.compiling + self.scheduler.waiting + self.scheduler.running

    def draw_seed(self) -> int:
        """A seed for a request that brings none."""
        return self._seeds.getrandbits(62)

    def compiled(self, request: Request) -> None:
        """The constraint of a request that waited for it is there, or cannot be used."""
        if request.done:
            return
        self.compiling.remove(request)
        try:
            request.constrain(*request.compiling.result())
        except Exception as error:  # that request's alone
            self._fail(request, error)
            return
        self.add(request)

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
        self.runner.release()

    # -- the step --------------------------------------------------------------------------

    def step(self) -> None:
        """One forward pass over what the scheduler picked. For requests that just decode it is
        under way already."""
        start = time.monotonic()
        flight, self._flight = self._flight, None
        landed = [] if flight is None else flight.land(self._drawn)
        plan = self.scheduler.next_step()
        for request in plan.admitted:
            self.journal.admitted(request)
        for request in plan.retracted:
            self.journal.retracted(request)
        for request in plan.starved:
            full = {"type": "length", "length": request.new_tokens, "message": "KV pool full"}
            self._finish(request, request.ending or full)
        work = self._look(plan.work)
        landed = [(r, row) for r, row in landed if r.node is not None and r.pending == 0]
        if not work and not landed:
            return
        begun = Begun.of([*(Work(request, 1) for request, _ in landed), *work])
        short = False
        try:
            if work:
                self._compute(work, landed, flight)
            else:
                self._sample(landed, flight.step)
        except torch.OutOfMemoryError:
            short = True  # seen to when the error's frames, and the tensors in them, are gone
        except Exception as error:  # the batch is lost, the engine goes on
            failure = EngineError(f"a step failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            for request, _ in [*landed, *work]:
                self._fail(request, failure, keep=False)
        if short:
            self._shrink(work, landed)
        self.journal.step(begun, len(self.scheduler.waiting), time.monotonic() - start)

    def _look(self, work: list[Work]) -> list[Work]:
        """Have the images that ``work`` computes looked at. A failure is that request's alone."""
        if self.runner.features is None:
            return work
        out = []
        for one in work:
            try:
                self.runner.features.look(one.request, one.count)
                out.append(one)
            except Exception as error:
                failure = EngineError(f"an image failed: {type(error).__name__}: {error}")
                failure.__cause__ = error
                self._fail(one.request, failure)
        return out

    def _shrink(self, work: list[Work], landed: list[tuple[Request, int]]) -> None:
        """The device has no memory for a step as large as this one: from now on steps are half as
        large, and these requests take part in the next ones. One that is too large alone fails."""
        self.runner.forget_graphs()
        prompt_tokens = sum(count for _, count in work if count > 1)
        if prompt_tokens > LEAST_CHUNK:
            self.scheduler.chunk_tokens = prompt_tokens // 2
        elif len(work) + len(landed) > 1:
            self.scheduler.max_running = (len(work) + len(landed)) // 2
        else:
            failure = EngineError(
                "the GPU's memory is full: free some in this kernel or beside it, or give the "
                "engine fewer kv_tokens"
            )
            for request, _ in [*landed, *work]:
                self._fail(request, failure, keep=False)
        for request, _ in [*reversed(work), *reversed(landed)]:
            if not request.done and request.node is not None:
                self.scheduler.put_back(request)
                self.journal.retracted(request)

    def _compute(
        self, work: list[Work], landed: list[tuple[Request, int]], flight: Flight | None
    ) -> None:
        """Compute ``work``, and sample for it and for the ``landed`` requests."""
        sampling = [(request, i) for i, (request, _) in enumerate(landed)]
        if landed:  # before the next pass writes over them
            ahead = flight.step.logits[send([row for _, row in landed], self.sampler.device)]
        logits = self.runner.run(work)
        values = torch.cat([ahead, logits.values]) if landed else logits.values
        for (request, count), rows in zip(work, logits.rows, strict=True):
            request.computed += count
            samples = request.pending == 0 and request.budget > 0
            first, last = (len(landed) + edge for edge in (rows.start, rows.stop))
            if request.report.scores:
                self._score(request, values[first : last - samples])
            if samples:
                sampling.append((request, last - 1))
        for request, count in work:
            if request.computed - count < request.prompt_len:
                self.memory.share(request)
            if request.pending == 0 and request.budget <= 0:
                reason = {"type": "length", "length": request.params.max_new_tokens}
                self._finish(request, request.ending or reason)
        if sampling:
            self._sample(sampling, values)

    def _score(self, request: Request, logits: torch.Tensor) -> None:
        """Log-probabilities of tokens that are known already: prompt and forced tokens."""
        if not len(logits):
            return
        last = min(request.computed, len(request.ids) - 1)
        first = last - len(logits)  # position of the first row; it tells of the token behind it
        targets = send(request.ids[first + 1 : last + 1], logits.device)
        report, n = request.report, len(logits)
        of_prompt = min(n, max(0, request.prompt_len - first - 1))
        quiet = replace(report, return_entropy=False)  # told of the output only
        reports = [quiet] * of_prompt + [report] * (n - of_prompt)
        reader = LogitReader(logits, reports, [report.top_logprobs_num] * n)
        for at, score in enumerate(reader.scores(targets), first + 1):
            request.scores.add(at, score)

    def _sample(self, sampling: list[tuple[Request, int]], logits: torch.Tensor | Replayed) -> None:
        """Draw the next token of each request from its row of ``logits``."""
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
        some, rows = [request for request, _ in requests], [row for _, row in requests]
        if isinstance(logits, torch.Tensor):
            if rows != list(range(len(logits))):
                logits = logits[send(rows, logits.device)]
            draw = self.sampler.ask(logits, some, masks)
        else:
            draw = self.sampler.ask_ahead(logits, rows, some, masks)
        self._take_off(some, draw)
        results = draw.read()
        self._drawn, jumps = {}, 0
        for request, sampled in zip(some, results, strict=True):
            if isinstance(sampled, Exception):  # its KV may be as broken as its logits
                self._fail(request, sampled, keep=False)
                continue
            self._drawn[request] = sampled.token
            try:
                jumps += self._accept(request, sampled)
            except Exception as error:
                self._fail(request, error)
        self._jumps += 0.2 * (jumps / len(some) - self._jumps)

    def _take_off(self, requests: list[Request], draw: Draw | RecordedDraw) -> None:
        """Start the next step if it is clear what it will be: all that run are just being given
        a token, and no one is let in."""
        if not self.runner.flies or not self.scheduler.settled or self._jumps > MANY_JUMPS:
            return
        if len(requests) != len(self.scheduler.running) or any(r.lora for r in requests):
            return
        on = [i for i, request in enumerate(requests) if request.budget > 1]
        some = [requests[i] for i in on]
        if not some:
            return
        plenty = self.memory.pool.free_count > 8 * SLOTS_AHEAD * len(some)
        try:
            for request in some:
                if len(request.table) <= request.computed:
                    self.memory.grow(request, min(SLOTS_AHEAD, request.budget) if plenty else 1)
            step = self.runner.fly(some, draw.pick(on))
        except (MemoryError, torch.OutOfMemoryError):  # the next step sees to it
            return
        if step is not None:
            self._flight = Flight(some, step)

    def _accept(self, request: Request, sampled: Sampled) -> bool:
        """Take a sampled token, and what it forces behind it. Returns whether it forces any."""
        at = len(request.ids)
        accepted = accept(request, sampled, self.tokenizer)
        if accepted[0].how == "sampled":
            request.scores.add(at, sampled.score)
            if sampled.mass is not None and request.report.return_logprob:
                request.masses[at] = sampled.mass
        if accepted[-1].reason is None:
            accepted += force(request, self.tokenizer)
        self._tell(request, accepted)
        if not request.done:
            request.updated()
        return len(accepted) > 1

    def _tell(self, request: Request, accepted: list[Accepted]) -> None:
        """Events for new tokens; ends the request if the last of them does."""
        if any(token.replaced for token in accepted):
            self.memory.truncate(request, min(request.kept, request.reusable))
        self.journal.tokens(request, accepted)
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
        cut = reason["type"] == "length" and request.cursor is not None and not request.met
        if cut and error is None and request.params.on_budget == "error":
            error = cut_short(request)
        if request in self.compiling:
            self.compiling.remove(request)
            request.compiling.cancel()
        self.scheduler.remove(request, keep)
        self.journal.finished(request, reason, "" if error is None else str(error))
        request.finish(reason, error)

    def _fail(self, request: Request, error: Exception, keep: bool = True) -> None:
        self._finish(request, {"type": "abort", "message": str(error)}, error, keep)

    # -- memory ----------------------------------------------------------------------------

    @property
    def released(self) -> bool:
        """Whether weights or KV memory are given back for now."""
        return self.runner.released

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
        self.runner.resize(total, old)
        pool.restart(total, used=len(old))

    def release(self, *, weights: bool, kv: bool) -> None:
        """See :meth:`sglnb.runtime.engine.Engine.release`."""
        self._between_runs("release")
        if kv:
            for handle in list(self.pins):
                self.unpin(handle)
            self.memory.tree.evict(self.memory.tree.size, why="release")
        self.runner.release(weights=weights, kv=kv)

    def resume(self, load: Callable[[], Model]) -> None:
        """See :meth:`sglnb.runtime.engine.Engine.resume`."""
        self.runner.resume(load, self.memory.pool.total)

    def pin(self, node: Node) -> int:
        """Keep the path to ``node``; returns a handle."""
        self.memory.tree.lock(node, "pin")
        node.pins += 1
        handle = max(self.pins, default=0) + 1
        self.pins[handle] = node
        return handle

    def unpin(self, handle: int) -> None:
        """Undo :meth:`pin`."""
        node = self.pins.pop(handle)
        node.pins -= 1
        self.memory.tree.unlock(node, "pin")

    def _between_runs(self, what: str) -> None:
        if not self.idle:
            n = len(self.requests())
            raise EngineError(f"{what}: {n} requests are in progress; wait for them or abort()")
        self._flight = None

    # -- inspection ------------------------------------------------------------------------

    def metrics(self) -> dict[str, Any]:
        """See :meth:`sglnb.runtime.engine.Engine.metrics`."""
        pool, tree = self.memory.pool, self.memory.tree
        totals, features = self.journal.totals, self.runner.features
        return {
            "running": len(self.scheduler.running),
            "waiting": len(self.scheduler.waiting),
            "compiling": len(self.compiling),
            **cached(self.tokenizer),
            "steps": self.journal.steps,
            "busy_seconds": self.journal.seconds,
            **totals,
            "tokens_so_far": totals["completion_tokens"]
            + sum(request.new_tokens for request in self.requests()),
            "cache_hit_rate": totals["cached_tokens"] / max(1, totals["prompt_tokens"]),
            "kv_tokens": pool.total,
            "kv_used": pool.total - pool.free_count,
            "kv_cached": tree.size,
            "kv_locked": tree.locked_size,
            "tree_nodes": tree.count,
            **({"images_encoded": features.encoded} if features else {}),
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
