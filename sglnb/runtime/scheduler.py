"""What the next forward pass computes: continuous batching of prefill and decode."""

from __future__ import annotations

from typing import NamedTuple

from .memory import MemoryManager
from .policy import POLICIES, level
from .prefixes import Prefixes
from .radix_node import common_prefix
from .request import Request

SHARE_MIN = 16
"""A request waits a step for another's prefill when that will save it this many tokens."""

SHORT_JUMP = 16
"""With so many requests running, one forced token behind a sampled one is computed in a step of its
own; a longer jump always is one small extend. Measured on 2 CPU cores (benchmarks/jump_forward.py),
where each choice brings one certain token: seconds of a batch without jump-forward, with an extend
of two tokens, with two steps: 0.90, 0.78, 0.85 for 8 requests, 1.27, 1.28, 1.13 for 16 and 2.03,
2.59, 2.05 for 32. With two certain tokens the extend is 1.9 times as fast as no jump for 32."""

RESERVE = 128
"""Tokens of output kept in reserve for each running request when another is admitted. Chosen by
simulation (pools of a sixth to a half of the working set): 32 lets so many in that long outputs
are retracted and computed again and cached prefixes are pushed out, up to 9 % more time; all of
``max_new_tokens`` keeps the batch small, up to 60 % more. A share of ``max_new_tokens`` learned
from finished requests, or lowered in time and raised by retractions (SGLang), was no better."""


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

    Every request has a standing: its level (age and priority, see
    :func:`sglnb.runtime.policy.level`), then its arrival. When memory runs short the one with
    the worst standing is retracted. So the best one that runs is never sent back, it gets on in
    each step, and the same can be said of the next one when it is through: no two requests can
    send each other back for ever.

    Args:
        memory: pool and tree.
        policy: name in :data:`sglnb.runtime.policy.POLICIES`.
        chunk_tokens: prefill tokens a step computes at most, so that a long prompt does not
            keep others waiting.
        max_running: requests in a batch at most.
        seed: of the "random" policy.
    """

    def __init__(
        self, memory: MemoryManager, policy: str, chunk_tokens: int, max_running: int, seed: int = 0
    ):
        self.memory = memory
        self._seed = seed
        self.set_policy(policy)
        self.chunk_tokens, self.max_running = chunk_tokens, max_running
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.rounds = 0
        """Steps in which a request was admitted."""
        self._tickets = 0
        self._prefixes = Prefixes(memory.tree)
        self._waits_for: dict[Request, tuple[Request, int]] = {}
        """Whose prefill a waiting request is to find in the cache, and how far."""
        self._priorities: set[int] = set()
        self._blocked: tuple[int, ...] = ()
        """The circumstances in which the first in line did not fit."""

    def set_policy(self, policy: str) -> None:
        """Admit in another order from the next step on; those who wait keep their level."""
        self.policy, self._policy = policy, POLICIES[policy]
        self._blocked = ()

    def add(self, request: Request) -> None:
        """Queue a new request."""
        self._tickets += 1
        request.ticket = self._tickets
        request.level = level(self.rounds, request.priority)
        self._priorities.add(request.priority)
        self.waiting.append(request)

    def remove(self, request: Request, keep: bool = True) -> None:
        """Take a request out, wherever it is; its KV goes to the tree if ``keep``."""
        if request in self.waiting:
            self.waiting.remove(request)
            self._forget(request)
        elif request in self.running:
            self.running.remove(request)
            self.memory.release(request, keep)

    @property
    def settled(self) -> bool:
        """Whether it is clear that the next step admits no one."""
        return not self.waiting or self._hopeless()

    def next_step(self) -> Step:
        """Decide the next step and take the slots it needs."""
        step = Step([], [], [], [])
        counts: dict[Request, int] = {}
        budget = self.chunk_tokens
        # Those that are about to sample come first; a prompt's chunk takes what is left.
        for request in sorted(self.running, key=lambda r: r.in_prompt):
            if request.node is None:  # retracted for another one's sake
                continue
            count = min(request.pending, budget if request.in_prompt else max(budget, 1))
            if count == 2 and not request.in_prompt and len(self.running) >= SHORT_JUMP:
                count = 1
            if count and self._make_room(request, count, counts, step):
                counts[request] = count
                budget -= count if count > 1 else 0
        if self.waiting and budget > 0:
            self._admit(budget, counts, step)
        step.work.extend(Work(request, count) for request, count in counts.items())
        return step

    # -- memory ----------------------------------------------------------------------------

    def _make_room(
        self, request: Request, count: int, counts: dict[Request, int], step: Step
    ) -> bool:
        """Slots for ``count`` more tokens, others retracted if it must be."""
        while True:
            try:
                self.memory.grow(request, count)
                return True
            except MemoryError:
                if len(self.running) == 1:
                    self.remove(request)
                    step.starved.append(request)
                    return False
                victim = max(self.running, key=_standing)
                self._retract(victim, counts, step)
                if victim is request:
                    return False

    def _retract(self, victim: Request, counts: dict[Request, int], step: Step) -> None:
        """Back to the queue's head. The output is kept, and its KV goes to the tree: if there
        is room again soon, nothing is computed twice."""
        counts.pop(victim, None)
        self.put_back(victim)
        step.retracted.append(victim)

    def put_back(self, request: Request) -> None:
        """A running request waits again, first in line; what is computed goes to the tree."""
        self.running.remove(request)
        self.memory.release(request)
        self.waiting.insert(0, request)

    # -- admission -------------------------------------------------------------------------

    def _admit(self, budget: int, counts: dict[Request, int], step: Step) -> None:
        if self._hopeless():
            return
        prefilling = [request for request in self.running if request.in_prompt]
        promised = sum(map(_promise, self.running))
        for request in self._queue():
            if budget <= 0:
                break
            if self._better_later(request, prefilling):
                continue
            count = self._try_admit(request, budget, promised)
            while count == 0 and self._preempt(request, counts, step):
                promised = sum(map(_promise, self.running))
                count = self._try_admit(request, budget, promised)
            if count == 0 and not self.running:
                # The edge that ends its prefix may hold more than is of use, and is locked whole.
                self.memory.tree.evict(self.memory.tree.evictable_size, rid=request.rid)
                count = self._try_admit(request, budget, promised)
                if count == 0:  # pins have taken its room
                    self.remove(request)
                    step.starved.append(request)
                    continue
            if count == 0:  # the first in line does not fit: no one may overtake it
                self._blocked = (self.memory.available, *self._circumstances())
                break
            self.running.append(request)
            self._forget(request)
            prefilling.append(request)
            promised += _promise(request)
            counts[request] = count
            step.admitted.append(request)
            budget -= count
        if step.admitted:
            self.rounds += 1
            self.waiting = [request for request in self.waiting if request.node is None]

    def _queue(self) -> list[Request]:
        """The waiting requests in the order of their levels, then of the policy."""
        queue = self._policy(self.waiting, self._prefixes, self._seed)
        queue.sort(key=lambda request: request.level)
        return queue

    def _hopeless(self) -> bool:
        """Whether it is clear without a look at the queue that no one can be admitted: the
        batch is full, or nothing has changed for the better since the first in line did not
        fit. Steps that only decode are not slowed down by those who wait."""
        if len(self.running) >= self.max_running and len(self._priorities) == 1:
            return True
        return (
            bool(self._blocked)
            and self._blocked[1:] == self._circumstances()
            and self.memory.available <= self._blocked[0]
        )

    def _circumstances(self) -> tuple[int, ...]:
        tree = self.memory.tree
        return self._tickets, len(self.waiting), len(self.running), tree.size, tree.count

    def _forget(self, request: Request) -> None:
        """``request`` waits no longer."""
        self._prefixes.forget(request)
        self._waits_for.pop(request, None)

    def _better_later(self, request: Request, prefilling: list[Request]) -> bool:
        """Whether a prefill that is under way will put more of its prompt in the cache: much
        more, or all of it (siblings: n texts of one prompt)."""
        other, common = self._waits_for.get(request, (None, 0))
        if other is not None and other.node is not None and other.computed < common:
            return True
        known, page = self._prefixes(request).length, self.memory.tree.page_size
        for other in prefilling:
            if other.extra_key != request.extra_key:
                continue
            # Most have nothing more in common: a look at the next page tells.
            if other.keys[known : known + page] != request.keys[known : known + page]:
                continue
            common = min(common_prefix(other.keys, request.keys, 0), request.reusable)
            common -= common % page
            most = request.reusable - request.reusable % page
            if common - known >= SHARE_MIN or common == most > known:
                self._waits_for[request] = other, common
                return True
        return False

    def _try_admit(self, request: Request, budget: int, promised: int) -> int:
        """Lock the prefix and take slots; returns the tokens to compute now, 0 = no room.
        ``promised`` slots are left for the running requests."""
        if len(self.running) >= self.max_running:
            return 0
        memory = self.memory
        memory.admit(request)
        # The lock made the prefix unevictable, so room is judged only now.
        need = request.pending
        if self.running:
            need += min(request.budget, RESERVE) + promised
        if need > memory.available:
            memory.release(request, keep=False)
            return 0
        count = min(request.pending, budget)
        memory.grow(request, count)
        memory.tree.hit(request.node, request.rid, request.priority)
        return count

    def _preempt(self, request: Request, counts: dict[Request, int], step: Step) -> bool:
        """Retract the running request of the worst standing if its priority is lower."""
        victim = max(self.running, key=_standing, default=None)
        if victim is None or victim.priority >= request.priority:
            return False
        if victim.level <= request.level:  # it has aged past
            return False
        self._retract(victim, counts, step)
        return True


def _standing(request: Request) -> tuple[tuple[int, int], int]:
    """Sort key, the best first."""
    return request.level, request.ticket


def _promise(request: Request) -> int:
    """Slots that a running request will still ask for: the rest of its prompt, some output."""
    return max(0, len(request.ids) - len(request.table)) + min(request.budget, RESERVE)
