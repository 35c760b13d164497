"""``engine.cache``: look into the radix tree, pin and flush."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..events import CacheSnapshot
from .arguments import number
from .nodes import all_nodes, describe, find
from .radix_node import Node, common_prefix
from .snapshot import Snapshot
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

    def snapshot(self) -> Snapshot:
        """The tree as plain data, parents first: dicts with node, parent, extra_key (the
        namespace), ids, pieces, text, slots, locks, pins, hits, priority, created, last_used
        (seconds on the event log's clock), requests (the ids of those that use it).

        A notebook shows it as a tree to look around in; see :class:`Snapshot
        <sglnb.runtime.snapshot.Snapshot>`.
        """
        core = self._engine._core

        def look() -> Snapshot:
            pool = core.memory.pool
            return Snapshot(all_nodes(core), self._engine, pool.total, pool.total - pool.free_count)

        return self._engine.call(look)

    def node(self, node: int) -> dict[str, Any]:
        """One node as in :meth:`snapshot`, and ``prompt`` (the text from the top to its end),
        ``above`` (tokens before its edge), ``path`` (nodes from the top down to it) and
        ``handles`` (pins that end at it).

        Raises:
            ValueError: the cache holds no such node (any more).
        """
        return self._engine.call(lambda: describe(self._engine._core, node))

    def emit_snapshot(self) -> None:
        """Put the whole tree in the event log, so that a view can start from here."""
        core = self._engine._core

        def emit() -> None:
            keys = "node", "parent", "ids", "pieces", "locks", "pins", "hits", "last_used"
            keys += "created", "extra_key"
            pool = core.memory.pool
            core.events.emit(
                CacheSnapshot(
                    nodes=[{key: node[key] for key in keys} for node in all_nodes(core)],
                    total_slots=pool.total,
                    used_slots=pool.total - pool.free_count,
                )
            )

        self._engine.call(emit)

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

    def evict(self, what: str | list[int] | int, *, extra_key: str = "") -> int:
        """Drop a cached text, and all that continues it, from the cache. What is in use or
        pinned stays, with what leads to it.

        Args:
            what: a text or its token ids, cached to the end: the edge in which it ends goes, and
                all below. Or a node's number.
            extra_key: the text's namespace.

        Returns:
            Tokens freed; 0 for a text that is not cached to its end.

        Raises:
            ValueError: no node has that number.
        """
        tree = self._engine._core.memory.tree
        if isinstance(what, int):
            return self._engine.call(lambda: tree.evict_below(find(self._engine._core, what)[1]))
        keys = self._engine.prompt_keys(what)

        def evict() -> int:
            peek = tree.peek(keys, extra_key)
            if peek.node.parent is None or peek.length < len(keys) - len(keys) % tree.page_size:
                return 0
            return tree.evict_below(peek.node)

        return self._engine.call(evict)

    @property
    def pin_budget(self) -> int:
        """Tokens that may be pinned at once; half of the pool unless set."""
        return self._engine._core.memory.pool.total // 2 if self._budget is None else self._budget

    @pin_budget.setter
    def pin_budget(self, tokens: int) -> None:
        number("pin_budget", tokens, 0, self._engine._core.memory.pool.total, whole=True)
        self._budget = tokens

    def pin(
        self, what: str | list[int] | int, *, image_data: Any = None, extra_key: str = ""
    ) -> int:
        """Keep the KV of a text from being evicted; what is not cached yet is computed now.

        Args:
            what: a text, its token ids, or a node's number: what leads to the node's end.
            image_data: its images, as in ``engine.submit``.
            extra_key: its namespace.

        Returns:
            A handle for :meth:`unpin`.

        Raises:
            ValueError: the text does not fit in :attr:`pin_budget`, or is shorter than a page; or
                no node has that number.
        """
        engine, core = self._engine, self._engine._core
        if isinstance(what, int):

            def pin_node() -> int:
                node = find(self._engine._core, what)[1]
                self._check_budget(node.path(), node.depth)
                return core.pin(node)

            return engine.call(pin_node)
        keys, tree = engine.prompt_keys(what, image_data), core.memory.tree
        whole = len(keys) - len(keys) % tree.page_size
        if not whole:
            raise ValueError(
                f"text: {len(keys)} tokens are less than a page of {tree.page_size}; nothing to pin"
            )

        def pin() -> int | None:
            match = tree.find(keys[:whole], extra_key=extra_key)
            self._check_budget(match.node.path(), whole)
            if len(match.slots) < whole:
                return None
            return core.pin(match.node)

        while (handle := engine.call(pin)) is None:
            where = {"image_data": image_data, "extra_key": extra_key}
            engine.submit(what, {"max_new_tokens": 0}, purpose="prefill", **where).result()
        return handle

    def _check_budget(self, path: list[Node], tokens: int) -> None:
        """Refuse to pin ``tokens`` tokens, those of ``path`` cached, if that is too much."""
        pinned = {node for end in self._engine._core.pins.values() for node in end.path()}
        more = tokens - sum(len(node.key) for node in path if node in pinned)
        used = sum(len(node.key) for node in pinned)
        if used + more > self.pin_budget:
            raise ValueError(
                f"text: {more:,} tokens do not fit in the pin budget ({used:,} of "
                f"{self.pin_budget:,} used); unpin something, or set cache.pin_budget"
            )

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
