"""Which cached prefix goes first when room is needed: one function each.

A strategy gives a leaf its place in the eviction heap: the leaf with the smallest key goes
first. ``floor`` is the first item of the key of the leaf that was evicted last; only
:func:`cost` uses it. Keys end in ``node.stamp`` (a count that grows with each use), so that
equals go in the order of their last use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .radix_node import Node

Key = tuple[float, int]

EVEN_DEPTH = 4096
"""Position at which attention over the tokens before costs a transformer about as much as its
matrices do (2 x parameters against 4 x layers x width x position: six widths or so)."""


def lru(node: Node, floor: float) -> Key:
    """Least recently used first."""
    return (0, node.stamp)


def mru(node: Node, floor: float) -> Key:
    """Most recently used first: right for scans that come back to their start."""
    return (0, -node.stamp)


def fifo(node: Node, floor: float) -> Key:
    """Oldest first, used or not."""
    return (node.created, node.stamp)


def lfu(node: Node, floor: float) -> Key:
    """Fewest hits first."""
    return (node.hits, node.stamp)


def priority(node: Node, floor: float) -> Key:
    """Lowest priority of the requests that used it first."""
    return (node.priority, node.stamp)


def cost(node: Node, floor: float) -> Key:
    """Least work lost per byte freed first, counting hits and age (GreedyDual-Size-Frequency;
    Cherkasova 1998). A token's KV has the same size wherever it stands; computing it again
    costs more the further back in the text it is."""
    middle = node.depth - len(node.key) / 2
    return (floor + (1 + node.hits) * (1 + middle / EVEN_DEPTH), node.stamp)


EVICTIONS: dict[str, Callable[[Node, float], Key]] = {
    "lru": lru,
    "lfu": lfu,
    "fifo": fifo,
    "mru": mru,
    "priority": priority,
    "cost": cost,
}
