"""What happens to requests, told as events and counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from ..events import (
    EventLog,
    RequestFinished,
    RequestMatched,
    RequestRetracted,
    RequestScheduled,
    StepRan,
    TokensGenerated,
)
from .pool import SlotPool
from .request import Request
from .scheduler import Work


class Accepted(NamedTuple):
    """One token that was added to a request."""

    token: int
    how: str
    """As in :class:`~sglnb.events.TokensGenerated`."""
    logprob: float | None = None
    """None: not known yet."""
    top: list[tuple[int, float, bool]] = []  # noqa: RUF012  (never changed)
    allowed: int | None = None
    mass: float | None = None
    entropy: float | None = None
    state_before: int | None = None
    state_after: int | None = None
    reason: dict[str, Any] | None = None
    """Why the request ends here; None = it goes on."""
    replaced: int = 0
    """Tokens that it and those behind it were put in the place of."""


class Begun(NamedTuple):
    """A step before it is computed, which changes what the requests say of themselves."""

    prefill: list[tuple[str, int, int]]
    """Requests in their prompt, and the positions computed for them."""
    decode: list[str]

    @classmethod
    def of(cls, work: list[Work]) -> Begun:
        """The step that computes ``work``."""
        prefill = [(r.rid, r.computed, r.computed + n) for r, n in work if r.in_prompt]
        return cls(prefill, [r.rid for r, _ in work if not r.in_prompt])


class Journal:
    """Tells an event log what becomes of requests.

    Args:
        events: the log.
        pool: the slots, for how many are in use.
        pieces: display texts of token ids.
    """

    def __init__(self, events: EventLog, pool: SlotPool, pieces: Callable[[list[int]], list[str]]):
        self.events, self._pool, self._pieces = events, pool, pieces
        self.steps = 0
        self.seconds = 0.0
        """Time spent in steps."""
        names = "requests", "prompt_tokens", "cached_tokens", "completion_tokens"
        self.totals = dict.fromkeys((*names, "forced_tokens", "retractions"), 0)
        """Counts since the start."""

    def admitted(self, request: Request) -> None:
        """``request`` has its prefix; the first time it is counted."""
        if request.cached_tokens is None:
            request.cached_tokens = min(request.computed, request.prompt_len)
            self.totals["requests"] += 1
            self.totals["prompt_tokens"] += request.prompt_len
            self.totals["cached_tokens"] += request.cached_tokens
        path = [node.id for node in request.node.path()]
        self.events.emit(RequestMatched(rid=request.rid, cached=request.computed, path=path))

    def retracted(self, request: Request) -> None:
        """``request`` is back in the queue."""
        self.totals["retractions"] += 1
        self.events.emit(RequestRetracted(rid=request.rid))

    def tokens(self, request: Request, accepted: list[Accepted]) -> None:
        """``request`` got some tokens."""
        if len(accepted) == 1:  # as a rule
            self._emit(request, accepted)
            return
        for _, group in itertools.groupby(accepted, key=lambda a: a.how):
            self._emit(request, list(group))

    def _emit(self, request: Request, some: list[Accepted]) -> None:
        """The event of tokens that came in one way."""
        first, ids = some[0], [a.token for a in some]
        self.events.emit(
            TokensGenerated(
                rid=request.rid,
                ids=ids,
                pieces=self._pieces(ids),
                how=first.how,
                replaced=first.replaced,
                logprobs=[a.logprob for a in some],
                top=[
                    [[*self._pieces([i]), i, logprob, ok] for i, logprob, ok in a.top] for a in some
                ],
                allowed=[a.allowed for a in some],
                mass=[a.mass for a in some],
                entropy=[a.entropy for a in some] if first.how == "sampled" else None,
                fsm_before=first.state_before,
                fsm_after=None if first.state_before is None else [a.state_after for a in some],
            )
        )

    def step(self, begun: Begun, waiting: int, seconds: float) -> None:
        """A step is done; ``waiting`` requests were not in it."""
        self.steps += 1
        self.seconds += seconds
        for rid, start, end in begun.prefill:
            self.events.emit(RequestScheduled(rid=rid, step=self.steps, start=start, end=end))
        self.events.emit(
            StepRan(
                step=self.steps,
                prefill=[rid for rid, _, _ in begun.prefill],
                decode=begun.decode,
                prefill_tokens=sum(end - start for _, start, end in begun.prefill),
                waiting=waiting,
                used_slots=self._pool.total - self._pool.free_count,
                total_slots=self._pool.total,
                seconds=seconds,
            )
        )

    def finished(self, request: Request, reason: dict[str, Any], error: str = "") -> None:
        """``request`` ends, for a ``reason`` as in its meta_info."""
        self.totals["completion_tokens"] += request.new_tokens
        self.totals["forced_tokens"] += request.forced_tokens
        matched = reason.get("matched")
        self.events.emit(
            RequestFinished(
                rid=request.rid,
                reason=reason["type"],
                matched="".join(self._pieces([matched]))
                if isinstance(matched, int)
                else matched or "",
                error=error,
                prompt_tokens=request.prompt_len,
                cached_tokens=request.cached_tokens or 0,
                completion_tokens=request.new_tokens,
                forced_tokens=request.forced_tokens,
                closed_by_budget=request.closed_by_budget,
            )
        )
