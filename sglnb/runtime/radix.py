"""The radix tree: which token prefixes have their KV in the pool (paper, section 3).

An edge carries tokens and their KV slots. Requests lock the path of the prefix they use; what
is unlocked and at a leaf may be evicted, least recently used first. The tree is plain data: it
knows nothing of torch, of requests or of notebooks, and it tells what it does as events.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..events import (
    Event,
    NodeEvicted,
    NodeHit,
    NodeInserted,
    NodeLocked,
    NodeSplit,
)


class Node:
    """One node: the tokens of the edge that leads to it and the slots of their KV."""

    __slots__ = (
        "children",
        "created",
        "hits",
        "id",
        "key",
        "last_used",
        "locks",
        "parent",
        "slots",
        "stamp",
    )

    def __init__(self, id: int, key: list[int], slots: list[int], parent: Node | None, now: float):
        self.id = id
        self.key = key
        self.slots = slots
        self.parent = parent
        self.children: dict[int, Node] = {}
        self.locks = 0
        self.hits = 0
        self.created = now
        self.last_used = now
        self.stamp = 0

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

    def depth(self) -> int:
        """Tokens from the root to the end of this node's edge."""
        return sum(len(node.key) for node in self.path())

    def __repr__(self) -> str:
        return f"Node({self.id}, {len(self.key)} tokens, locks={self.locks})"


class Match(NamedTuple):
    """Result of a prefix lookup."""

    node: Node
    """The deepest node of the matched path (the root when nothing matched)."""
    slots: list[int]
    """KV slots of the matched tokens, in order; never more than ``node`` reaches."""


class Peek(NamedTuple):
    """Result of a lookup that leaves the tree as it is."""

    node: Node
    """The node in whose edge (or at whose end) the match stops."""
    length: int
    """Matched tokens from the root."""
    within: int
    """Matched tokens of ``node``'s own edge."""


