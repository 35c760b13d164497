"""What the next forward pass computes: continuous batching of prefill and decode."""

from __future__ import annotations

from typing import NamedTuple

from .memory import MemoryManager
from .policy import POLICIES
from .radix import common_prefix
from .request import Request

SHARE_MIN = 16
"""A request waits a step for another's prefill when that will save it this many tokens."""

RESERVE = 32
"""Tokens of output kept in reserve for each running request when another is admitted."""


class Work(NamedTuple):
    """One request's share of a step."""

    request: Request
    count: int
    """Tokens to compute: 1 for a decode, more for prefill or after a jump."""


class Step(NamedTuple):
    """What the scheduler decided."""

    work: list[Work]
    admitted: list[Request]
    retracted: list[Request]
    starved: list[Request]
    """Requests that cannot go on: alone, and the pool is too small for them."""


class Scheduler:
    """The queues. Pure: it moves slots and requests, and computes nothing.

    Args:
        memory: pool and tree.
        policy: name in :data:`sglnb.runtime.policy.POLICIES`.
        chunk_tokens: prefill tokens a step computes at most, so that a long prompt does not
            keep others waiting.
        max_running: requests in a batch at most.
    """

    def __init__(self, memory: MemoryManager, policy: str, chunk_tokens: int, max_running: int):
        self.memory = memory
        self._order = POLICIES[policy]
        self.chunk_tokens, self.max_running = chunk_tokens, max_running
        self.waiting: list[Request] = []
        self.running: list[Request] = []

    def add(self, request: Request) -> None:
        """Queue a new request."""
        self.waiting.append(request)

    def remove(self, request: Request, keep: bool = True) -> None:
        """Take a request out, wherever it is; its KV goes to the tree if ``keep``."""
        if request in self.waiting:
            self.waiting.remove(request)
        elif request in self.running:
            self.running.remove(request)
            self.memory.release(request, keep)

    def next_step(self) -> Step:
        """Decide the next step and take the slots it needs."""
        retracted: list[Request] = []
        starved: list[Request] = []
        work: list[Work] = []
        budget = self.chunk_tokens
        # Those that are about to sample come first; a prompt's chunk takes what is left.
        for request in sorted(self.running, key=lambda r: r.in_prompt):
            if request not in self.running:  # retracted for another one's sake
                continue
            count = min(request.pending, budget) if request.in_prompt else request.pending
            if count and self._make_room(request, count, retracted, starved):
                work.append(Work(request, count))
                budget -= count if count > 1 else 0
        work = [w for w in work if w.request in self.running]
        admitted = self._admit(budget, work)
        return Step(work, admitted, retracted, starved)

    def _make_room(
        self, request: Request, count: int, retracted: list[Request], starved: list[Request]
    ) -> bool:
        """Slots for ``count`` more tokens, others retracted if it must be."""
        while True:
            try:
                self.memory.grow(request, count)
                return True
            except MemoryError:
                victim = min(self.running, key=lambda r: (r.new_tokens, -r.prompt_len))
                if len(self.running) == 1:
                    self.remove(request)
                    starved.append(request)
                    return False
                self._retract(victim)
                retracted.append(victim)
                if victim is request:
                    return False

    def _retract(self, victim: Request) -> None:
        """Back to the queue's head. The output is kept, and its KV goes to the tree: if there
        is room again soon, nothing is computed twice."""
        self.running.remove(victim)
        self.memory.release(victim)
        self.waiting.insert(0, victim)

    def _admit(self, budget: int, work: list[Work]) -> list[Request]:
        admitted: list[Request] = []
        if not self.waiting:
            return admitted
        prefilling = [w.request for w in work if w.request.in_prompt]
        for request in self._order(self.waiting, self.memory.tree):
            if budget <= 0 or len(self.running) >= self.max_running:
                break
            if self._better_later(request, prefilling):
                continue
            count = self._try_admit(request, budget)
            if count == 0:
                break  # the first in line does not fit: no one may overtake it
            self.waiting.remove(request)
            self.running.append(request)
            work.append(Work(request, count))
            prefilling.append(request)
            admitted.append(request)
            budget -= count
        for request in self.waiting:
            request.rounds_waited += 1
        return admitted

    def _better_later(self, request: Request, prefilling: list[Request]) -> bool:
        """Whether a prefill of this very step will put more of its prompt in the cache."""
        known = self.memory.tree.peek(request.keys, request.extra_key).length
        for other in prefilling:
            if other.extra_key != request.extra_key:
                continue
            common = min(common_prefix(other.keys, request.keys, 0), request.reusable)
            if common - known >= SHARE_MIN:
                return True
        return False

    def _try_admit(self, request: Request, budget: int) -> int:
        """Lock the prefix and take slots; returns the tokens to compute now, 0 = no room."""
        memory = self.memory
        memory.admit(request)
        # The lock made the prefix unevictable, so room is judged only now.
        reserved = sum(min(r.budget, RESERVE) for r in self.running)
        need = request.pending + (min(request.budget, RESERVE) + reserved if self.running else 0)
        if need > memory.available:
            memory.release(request, keep=False)
            return 0
        count = min(request.pending, budget)
        memory.grow(request, count)
        memory.tree.hit(request.node, request.rid, request.priority)
        return count
