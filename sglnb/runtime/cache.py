"""``engine.cache``: look into the radix tree, pin and flush."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..events import CacheSnapshot

if TYPE_CHECKING:
    from .engine import Engine


class CacheMatch(NamedTuple):
    """What the cache knows of a text."""

    tokens: int
    """Tokens of the text."""
    cached: int
    """Leading tokens whose KV is there."""
    text: str
    """The cached part, as text."""
    rest: str
    """What would have to be computed."""
    nodes: list[int]
    """The tree's nodes along the cached part, top first."""


class Cache:
    """Inspection and control of one engine's radix tree. Looking never changes the tree."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def snapshot(self) -> list[dict[str, Any]]:
        """The tree as plain data, parents first: dicts with node, parent, ids, pieces, text,
        slots, locks, hits, created, last_used (seconds on the event log's clock), requests."""
        return self._engine.call(self._nodes)

    def emit_snapshot(self) -> None:
        """Put the whole tree in the event log, so that a view can start from here."""
        core = self._engine._core

        def emit() -> None:
            keys = ("node", "parent", "ids", "pieces", "locks", "hits", "last_used")
            pool = core.memory.pool
            core.events.emit(
                CacheSnapshot(
                    nodes=[{key: node[key] for key in keys} for node in self._nodes()],
                    total_slots=pool.total,
                    used_slots=pool.total - pool.free_count,
                )
            )

        self._engine.call(emit)

    def _nodes(self) -> list[dict[str, Any]]:
        core = self._engine._core
        known = core.image_keys
        users: dict[int, list[str]] = {}
        for request in core.scheduler.running:
            for node in request.node.path():
                users.setdefault(node.id, []).append(request.rid)
        return [
            {
                "node": node.id,
                "parent": node.parent.id,
                "ids": list(node.key),
                "pieces": known.pieces(node.key),
                "text": known.text(node.key),
                "slots": list(node.slots),
                "locks": node.locks,
                "hits": node.hits,
                "created": node.created,
                "last_used": node.last_used,
                "requests": users.get(node.id, []),
            }
            for node in core.memory.tree.nodes()
        ]

    def match(self, text: str | list[int], *, image_data: Any = None) -> CacheMatch:
        """How much of ``text``, with its images as in ``engine.submit``, is cached."""
        keys, known = self._engine.prompt_keys(text, image_data), self._engine._core.image_keys

        def look() -> tuple[int, list[int]]:
            peek = self._engine._core.memory.tree.peek(keys)
            return peek.length, [node.id for node in peek.node.path()]

        cached, nodes = self._engine.call(look)
        return CacheMatch(
            len(keys),
            cached,
            known.text(keys[:cached]),
            known.text(keys[cached:]),
            nodes,
        )

    def flush(self) -> int:
        """Drop everything that no running request uses and nobody pinned.

        Returns:
            Tokens freed.
        """
        tree = self._engine._core.memory.tree
        return self._engine.call(lambda: tree.evict(tree.evictable_size, why="flush"))

    def pin(self, text: str | list[int], *, image_data: Any = None) -> int:
        """Keep the cached prefix of ``text`` from being evicted.

        Args:
            image_data: its images, as in ``engine.submit``.

        Returns:
            A handle for :meth:`unpin`.

        Raises:
            ValueError: nothing of the text is cached; run it first.
        """
        core = self._engine._core
        keys = self._engine.prompt_keys(text, image_data)

        def pin() -> int:
            match = core.memory.tree.find(keys)
            if not match.slots:
                raise ValueError("text: nothing of it is in the cache; run it once, then pin it")
            core.memory.tree.lock(match.node, "pin")
            handle = max(core.pins, default=0) + 1
            core.pins[handle] = match.node
            return handle

        return self._engine.call(pin)

    def unpin(self, handle: int) -> None:
        """Let go of a pinned prefix.

        Raises:
            ValueError: no such handle.
        """
        core = self._engine._core

        def unpin() -> None:
            if handle not in core.pins:
                raise ValueError(f"handle: {handle!r} is not pinned; pinned: {sorted(core.pins)}")
            core.memory.tree.unlock(core.pins.pop(handle), "pin")

        self._engine.call(unpin)

    def __repr__(self) -> str:
        m = self._engine.metrics()
        return (
            f"Cache({m['kv_cached']:,} of {m['kv_tokens']:,} tokens in {m['tree_nodes']} nodes, "
            f"hit rate {m['cache_hit_rate']:.0%})"
        )