class RadixTree:
    """Prefixes in KV memory.

    Args:
        free: called with slots that the tree gives up.
        emit: called with each event; default: nobody listens.
        pieces: display texts of token ids, for the events.
        clock: seconds, for ``last_used``.
    """

    def __init__(
        self,
        free: Callable[[list[int]], None],
        emit: Callable[[Event], None] = lambda event: None,
        pieces: Callable[[list[int]], list[str]] = lambda ids: [str(i) for i in ids],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._free, self._emit, self._pieces, self._clock = free, emit, pieces, clock
        self._next_id = 1
        self._stamp = 0
        self._heap: list[tuple[int, int, Node]] = []
        self.root = Node(0, [], [], None, clock())
        self.count = 0
        """Nodes, the root left out."""
        self.size = 0
        """Tokens stored."""
        self.locked_size = 0
        """Tokens on locked nodes."""

    @property
    def evictable_size(self) -> int:
        """Tokens that eviction could free."""
        return self.size - self.locked_size

    # -- lookup ----------------------------------------------------------------------------

    def peek(self, ids: list[int]) -> Peek:
        """The longest stored prefix of ``ids``. Changes nothing: no split, no touch."""
        node, length, within = self.root, 0, 0
        while length < len(ids):
            child = node.children.get(ids[length])
            if child is None:
                break
            within = common_prefix(child.key, ids, length)
            node, length = child, length + within
            if within < len(child.key):
                break
        return Peek(node, length, within)

    def find(self, ids: list[int], limit: int | None = None) -> Match:
        """The longest stored prefix of ``ids[:limit]``. An edge that matches in part is split, so
        that the match ends at a node; but not where only ``limit`` ends the match and ``ids``
        goes on along the edge: the node reaches further than the slots then. Use and hits are
        left as they are."""
        node, length, within = self.peek(ids if limit is None else ids[:limit])
        goes_on = length < len(ids) and within < len(node.key) and node.key[within] == ids[length]
        if 0 < within < len(node.key) and not goes_on:
            node = self._split(node, within)
        return Match(node, [slot for used in node.path() for slot in used.slots][:length])

    def hit(self, node: Node, rid: str = "") -> None:
        """A request reuses the path to ``node``: count it, and mark it as used now."""
        path = node.path()
        now = self._clock()
        for used in path:
            used.hits += 1
            self._touch(used, now)
        if path:
            self._emit(NodeHit(nodes=[used.id for used in path], rid=rid))

    # -- change ----------------------------------------------------------------------------

    def insert(self, ids: list[int], slots: list[int], rid: str = "") -> int:
        """Store ``ids`` with their ``slots``.

        Returns:
            How many leading tokens were stored already. Their slots in ``slots`` are *not*
            taken over: the caller still owns them.
        """
        node, length, within = self.peek(ids)
        if 0 < within < len(node.key) and length < len(ids):
            node = self._split(node, within)
        now = self._clock()
        for used in node.path():
            self._touch(used, now)
        if length < len(ids):
            leaf = Node(self._next_id, list(ids[length:]), list(slots[length:]), node, now)
            self._next_id += 1
            node.children[ids[length]] = leaf
            self.count += 1
            self.size += len(leaf.key)
            self._touch(leaf, now)
            self._emit(
                NodeInserted(
                    node=leaf.id,
                    parent=node.id,
                    ids=leaf.key.copy(),
                    pieces=self._pieces(leaf.key),
                    rid=rid,
                )
            )
        return length

    def _split(self, node: Node, at: int) -> Node:
        """Cut ``node``'s edge after ``at`` tokens; returns the new upper node."""
        parent = node.parent
        upper = Node(self._next_id, node.key[:at], node.slots[:at], parent, node.created)
        self._next_id += 1
        upper.locks, upper.hits, upper.last_used = node.locks, node.hits, node.last_used
        parent.children[upper.key[0]] = upper
        node.key, node.slots, node.parent = node.key[at:], node.slots[at:], upper
        upper.children[node.key[0]] = node
        self.count += 1
        self._emit(NodeSplit(node=node.id, upper=upper.id, at=at))
        return upper

    def _touch(self, node: Node, now: float) -> None:
        self._stamp += 1
        node.last_used, node.stamp = now, self._stamp
        self._offer(node)

    # -- locks -----------------------------------------------------------------------------

    def lock(self, node: Node, rid: str = "") -> None:
        """Keep the path to ``node`` from being evicted. Locks count."""
        self._change_locks(node, 1, rid)

    def unlock(self, node: Node, rid: str = "") -> None:
        """Take one lock of the path to ``node`` away."""
        self._change_locks(node, -1, rid)

    def _change_locks(self, node: Node, delta: int, rid: str) -> None:
        if node.parent is None:
            return
        for used in node.path():
            was_locked = used.locks > 0
            used.locks += delta
            if used.locks < 0:
                raise RuntimeError(f"{used} was unlocked more often than locked")
            if was_locked != (used.locks > 0):
                self.locked_size += len(used.key) * delta
        self._offer(node)
        self._emit(NodeLocked(node=node.id, delta=delta, rid=rid))

    # -- eviction --------------------------------------------------------------------------

    def _offer(self, node: Node) -> None:
        """Enter ``node`` in the eviction heap if it may go. Entries are checked when they are
        popped, so old ones need not be found and removed."""
        if node.evictable:
            heapq.heappush(self._heap, (node.stamp, node.id, node))
            if len(self._heap) > 64 + 4 * self.count:
                self._rebuild_heap()

    def _rebuild_heap(self) -> None:
        self._heap = [(n.stamp, n.id, n) for n in self.nodes() if n.evictable]
        heapq.heapify(self._heap)

    def evict(self, n: int, why: str = "space") -> int:
        """Free at least ``n`` tokens, least recently used leaves first, if that many can go.

        Returns:
            The number of tokens freed.
        """
        freed = 0
        while freed < n and self._heap:
            stamp, _, node = heapq.heappop(self._heap)
            if stamp != node.stamp or not node.evictable:
                continue
            freed += len(node.key)
            self._remove(node, why)
        return freed

    def _remove(self, node: Node, why: str) -> None:
        parent = node.parent
        del parent.children[node.key[0]]
        node.parent = None
        self.count -= 1
        self.size -= len(node.key)
        self._free(node.slots)
        self._emit(NodeEvicted(node=node.id, tokens=len(node.key), why=why))
        self._offer(parent)

    # -- inspection ------------------------------------------------------------------------

    def nodes(self) -> Iterator[Node]:
        """All nodes but the root, parents before children."""
        todo = list(self.root.children.values())
        while todo:
            node = todo.pop()
            yield node
            todo.extend(node.children.values())

    def check(self, users: dict[int, int] | None = None) -> None:
        """Prove the tree's books.

        Args:
            users: for each node id how many locks end there; None leaves locks unproven.

        Raises:
            RuntimeError: something does not add up (an engine bug).
        """
        size = locked = 0
        expected: dict[int, int] = {}
        for node in reversed(list(self.nodes())):
            size += len(node.key)
            locked += len(node.key) if node.locks else 0
            below = sum(expected[child.id] for child in node.children.values())
            expected[node.id] = below + (users or {}).get(node.id, 0)
            if users is not None and node.locks != expected[node.id]:
                raise RuntimeError(f"{node} should have {expected[node.id]} locks")
            if not node.key or len(node.key) != len(node.slots):
                raise RuntimeError(f"{node} has {len(node.slots)} slots")
            if node.parent.children.get(node.key[0]) is not node:
                raise RuntimeError(f"{node} is not its parent's child")
            if node.locks > node.parent.locks and node.parent.parent is not None:
                raise RuntimeError(f"{node} is locked more often than its parent")
        if (size, locked) != (self.size, self.locked_size):
            raise RuntimeError(
                f"the tree holds {size} tokens, {locked} of them locked; "
                f"counted {self.size} and {self.locked_size}"
            )


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
