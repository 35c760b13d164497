"""The shortest ways to an end of an automaton, deterministic or not."""

from __future__ import annotations

import heapq
from typing import NamedTuple

FAR = 1 << 30
"""No end is known."""


class Back(NamedTuple):
    """An automaton read backwards. Its nodes are numbers, the start is 0.

    Attributes:
        into: for each node, the (node before, label) of the moves into it; label None: a move
            without a character.
        ends: the nodes where a text may end.
        labels: the character classes of each label.
    """

    into: list[list[tuple[int, int | None]]]
    ends: list[int]
    labels: list[list[int]]


class Ways(NamedTuple):
    """Attributes:
    length: what the shortest way from each node costs, :data:`FAR` if there is none.
    step: the class of its first character and the node behind that; None at an end.
    """

    length: list[int]
    step: list[tuple[int, int] | None]


def shortest_ways(back: Back, cost: list[int]) -> Ways:
    """The cheapest way to an end from each node, where a character of class ``c`` costs
    ``cost[c]`` (Dijkstra)."""
    cheapest = [min(classes, key=cost.__getitem__) for classes in back.labels]
    length = [FAR] * len(back.into)
    step: list[tuple[int, int] | None] = [None] * len(back.into)
    heap = [(0, node) for node in sorted(back.ends)]
    for _, node in heap:
        length[node] = 0
    while heap:
        spent, node = heapq.heappop(heap)
        if spent > length[node]:
            continue
        for source, label in back.into[node]:
            first = step[node] if label is None else (cheapest[label], node)
            total = spent if label is None else spent + cost[cheapest[label]]
            if total < length[source]:
                length[source], step[source] = total, first
                heapq.heappush(heap, (total, source))
    return Ways(length, step)
