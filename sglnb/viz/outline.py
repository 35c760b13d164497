"""Which nodes of a radix tree to show, in which order: shared by lists and drawings.

``static/layout.js`` holds the same choice in JavaScript; change both together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .reduce_tree import Node, Tree, node_tokens

MAX_VISIBLE = 300


def children_of(tree: Tree) -> dict[int, list[Node]]:
    """Each node's children, the last used first (ghosts included)."""
    kids: dict[int, list[Node]] = {}
    for node in tree["nodes"].values():
        if node["parent"] is not None:
            kids.setdefault(node["parent"], []).append(node)
    for group in kids.values():
        group.sort(key=lambda node: (-node["last_used"], node["node"]))
    return kids


def path_to(tree: Tree, node: int | None) -> list[int]:
    """Node ids from the top (the root left out) down to ``node``; [] if it is gone."""
    path = []
    found = None if node is None else tree["nodes"].get(str(node))
    while found is not None and found["parent"] is not None:
        path.append(found["node"])
        found = tree["nodes"].get(str(found["parent"]))
    return path[::-1]


def outline(tree: Tree, keep: Iterable[int] = (), limit: int = MAX_VISIBLE) -> list[dict[str, Any]]:
    """The visible part of the tree from the top down, depth first.

    At most ``limit`` nodes: those in ``keep`` (and their ancestors) first, then the last used.
    Items are ``{"node", "depth", "start", "parent"}`` with ``start`` the tokens above the
    node's edge, or, where children are left out, ``{"more", "tokens", "depth", "parent"}``.
    """
    nodes, wanted = tree["nodes"], set(keep)
    ranked = sorted(
        (node for node in nodes.values() if node["parent"] is not None),
        key=lambda node: (node["node"] not in wanted, -node["last_used"], node["node"]),
    )
    shown: set[int] = set()
    for node in ranked:
        if len(shown) >= limit:
            break
        line = [key for key in path_to(tree, node["node"]) if key not in shown]
        if len(shown) + len(line) <= limit:
            shown.update(line)
    kids, items = children_of(tree), []

    def size(node: Node) -> tuple[int, int]:
        count, tokens, todo = 0, 0, [node]
        while todo:
            each = todo.pop()
            count, tokens = count + 1, tokens + node_tokens(each)
            todo += kids.get(each["node"], [])
        return count, tokens

    todo: list[tuple[Any, int, int]] = [(None, 0, 0)]
    while todo:
        node, depth, end = todo.pop()
        if isinstance(node, dict) and "more" in node:
            items.append(node)
            continue
        key = 0 if node is None else node["node"]
        if node is not None:
            items.append({"node": key, "depth": depth, "start": end, "parent": node["parent"]})
            end += node_tokens(node)
        below = kids.get(key, [])
        hidden = [size(kid) for kid in below if kid["node"] not in shown]
        if hidden:
            more = {"more": sum(n for n, _ in hidden), "tokens": sum(t for _, t in hidden),
                    "depth": depth + 1, "parent": key}  # fmt: skip
            todo.append((more, 0, 0))
        visible = [kid for kid in below if kid["node"] in shown]
        todo += [(kid, depth + 1, end) for kid in reversed(visible)]
    return items


def pins_below(tree: Tree) -> dict[int, int]:
    """How many pins end at each node or below it; nodes without any are left out."""
    pins: dict[int, int] = {}
    for node in tree["nodes"].values():
        if node["pins"] and node["evicted"] is None:
            for key in path_to(tree, node["node"]):
                pins[key] = pins.get(key, 0) + node["pins"]
    return pins


def totals(tree: Tree) -> tuple[int, int]:
    """``(nodes, tokens)`` of the living tree."""
    living = [node for node in tree["nodes"].values()
              if node["evicted"] is None and node["parent"] is not None]  # fmt: skip
    return len(living), sum(map(node_tokens, living))
