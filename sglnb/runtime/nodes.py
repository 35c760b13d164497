"""The radix tree's nodes as plain data. Call these on the engine's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .radix_node import Node

if TYPE_CHECKING:
    from .core import EngineCore


def all_nodes(core: EngineCore) -> list[dict[str, Any]]:
    """See :meth:`sglnb.runtime.cache.Cache.snapshot`."""
    tree, users = core.memory.tree, _users(core)
    return [
        _record(core, node, extra_key, users)
        for extra_key, root in tree.roots.items()
        for node in tree.nodes(root)
    ]


def describe(core: EngineCore, number: int) -> dict[str, Any]:
    """See :meth:`sglnb.runtime.cache.Cache.node`."""
    extra_key, node = find(core, number)
    path = node.path()
    return {
        **_record(core, node, extra_key, _users(core)),
        "prompt": core.image_keys.text([key for each in path for key in each.key]),
        "above": node.depth - len(node.key),
        "path": [each.id for each in path],
        "handles": [handle for handle, end in core.pins.items() if end is node],
    }


def find(core: EngineCore, number: int) -> tuple[str, Node]:
    """A node and its namespace.

    Raises:
        ValueError: no node has that number.
    """
    tree = core.memory.tree
    for extra_key, root in tree.roots.items():
        for node in tree.nodes(root):
            if node.id == number:
                return extra_key, node
    raise ValueError(f"node: the cache holds no node {number!r} now; see cache.snapshot()")


def _users(core: EngineCore) -> dict[int, list[str]]:
    """The running requests of each node that is in use."""
    users: dict[int, list[str]] = {}
    for request in core.scheduler.running:
        for node in request.node.path():
            users.setdefault(node.id, []).append(request.rid)
    return users


def _record(
    core: EngineCore, node: Node, extra_key: str, users: dict[int, list[str]]
) -> dict[str, Any]:
    known = core.image_keys
    return {
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
