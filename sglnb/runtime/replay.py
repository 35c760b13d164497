"""A trace on its way through the real scheduler, memory and tree, with no model."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..events import (
    Event,
    EventLog,
    RequestArrived,
    RunEnded,
    RunStarted,
    StateEnded,
    StateStarted,
)
from .journal import Accepted, Begun, Journal
from .memory import MemoryManager
from .pool import SlotPool
from .radix import RadixTree
from .request import Request
from .sampling_params import SamplingParams
from .scheduler import Scheduler, Work
from .trace import TraceRequest


class Cost(NamedTuple):
    """Seconds of a step: ``step`` + ``token`` for each token computed in it."""

    step: float = 5e-3
    token: float = 5e-4

    @classmethod
    def fit(cls, events: Iterable[Event]) -> Cost:
        """Fitted to a recording's steps by least squares; the default if it has none."""
        steps = [event for event in events if event.kind == "step"]
        if not steps:
            return cls()
        tokens = [event.prefill_tokens + len(event.decode) for event in steps]
        seconds = [event.seconds for event in steps]
        n, mean, whole = len(steps), sum(tokens) / len(steps), sum(seconds) / len(steps)
        spread = sum((t - mean) ** 2 for t in tokens)
        together = sum((t - mean) * (s - whole) for t, s in zip(tokens, seconds, strict=True))
        token = max(0.0, together / spread) if spread else 0.0
        return cls(max(0.0, sum(seconds) / n - token * mean), token)


