"""The radix tree: which token prefixes have their KV in the pool (paper, section 3).

An edge carries keys (token ids; an image's positions carry keys of their own) and their KV
slots. Requests lock the path of the prefix they use; what is unlocked and at a leaf may be
evicted. Texts whose KV differs for another reason than their tokens (an adapter, a salt) live
under roots of their own, named by an ``extra_key``. The tree is plain data: it knows nothing
of torch, of requests or of notebooks, and it tells what it does as events.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from ..events import (
    Event,
    NodeEvicted,
    NodeHit,
    NodeInserted,
    NodeLocked,
    NodeSplit,
)
from .eviction import EVICTIONS
from .radix_node import Eviction, Match, Node, Peek, common_prefix

REMEMBERED = 1024
"""Evictions remembered, for :meth:`Cache.why_miss <sglnb.runtime.cache.Cache.why_miss>`."""

LEAST_CUT = 64
"""Eviction cuts no fewer tokens than this off a longer leaf, so that a request that grows by
one token at a time does not cut once a token."""


class RadixTree:
    """Prefixes in KV memory.

    Args:
        free: called with slots that the tree gives up.
        emit: called with each event; default: nobody listens.
        pieces: display texts of keys, for the events.
        clock: seconds, for ``last_used``.
        page_size: tokens that are stored, matched and evicted together.
        eviction: a name in :data:`sglnb.runtime.eviction.EVICTIONS`.
    """

    def __init__(
        self,
        free: Callable[[list[int]], None],
        emit: Callable[[Event], None] = lambda event: None,
        pieces: Callable[[list[int]], list[str]] = lambda ids: [str(i) for i in ids],
        clock: Callable[[], float] = time.monotonic,
        page_size: int = 1,
        eviction: str = "lru",
    ):
        self._free, self._emit, self._pieces, self._clock = free, emit, pieces, clock
        self.page_size = page_size
        self.eviction, self._order = eviction, EVICTIONS[eviction]
        self._floor = 0.0
        self._next_id = 1
        self._stamp = 0
        self._heap: list[tuple[tuple[float, int], int, Node]] = []
        self._tickets = 0
        self.roots: dict[str, Node] = {}
        """By ``extra_key``. Each has the id 0: in the events they are one root."""
        self.evictions: deque[Eviction] = deque(maxlen=REMEMBERED)
        """The latest ones, oldest first."""
        self.count = 0
        """Nodes, roots left out."""
        self.size = 0
        """Tokens stored."""
        self.locked_size = 0
        """Tokens on locked nodes."""

    @property
    def evictable_size(self) -> int:
        """Tokens that eviction could free."""
        return self.size - self.locked_size

    # -- lookup ----------------------------------------------------------------------------

    def peek(self, keys: list[int], extra_key: str = "") -> Peek:
        """The longest stored prefix of ``keys``. Changes nothing: no split, no touch."""
        node, length, within = self.roots.get(extra_key) or self._new_root(), 0, 0
        page = self.page_size
        while length < len(keys):
            child = node.children.get(self._first(keys, length))
            if child is None:
                break
            within = common_prefix(child.key, keys, length)
            if page > 1:
                within -= within % page
            node, length = child, length + within
            if within < len(child.key):
                break
        return Peek(node, length, within)

    def still(self, peek: Peek, keys: list[int], extra_key: str = "") -> bool:
        """Whether ``peek``, an earlier answer of :meth:`peek`, is right now too. Constant time;
        it may say no of an answer that is right."""
        node = peek.node
        if node.parent is None:  # a root, or evicted meanwhile
            if node is not self.roots.get(extra_key):
                return False
        elif node.depth - len(node.key) != peek.length - peek.within:  # split
            return False
        if peek.within < len(node.key) or peek.length >= len(keys):
            return True
        return self._first(keys, peek.length) not in node.children

    def find(self, keys: list[int], limit: int | None = None, extra_key: str = "") -> Match:
        """The longest stored prefix of ``keys[:limit]``. An edge that matches in part is split,
        so that the match ends at a node; but not where only ``limit`` ends the match and
        ``keys`` go on along the edge: the node reaches further than the slots then. Use and
        hits are left as they are."""
        node, length, within = self.peek(keys if limit is None else keys[:limit], extra_key)
        page = self.page_size
        ahead = node.key[within : within + page]
        goes_on = bool(ahead) and ahead == keys[length : length + page]
        if 0 < within < len(node.key) and not goes_on:
            node = self._split(node, within)
        return Match(node, length)

    def hit(self, node: Node, rid: str = "", priority: int = 0) -> None:
        """A request reuses the path to ``node``: count it, and mark it as used now."""
        path = node.path()
        now = self._clock()
        for used in path:
            used.hits += 1
            used.priority = max(used.priority, priority)
            self._touch(used, now)
        if path:
            self._emit(NodeHit(nodes=[used.id for used in path], rid=rid))

    def _new_root(self) -> Node:
        return Node(0, [], [], None, self._clock())

    def _first(self, keys: list[int], at: int) -> Any:
        """What a child is found by: its first key, or its first page of keys."""
        return keys[at] if self.page_size == 1 else tuple(keys[at : at + self.page_size])

    # -- change ----------------------------------------------------------------------------

    def insert(
        self,
        keys: list[int],
        slots: list[int],
        rid: str = "",
        extra_key: str = "",
        priority: int = 0,
    ) -> int:
        """Store ``keys``, whole pages of them, with their ``slots``.

        Returns:
            How many leading tokens were stored already. Their slots in ``slots`` are *not*
            taken over: the caller still owns them.
        """
        if extra_key not in self.roots:
            self.roots[extra_key] = self._new_root()
        node, length, within = self.peek(keys, extra_key)
        if 0 < within < len(node.key) and length < len(keys):
            node = self._split(node, within)
        now = self._clock()
        for used in node.path():
            used.priority = max(used.priority, priority)
            self._touch(used, now)
        if length < len(keys):
            leaf = Node(self._next_id, list(keys[length:]), list(slots[length:]), node, now)
            leaf.priority = priority
            self._next_id += 1
            node.children[self._first(keys, length)] = leaf
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
                    extra_key=extra_key,
                )
            )
        return length

    def _split(self, node: Node, at: int) -> Node:
        """Cut ``node``'s edge after ``at`` tokens; returns the new upper node."""
        parent = node.parent
        upper = Node(self._next_id, node.key[:at], node.slots[:at], parent, node.created)
        self._next_id += 1
        upper.locks, upper.hits, upper.priority = node.locks, node.hits, node.priority
        upper.last_used, upper.stamp = node.last_used, node.stamp
        parent.children[self._first(upper.key, 0)] = upper
        node.key, node.slots, node.parent = node.key[at:], node.slots[at:], upper
        upper.children[self._first(node.key, 0)] = node
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
        """Enter ``node`` in the eviction heap if it may go. Older entries of it are void, and
        are dropped when they come up: nothing has to be found in the heap."""
        if node.evictable:
            self._tickets += 1
            node.ticket = self._tickets
            heapq.heappush(self._heap, (self._order(node, self._floor), node.ticket, node))
            if len(self._heap) > 64 + 4 * self.count:
                self._heap = [e for e in self._heap if e[1] == e[2].ticket and e[2].evictable]
                heapq.heapify(self._heap)

    def evict(self, n: int, why: str = "space", rid: str = "") -> int:
        """Free at least ``n`` tokens if that many can go, leaf by leaf in the strategy's order.
        The last leaf loses only its end if that is enough. Each leaf costs time logarithmic in
        the number of leaves.

        Returns:
            The number of tokens freed.
        """
        freed = 0
        while freed < n and self._heap:
            key, ticket, node = heapq.heappop(self._heap)
            if ticket != node.ticket or not node.evictable:
                continue
            self._floor = max(self._floor, key[0])
            keep = len(node.key) - max(n - freed, LEAST_CUT)
            keep -= keep % self.page_size
            if keep > 0:
                self._split(node, keep)
            freed += len(node.key)
            self._remove(node, why, rid)
        return freed

    def _remove(self, node: Node, why: str, rid: str) -> None:
        parent = node.parent
        above = [key for used in parent.path() for key in used.key]
        root = node.path()[0].parent
        extra_key = next(name for name, top in self.roots.items() if top is root)
        now = self._clock()
        self.evictions.append(
            Eviction(extra_key, len(above), hash(tuple(above)), node.key, now, why, rid)
        )
        del parent.children[self._first(node.key, 0)]
        node.parent = None
        self.count -= 1
        self.size -= len(node.key)
        self._free(node.slots)
        self._emit(NodeEvicted(node=node.id, tokens=len(node.key), why=why, rid=rid))
        if not root.children:
            del self.roots[extra_key]
        self._offer(parent)

    def evict_below(self, top: Node, why: str = "asked") -> int:
        """Drop ``top`` and all below it, but what is in use or pinned, and what leads there.

        Returns:
            The number of tokens freed.
        """
        below, todo = [], [top]
        while todo:
            node = todo.pop()
            below.append(node)
            todo += node.children.values()
        gone = 0
        for node in reversed(below):  # children before parents
            if node.evictable:
                gone += len(node.key)
                self._remove(node, why, "")
        return gone

    def set_eviction(self, eviction: str) -> None:
        """From now on leaves go in the order of another strategy."""
        self.eviction, self._order = eviction, EVICTIONS[eviction]
        self._floor, self._heap = 0.0, []
        for node in self.nodes():
            self._offer(node)

    def renumber(self) -> list[int]:
        """Give the stored tokens the slots 0, 1, 2, ..., each path in a row as far as it can be.

        Returns:
            The old slot of each new one.
        """
        old: list[int] = []
        for node in self.nodes():
            start = len(old)
            old += node.slots
            node.slots = list(range(start, len(old)))
        return old

    # -- inspection ------------------------------------------------------------------------

    def nodes(self, root: Node | None = None) -> Iterator[Node]:
        """All nodes (of one root) but the roots, parents before children."""
        roots = list(self.roots.values()) if root is None else [root]
        todo = [child for top in roots for child in top.children.values()]
        while todo:
            node = todo.pop()
            yield node
            todo.extend(node.children.values())

    def check(self, users: dict[int, int] | None = None) -> None:
        """Prove the tree's books.

        Args:
            users: for each node id how many locks end there, pins included; None leaves locks
                unproven.

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
            if len(node.key) % self.page_size:
                raise RuntimeError(f"{node} is not made of pages of {self.page_size}")
            if node.depth != node.parent.depth + len(node.key):
                raise RuntimeError(f"{node} is not at depth {node.depth}")
            if node.parent.children.get(self._first(node.key, 0)) is not node:
                raise RuntimeError(f"{node} is not its parent's child")
            if node.locks > node.parent.locks and node.parent.parent is not None:
                raise RuntimeError(f"{node} is locked more often than its parent")
        if (size, locked) != (self.size, self.locked_size):
            raise RuntimeError(
                f"the tree holds {size} tokens, {locked} of them locked; "
                f"counted {self.size} and {self.locked_size}"
            )
