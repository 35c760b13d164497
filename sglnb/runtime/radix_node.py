"""What the radix tree is made of, and what a lookup in it gives."""

from __future__ import annotations

from typing import Any, NamedTuple


class Node:
    """One node: the keys of the edge that leads to it and the slots of their KV."""

    __slots__ = (
        "children",
        "created",
        "depth",
        "hits",
        "id",
        "key",
        "last_used",
        "locks",
        "parent",
        "pins",
        "priority",
        "slots",
        "stamp",
        "ticket",
    )

    def __init__(self, id: int, key: list[int], slots: list[int], parent: Node | None, now: float):
        self.id = id
        self.key = key
        self.slots = slots
        self.parent = parent
        self.depth: int = len(key) + (parent.depth if parent else 0)
        """Tokens from the root to the end of this node's edge."""
        self.children: dict[Any, Node] = {}
        """By the first key, or the first page of keys."""
        self.locks = 0
        """Requests and pins at this node or below it."""
        self.pins = 0
        """Pins that end at this very node; they count as locks too."""
        self.hits = 0
        self.priority = 0
        self.created = now
        self.last_used = now
        self.stamp = 0
        """Grows with each use: the order of last uses."""
        self.ticket = 0
        """Number of this node's newest entry in the eviction heap; older ones are void."""

    @property
    def evictable(self) -> bool:
        """A leaf that nobody uses."""
        return not self.locks and not self.children and self.parent is not None

    def path(self) -> list[Node]:
        """The nodes from the top down to this one, the root left out."""
        out, node = [], self
        while node.parent is not None:
            out.append(node)
            node = node.parent
        return out[::-1]

    def __repr__(self) -> str:
        return f"Node({self.id}, {len(self.key)} tokens, locks={self.locks})"


class Match(NamedTuple):
    """Result of a prefix lookup."""

    node: Node
    """The deepest node of the matched path (the root when nothing matched)."""
    length: int
    """Matched tokens; never more than ``node`` reaches."""

    @property
    def slots(self) -> list[int]:
        """KV slots of the matched tokens, in order; while the tree is as it was."""
        out: list[int] = []
        for node in self.node.path():
            out += node.slots
        return out[: self.length]


class Peek(NamedTuple):
    """Result of a lookup that leaves the tree as it is."""

    node: Node
    """The node in whose edge (or at whose end) the match stops."""
    length: int
    """Matched tokens from the root, in whole pages."""
    within: int
    """Matched tokens of ``node``'s own edge."""


class Eviction(NamedTuple):
    """What is remembered of an evicted edge."""

    extra_key: str
    start: int
    """Tokens above the edge."""
    above: int
    """Hash of the keys above the edge, as a tuple."""
    key: list[int]
    time: float
    why: str
    rid: str
    """The request for which room was made, "" if there was none."""


def common_prefix(key: list[int], ids: list[int], start: int) -> int:
    """How many tokens of ``key`` agree with ``ids`` from ``start`` on."""
    n = min(len(key), len(ids) - start)
    if key[:n] == ids[start : start + n]:
        return n
    low, high = 0, n  # the slices differ: find the first place by halving
    while high - low > 1:
        middle = (low + high) // 2
        if key[low:middle] == ids[start + low : start + middle]:
            low = middle
        else:
            high = middle
    return low