class Replay:
    """A trace on its way through the scheduler, one :meth:`step` after the other.

    Arguments are those of :func:`sglnb.runtime.simulate.simulate`; ``pieces`` gives the display
    texts of token ids.
    """

    def __init__(
        self,
        trace: list[TraceRequest],
        policy: str,
        eviction: str,
        *,
        kv_tokens: int,
        page_size: int,
        max_running: int,
        chunk_tokens: int,
        seed: int,
        cost: Cost,
        pieces: Callable[[list[int]], list[str]],
    ):
        self.trace, self.cost, self._pieces = trace, cost, pieces
        self.now = 0.0
        self.events = EventLog(5_000_000, clock=lambda: self.now)
        pool = SlotPool(kv_tokens, page_size)
        tree = RadixTree(pool.free, self.events.emit, pieces, lambda: self.now, page_size, eviction)
        self.memory = MemoryManager(pool, tree)
        self.scheduler = Scheduler(self.memory, policy, chunk_tokens, max_running, seed)
        self.journal = Journal(self.events, pool, pieces)
        self.computed = 0
        self.facts: list[dict[str, Any]] = [{} for _ in trace]
        """What became of each request: see :meth:`Simulation.to_frame`."""
        self.live: dict[Request, int] = {}
        """Requests in the scheduler, with their places in the trace."""
        self._to_come = [(r.arrival, at) for at, r in enumerate(trace) if r.after is None]
        heapq.heapify(self._to_come)
        self._followers: dict[int, list[int]] = {}
        self._open = {}
        for at, request in enumerate(trace):
            if request.after is not None:
                self._followers.setdefault(request.after, []).append(at)
            for label in (request.run, request.state):
                self._open[label] = self._open.get(label, 0) + 1
        self._started: set[str] = set()

    def step(self) -> bool:
        """Let arrive what is due, and run a step. False: nothing was left to do."""
        if not self.live and self._to_come:
            self.now = max(self.now, self._to_come[0][0])
        while self._to_come and self._to_come[0][0] <= self.now:
            self._arrive(heapq.heappop(self._to_come)[1])
        if not self.live:
            return bool(self._to_come)
        plan = self.scheduler.next_step()
        for request in plan.admitted:
            self._admitted(request)
        for request in plan.retracted:
            self.facts[self.live[request]]["retractions"] += 1
            self.journal.retracted(request)
        for request in plan.starved:
            self.finish(request, "length", "KV pool full")
        if plan.work:
            self._compute(plan.work)
        return bool(self.live or self._to_come)

    def _arrive(self, at: int) -> None:
        asked = self.trace[at]
        limit = asked.output_length if asked.max_new_tokens is None else asked.max_new_tokens
        request = Request(
            list(asked.prompt),
            SamplingParams(max_new_tokens=limit),
            run=asked.run,
            state=asked.state,
            name=asked.name,
            purpose=asked.purpose,
            extra_key=asked.extra_key,
            priority=asked.priority,
        )
        request.rid = f"t{at}"
        if asked.run not in self._started:
            self._started.add(asked.run)
            self.events.emit(RunStarted(run=asked.run, title=asked.run))
        if asked.state and asked.state not in self._started:
            self._started.add(asked.state)
            self.events.emit(StateStarted(state=asked.state, run=asked.run, parent=asked.parent))
        self.events.emit(
            RequestArrived(
                rid=request.rid,
                run=asked.run,
                state=asked.state,
                name=asked.name,
                purpose=asked.purpose,
                ids=list(asked.prompt),
                pieces=self._pieces(list(asked.prompt)),
                max_new_tokens=limit,
                priority=asked.priority,
                extra_key=asked.extra_key,
            )
        )
        self.live[request] = at
        self.facts[at] = {
            "arrived": self.now,
            "admitted": None,
            "first_token": None,
            "finished": None,
            "prompt_tokens": len(asked.prompt),
            "cached_tokens": 0,
            "output_tokens": 0,
            "retractions": 0,
            "rounds_waited": self.scheduler.rounds,
            "reason": "",
        }
        self._generate(request, sampled=False)
        self.scheduler.add(request)

    def _admitted(self, request: Request) -> None:
        self.journal.admitted(request)
        facts = self.facts[self.live[request]]
        if facts["admitted"] is None:
            facts["admitted"], facts["cached_tokens"] = self.now, request.cached_tokens
            facts["rounds_waited"] = self.scheduler.rounds - facts["rounds_waited"]

    def _compute(self, work: list[Work]) -> None:
        begun = Begun.of(work)
        count = sum(n for _, n in work)
        seconds = self.cost.step + self.cost.token * count
        self.now += seconds
        self.computed += count
        for request, n in work:
            request.computed += n
            if request.computed - n < request.prompt_len:
                self.memory.share(request)
            if request.pending == 0:
                self._generate(request)
        self.journal.step(begun, len(self.scheduler.waiting), seconds)

    def _generate(self, request: Request, sampled: bool = True) -> None:
        """The trace's next token, and those that it forces; ends the request after its last."""
        at = self.live[request]
        asked, facts = self.trace[at], self.facts[at]
        new: list[Accepted] = []
        while request.new_tokens < asked.output_length:
            n = request.new_tokens
            how = "forced" if n in asked.forced else "sampled"
            if how == "sampled" and (not sampled or any(a.how == how for a in new)):
                break
            token = -(at << 20 | n) - 1 if isinstance(asked.output, int) else asked.output[n]
            request.ids.append(token)
            request.forced_tokens += how == "forced"
            new.append(Accepted(token, how))
        self.journal.tokens(request, new)
        if sampled and facts["first_token"] is None and request.new_tokens:
            facts["first_token"] = self.now
        facts["output_tokens"] = request.new_tokens
        if sampled and request.new_tokens >= asked.output_length:
            self.finish(request, "length" if request.budget <= 0 else "stop")

    def finish(self, request: Request, reason: str, error: str = "") -> None:
        """The end of a request, and the beginning of those that waited for it."""
        at = self.live.pop(request)
        self.scheduler.remove(request)
        facts, asked = self.facts[at], self.trace[at]
        facts["finished"], facts["reason"] = self.now, reason
        if facts["admitted"] is None:
            facts["rounds_waited"] = self.scheduler.rounds - facts["rounds_waited"]
        self.journal.finished(request, {"type": reason}, error)
        request.finish({"type": reason})
        for follower in self._followers.get(at, ()):
            heapq.heappush(self._to_come, (self.now + self.trace[follower].arrival, follower))
        for label, ended in ((asked.state, StateEnded), (asked.run, RunEnded)):
            self._open[label] -= 1
            if label and not self._open[label]:
                names = {"run": asked.run} | ({"state": label} if ended is StateEnded else {})
                self.events.emit(ended(**names))
