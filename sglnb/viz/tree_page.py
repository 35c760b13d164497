"""The radix tree as a page of its own and as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sglnb.events import CacheSnapshot

from .assets import tree_esm
from .outline import outline, pins_below
from .page import page
from .plain import node_text
from .reduce_tree import Tree, node_tokens
from .saved import to_json
from .text import storable
from .wire import Encoder

if TYPE_CHECKING:
    import pandas

WHOLE_TEXTS = 200_000
"""Tokens of a tree whose page holds all text; of a larger one long edges lose their middle."""

COLUMNS = ["node", "parent", "depth", "start", "tokens", "text", "locks", "pins", "hits", "created",
           "last_used", "requests", "extra_key"]  # fmt: skip


def tree_page(snapshot: CacheSnapshot, title: str = "cache") -> str:
    """One file with the tree to look around in: no network, no kernel, so no commands."""
    nodes = snapshot.nodes
    if sum(len(node["pieces"]) for node in nodes) <= WHOLE_TEXTS:
        nodes = [{**node, "head": node["pieces"], "hidden": 0, "tail": []} for node in nodes]
    whole = CacheSnapshot(
        nodes=nodes, total_slots=snapshot.total_slots, used_slots=snapshot.used_slots
    )
    whole.seq, whole.t = snapshot.seq, snapshot.t
    return page(tree_esm(), to_json([Encoder()(whole)]), title)


def tree_frame(nodes: Iterable[dict[str, Any]]) -> pandas.DataFrame:
    """One row per node of ``engine.cache.snapshot()``: node and parent (0: a root), depth (edges
    from the root), start (tokens above its edge), tokens (on it), text, locks, pins, hits,
    created and last_used (seconds on the log's clock), requests (that use it) and extra_key."""
    import pandas

    ends: dict[int, tuple[int, int]] = {0: (0, 0)}
    rows = []
    for node in nodes:
        depth, start = ends[node["parent"]]
        tokens = len(node["ids"])
        ends[node["node"]] = depth + 1, start + tokens
        rows.append({
            **{key: node[key] for key in COLUMNS if key in node},
            "depth": depth + 1, "start": start, "tokens": tokens,
            "text": storable(node["text"]), "requests": list(node["requests"]),
        })  # fmt: skip
    return pandas.DataFrame(rows, columns=COLUMNS)


def folded_tree_frame(tree: Tree) -> pandas.DataFrame:
    """One row per living node of a folded tree, with in_use (requests that hold it) beside the
    columns that a fold knows; the middle of a long edge's text is left out."""
    import pandas

    pins, living = pins_below(tree), []
    for item in outline(tree, limit=len(tree["nodes"])):
        node = tree["nodes"][str(item["node"])]
        if node["evicted"] is None:
            living.append({
                **{key: node[key] for key in COLUMNS if key in node},
                "depth": item["depth"], "start": item["start"], "tokens": node_tokens(node),
                "text": storable(node_text(node)),
                "in_use": node["locks"] - pins.get(node["node"], 0),
            })  # fmt: skip
    columns = [*COLUMNS[: COLUMNS.index("requests")], "in_use"]
    return pandas.DataFrame(living, columns=columns)
