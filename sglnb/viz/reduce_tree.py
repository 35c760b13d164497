"""The radix tree of cached prefixes, folded from its events.

Nodes are keyed by their id as text (JSON has no other keys); the root is "0". A node's text is
its first and last pieces with ``hidden`` tokens between them, so that a tree of long prompts
stays small. Evicted nodes stay a while as ghosts. The fold bears a log whose beginning is lost:
what it never saw inserted, it leaves out.

``static/reduce_tree.js`` holds the same fold in JavaScript; change both together.
"""

from __future__ import annotations

from typing import Any

from sglnb.events import Event

Tree = dict[str, Any]
Node = dict[str, Any]

KEEP = 24
"""Pieces kept at each end of a node's text."""
MAX_GHOSTS = 40


def initial_tree() -> Tree:
    """Only a root. ``ghosts`` are evicted nodes, oldest first; ``tips`` maps a request to the
    deepest node known to hold its tokens; ``holds`` maps one to the nodes at which its locks
    end; ``evicted_*`` count what was dropped."""
    return {
        "nodes": {"0": _node(0, None, [], 0, [], 0.0)}, "ghosts": [], "tips": {}, "holds": {},
        "total_slots": 0, "used_slots": 0, "evicted_nodes": 0, "evicted_tokens": 0,
    }  # fmt: skip


def reduce_tree(tree: Tree, event: Event) -> Tree:
    """The tree after ``event``. Reuses ``tree``'s storage."""
    step = _STEPS.get(event.kind)
    if step is not None:
        step(tree, event)
    return tree


def node_tokens(node: Node) -> int:
    """Tokens on the edge to ``node``."""
    return len(node["head"]) + node["hidden"] + len(node["tail"])


def _node(
    node: int, parent: int | None, head: list[str], hidden: int, tail: list[str], t: float
) -> Node:
    return {
        "node": node, "parent": parent, "head": head, "hidden": hidden, "tail": tail,
        "locks": 0, "pins": 0, "hits": 0, "created": t, "last_used": t, "evicted": None, "why": "",
    }  # fmt: skip


def clip_pieces(pieces: list[str]) -> tuple[list[str], int, list[str]]:
    """``(head, hidden, tail)``: both ends of ``pieces`` and how many lie between."""
    if len(pieces) <= 2 * KEEP:
        return list(pieces), 0, []
    return list(pieces[:KEEP]), len(pieces) - 2 * KEEP, list(pieces[-KEEP:])


def _text(record: Any) -> tuple[list[str], int, list[str]]:
    """The text of an inserted node or snapshot entry, already clipped or not."""
    if "head" in record:
        return record["head"], record["hidden"], record["tail"]
    return clip_pieces(record["pieces"])


def _snapshot(tree: Tree, event: Any) -> None:
    nodes = {"0": _node(0, None, [], 0, [], 0.0)}
    for record in event.nodes:
        key = str(record["node"])
        head, hidden, tail = _text(record)
        node = _node(record["node"], record["parent"], head, hidden, tail, record["last_used"])
        node["locks"] = record["locks"]
        node["pins"] = record.get("pins", 0)
        node["hits"] = record["hits"]
        node["created"] = record.get("created", record["last_used"])
        if key == "0":
            node["parent"] = None
        nodes[key] = node
    tree["nodes"] = nodes
    tree["ghosts"] = []
    tree["tips"] = {rid: tip for rid, tip in tree["tips"].items() if str(tip) in nodes}
    tree["holds"] = {}
    _pool(tree, event)


def _pool(tree: Tree, event: Any) -> None:
    tree["total_slots"] = event.total_slots
    tree["used_slots"] = event.used_slots


def _inserted(tree: Tree, event: Any) -> None:
    if str(event.parent) not in tree["nodes"] or str(event.node) in tree["nodes"]:
        return  # a log with gaps or twice the same: what is there stays a tree
    head, hidden, tail = clip_pieces(event.pieces)
    node = _node(event.node, event.parent, head, hidden, tail, event.t)
    tree["nodes"][str(event.node)] = node
    if event.rid:
        tree["tips"][event.rid] = event.node


def _split(tree: Tree, event: Any) -> None:
    node = tree["nodes"].get(str(event.node))
    if node is None or str(event.upper) in tree["nodes"]:
        return
    head, hidden, tail = node["head"], node["hidden"], node["tail"]
    at, near = event.at, len(node["head"])
    if at <= near:
        above, below = (head[:at], 0, []), (head[at:], hidden, tail)
    elif at <= near + hidden:
        above, below = (head, at - near, []), ([], hidden - (at - near), tail)
    else:
        cut = at - near - hidden
        above, below = (head, hidden, tail[:cut]), (tail[cut:], 0, [])
    upper = _node(event.upper, node["parent"], *above, node["created"])
    upper["locks"] = node["locks"]
    upper["hits"] = node["hits"]
    upper["last_used"] = node["last_used"]
    tree["nodes"][str(event.upper)] = upper
    node["parent"] = event.upper
    node["head"], node["hidden"], node["tail"] = below


def _hit(tree: Tree, event: Any) -> None:
    for key in event.nodes:
        node = tree["nodes"].get(str(key))
        if node is not None:
            node["hits"] += 1
            node["last_used"] = event.t
            if event.rid:
                tree["tips"][event.rid] = key


def _locked(tree: Tree, event: Any) -> None:
    node = tree["nodes"].get(str(event.node))
    if node is not None and event.rid == "pin":
        node["pins"] += event.delta
    elif event.rid:
        _hold(tree["holds"], event)
    while node is not None:
        node["locks"] += event.delta
        node["last_used"] = event.t
        node = None if node["parent"] is None else tree["nodes"].get(str(node["parent"]))


def _hold(holds: dict[str, list[int]], event: Any) -> None:
    held = holds.setdefault(event.rid, [])
    if event.delta > 0:
        held.append(event.node)
    elif event.node in held:
        held.remove(event.node)
    if not held:
        del holds[event.rid]


def _evicted(tree: Tree, event: Any) -> None:
    tree["evicted_nodes"] += 1
    tree["evicted_tokens"] += event.tokens
    node = tree["nodes"].get(str(event.node))
    if node is None:
        return
    node["evicted"] = event.t
    node["why"] = event.why
    tree["ghosts"].append(event.node)
    if len(tree["ghosts"]) > MAX_GHOSTS:
        tree["nodes"].pop(str(tree["ghosts"].pop(0)), None)


_STEPS = {
    "cache_snapshot": _snapshot,
    "node_inserted": _inserted,
    "node_split": _split,
    "node_hit": _hit,
    "node_locked": _locked,
    "node_evicted": _evicted,
    "step": _pool,
}
