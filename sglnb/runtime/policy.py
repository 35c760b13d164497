"""Which waiting request is admitted first: one function each, and the ageing all of them share.

A policy returns the waiting requests in its order. The scheduler then sorts them by
:func:`level`, and that sort is stable: a policy decides among requests of one level only.
"""

from __future__ import annotations

from collections.abc import Callable

from .prefixes import Prefixes
from .radix_node import Node
from .request import Request

AGE_ROUNDS = 256
"""Rounds in an age, a round being one in which a request was admitted. Requests of an earlier
age are admitted before all of a later one, so that none starves behind an endless stream of
others that a policy likes better. Those that come together do not age against one another."""

PRIORITY_AGES = 16
"""Ages that one step of priority is worth."""

Policy = Callable[[list[Request], Prefixes, int], list[Request]]


def level(round_: int, priority: int) -> tuple[int, int]:
    """Sort key of a request that came in ``round_``: its age, and its priority as a head start.

    It never changes, so waiting costs nothing to keep account of. It bounds the wait: a request
    is never passed by one of the same or a lower priority that comes ``AGE_ROUNDS`` or more
    rounds later, nor by one of a priority higher by ``d`` that comes ``(d * PRIORITY_AGES + 1)
    * AGE_ROUNDS`` or more rounds later. With ``w`` requests before it in its level, or joining
    it there in those rounds, it is admitted after ``w`` more rounds at most, because each
    admits at least one of them.
    """
    return (round_ // AGE_ROUNDS - PRIORITY_AGES * priority, -priority)


def lpm(waiting: list[Request], prefix: Prefixes, seed: int) -> list[Request]:
    """Longest cached prefix first (SGLang paper, section 3.2)."""
    return sorted(waiting, key=lambda request: -prefix(request).length)


def dfs_weight(waiting: list[Request], prefix: Prefixes, seed: int) -> list[Request]:
    """Depth first through the cached tree, the child first below which the waiting requests
    have most cached tokens.

    By theorem 3.1 of the SGLang paper depth-first order computes each edge once, if the cache
    holds the longest request: a subtree is served whole before another one needs its room. For
    the same reason a node's own requests come after its children's: what they compute could
    push the children, which are cached now, out, while they themselves need only the node, and
    that is evicted after its children. The weight is in tokens, not in requests, because some
    requests are still to come: three new chats with a common system prompt would go before the
    next turn of a long one, and push it out (benchmarks/scheduling.py, multi-turn chat with a
    quarter of the working set: 90 % of the optimum against 83 %).
    """
    top = None  # all namespaces' roots
    own: dict[Node | None, list[Request]] = {}
    for request in waiting:
        node = prefix(request).node
        own.setdefault(node if node.parent else top, []).append(request)
    children: dict[Node | None, list[Node]] = {}
    weight: dict[Node, int] = {}
    for node, requests in own.items():
        cached = sum(prefix(request).length for request in requests)
        while node is not top:
            above = node.parent if node.parent.parent else top
            if node not in weight:
                weight[node] = 0
                children.setdefault(above, []).append(node)
            weight[node] += cached
            node = above
    # Written out backwards, parents before their children and light ones before heavy;
    # sorting is stable, so among equals the one that was asked for first is served first.
    out: list[Request] = []
    todo: list[Node | None] = [top]
    while todo:
        node = todo.pop()
        out += reversed(own.get(node, ()))
        todo += sorted(children.get(node, ()), key=weight.__getitem__, reverse=True)
    return out[::-1]


def fcfs(waiting: list[Request], prefix: Prefixes, seed: int) -> list[Request]:
    """First come, first served."""
    return list(waiting)


def lof(waiting: list[Request], prefix: Prefixes, seed: int) -> list[Request]:
    """Longest output first: largest ``max_new_tokens``. What takes long starts early."""
    return sorted(waiting, key=lambda request: -request.params.max_new_tokens)


def random(waiting: list[Request], prefix: Prefixes, seed: int) -> list[Request]:
    """In an order that ``seed`` draws, for comparisons."""
    return sorted(waiting, key=lambda request: hash((seed, request.ticket)))


POLICIES: dict[str, Policy] = {
    "lpm": lpm,
    "dfs-weight": dfs_weight,
    "fcfs": fcfs,
    "lof": lof,
    "random": random,
}
