"""``engine.cache``: look into the radix tree, pin and flush."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..events import CacheSnapshot
from .arguments import number
from .radix_node import common_prefix
from .why_miss import Miss, explain_miss

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


class EditCost(NamedTuple):
    """What changing a prompt costs in cached KV."""

    cached: int
    """Tokens of the old text that are cached."""
    kept: int
    """Those that the new text reuses."""
    compute: int
    """Tokens of the new text that have to be computed."""
    same: str
    """The text up to where the two part."""

    @property
    def lost(self) -> int:
        """Cached tokens that the edit throws away."""
        return self.cached - self.kept

    def __str__(self) -> str:
        return (
            f"the edit throws away {self.lost:,} of {self.cached:,} cached tokens; "
            f"{self.compute:,} are to be computed"
        )


class Cache:
    """Inspection and control of one engine's radix tree. Looking never changes the tree."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._budget: int | None = None

    def snapshot(self) -> list[dict[str, Any]]:
        """The tree as plain data, parents first: dicts with node, parent, extra_key (the
        namespace), ids, pieces, text, slots, locks, pins, hits, priority, created, last_used
        (seconds on the event log's clock), requests (the ids of those that use it)."""
        return self._engine.call(self._nodes)

    def emit_snapshot(self) -> None:
        """Put the whole tree in the event log, so that a view can start from here."""
        core = self._engine._core

        def emit() -> None:
            keys = "node", "parent", "ids", "pieces", "locks", "pins", "hits", "last_used"
            keys += ("extra_key",)
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
                "extra_key": extra_key,
                "ids": list(node.key),
                "pieces": known.pieces(node.key),
                "text": known.text(node.key),
                "slots": list(node.slots),
                "locks": node.locks,
                "pins": node.pins,
                "hits": node.hits,
                "priority": node.priority,
                "created": node.created,
                "last_used": node.last_used,
                "requests": users.get(node.id, []),
            }
            for extra_key, root in core.memory.tree.roots.items()
            for node in core.memory.tree.nodes(root)
        ]

    def match(
        self, text: str | list[int], *, image_data: Any = None, extra_key: str = ""
    ) -> CacheMatch:
        """How much of ``text``, with its images as in ``engine.submit``, is cached in the
        namespace ``extra_key``."""
        keys, known = self._engine.prompt_keys(text, image_data), self._engine._core.image_keys

        def look() -> tuple[int, list[int]]:
            peek = self._engine._core.memory.tree.peek(keys, extra_key)
            return peek.length, [node.id for node in peek.node.path()]

        cached, nodes = self._engine.call(look)
        return CacheMatch(
            len(keys),
            cached,
            known.text(keys[:cached]),
            known.text(keys[cached:]),
            nodes,
        )

    def why_miss(
        self, text: str | list[int], *, image_data: Any = None, extra_key: str = ""
    ) -> Miss:
        """Why the cached prefix of ``text`` ends where it ends: the first token that differs,
        what the cache holds in its place, and the reason."""
        core, keys = self._engine._core, self._engine.prompt_keys(text, image_data)
        return self._engine.call(
            lambda: explain_miss(
                core.memory.tree, core.image_keys, keys, extra_key, core.events.now()
            )
        )

    def cost_of_edit(
        self, old: str | list[int], new: str | list[int], *, extra_key: str = ""
    ) -> EditCost:
        """What changing the prompt ``old`` into ``new`` would throw away of the cache."""
        before, after = map(self._engine.prompt_keys, (old, new))
        tree = self._engine._core.memory.tree
        cached, found = self._engine.call(
            lambda: (tree.peek(before, extra_key).length, tree.peek(after, extra_key).length)
        )
        same = common_prefix(before, after, 0)
        kept = min(cached, found, same - same % tree.page_size)
        text = self._engine._core.image_keys.text(after[:same])
        return EditCost(cached, kept, len(after) - found, text)

    def flush(self) -> int:
        """Drop everything that no running request uses and nobody pinned.

        Returns:
            Tokens freed.
        """
        tree = self._engine._core.memory.tree
        return self._engine.call(lambda: tree.evict(tree.evictable_size, why="flush"))

    @property
    def pin_budget(self) -> int:
        """Tokens that may be pinned at once; half of the pool unless set."""
        return self._engine._core.memory.pool.total // 2 if self._budget is None else self._budget

    @pin_budget.setter
    def pin_budget(self, tokens: int) -> None:
        number("pin_budget", tokens, 0, self._engine._core.memory.pool.total, whole=True)
        self._budget = tokens

    def pin(self, text: str | list[int], *, image_data: Any = None, extra_key: str = "") -> int:
        """Keep the KV of ``text`` from being evicted; what is not cached yet is computed now.

        Args:
            image_data: its images, as in ``engine.submit``.
            extra_key: its namespace.

        Returns:
            A handle for :meth:`unpin`.

        Raises:
            ValueError: the text does not fit in :attr:`pin_budget`, or is shorter than a page.
        """
        engine, core = self._engine, self._engine._core
        keys, tree = engine.prompt_keys(text, image_data), core.memory.tree
        whole = len(keys) - len(keys) % tree.page_size
        if not whole:
            raise ValueError(
                f"text: {len(keys)} tokens are less than a page of {tree.page_size}; nothing to pin"
            )

        def pin() -> int | None:
            pinned = {node for end in core.pins.values() for node in end.path()}
            match = tree.find(keys[:whole], extra_key=extra_key)
            path = match.node.path()
            more = whole - sum(len(node.key) for node in path if node in pinned)
            used = sum(len(node.key) for node in pinned)
            if used + more > self.pin_budget:
                raise ValueError(
                    f"text: {more:,} tokens do not fit in the pin budget ({used:,} of "
                    f"{self.pin_budget:,} used); unpin something, or set cache.pin_budget"
                )
            if len(match.slots) < whole:
                return None
            return core.pin(match.node)

        while (handle := engine.call(pin)) is None:
            where = {"image_data": image_data, "extra_key": extra_key}
            engine.submit(text, {"max_new_tokens": 0}, purpose="prefill", **where).result()
        return handle

    def unpin(self, handle: int) -> None:
        """Let go of a pinned prefix.

        Raises:
            ValueError: no such handle.
        """
        core = self._engine._core

        def unpin() -> None:
            if handle not in core.pins:
                raise ValueError(f"handle: {handle!r} is not pinned; pinned: {sorted(core.pins)}")
            core.unpin(handle)

        self._engine.call(unpin)

    def __repr__(self) -> str:
        m = self._engine.metrics()
        return (
            f"Cache({m['kv_cached']:,} of {m['kv_tokens']:,} tokens in {m['tree_nodes']} nodes, "
            f"hit rate {m['cache_hit_rate']:.0%})"
        )
