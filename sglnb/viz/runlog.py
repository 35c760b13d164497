"""One run's part of an event log, with the cache as it was when the run began."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sglnb.events import CacheSnapshot, Event

from .reduce_tree import Tree, initial_tree, node_tokens, reduce_tree

TREE_KINDS = frozenset(
    {"cache_snapshot", "node_inserted", "node_split", "node_hit", "node_locked", "node_evicted"}
)
RUN_KINDS = frozenset(
    {
        "run_started", "run_ended", "program_read", "program_reached", "state_started",
        "state_forked", "state_joined", "state_ended", "variable_set", "request_arrived",
        "request_matched", "request_scheduled", "tokens", "request_finished", "request_retracted",
        "constraint_used",
    }
)  # fmt: skip

BASE_TEXTS = 200
"""Nodes of the cache before the run that keep their text; the newest used do."""
BASE_NODES = 3000
BASE_KEEP = 12
"""Pieces kept at each end of such a node's text."""


class RunFilter:
    """Says which events belong to a run's picture: the run's own, the tree's (the tree is shared
    by all runs), and the engine's steps and what it waits for while the run has a request there.
    It learns the run's requests as they come and go: show it every event, in order."""

    def __init__(self, run: str):
        self.run = run
        self.rids: set[str] = set()
        self._open: set[str] = set()

    def __call__(self, event: Event) -> bool:
        if self.is_own(event):
            return True
        return event.kind in TREE_KINDS or (bool(self._open) and _is_everyones(event))

    def is_own(self, event: Event) -> bool:
        """Whether the event is about this run or one of its requests."""
        if event.kind == "step":
            # A request's last step is told of after its end.
            return bool(self.rids) and not (
                self.rids.isdisjoint(event.decode) and self.rids.isdisjoint(event.prefill)
            )
        if event.kind not in RUN_KINDS:
            return getattr(event, "rid", None) in self.rids
        run = getattr(event, "run", None)
        if run is None:
            if event.kind == "request_finished":
                self._open.discard(event.rid)
            return event.rid in self.rids  # type: ignore[attr-defined]
        if run == self.run and event.kind == "request_arrived":
            self.rids.add(event.rid)  # type: ignore[attr-defined]
            self._open.add(event.rid)  # type: ignore[attr-defined]
        return run == self.run


def _is_everyones(event: Event) -> bool:
    return event.kind == "step" or (event.kind == "preparing" and not event.rid)  # type: ignore


def run_events(events: Iterable[Event], run: str) -> list[Event]:
    """The events that tell ``run``'s story, from its first to its last.

    The first is a :class:`CacheSnapshot` of the tree as it was just before.
    """
    events = list(events)
    is_own = RunFilter(run).is_own
    own = [i for i, event in enumerate(events) if is_own(event)]
    if not own:
        return []
    first, last = own[0], own[-1]
    kept = filter(RunFilter(run), events[first : last + 1])
    return [base_snapshot(events[:first], events[first]), *kept]


def base_snapshot(before: Sequence[Event], first: Event | None = None) -> CacheSnapshot:
    """The tree after the events ``before``, small enough to send to a browser."""
    tree = initial_tree()
    for event in before:
        reduce_tree(tree, event)
    snapshot = CacheSnapshot(
        nodes=compact_nodes(tree), total_slots=tree["total_slots"], used_slots=tree["used_slots"]
    )
    at = before[-1] if before else first
    if at is not None:
        snapshot.seq, snapshot.t = (at.seq if before else at.seq - 1), at.t
    return snapshot


def compact_nodes(tree: Tree) -> list[dict[str, Any]]:
    """The living nodes as snapshot records, parents first; text for the newest used only."""
    living = [node for node in tree["nodes"].values() if node["evicted"] is None and node["node"]]
    newest = sorted(living, key=lambda node: -node["last_used"])
    with_text = {node["node"] for node in newest[:BASE_TEXTS]}
    records = []
    for node in _parents_first(tree, newest[:BASE_NODES]):
        head, hidden, tail = node["head"], node["hidden"], node["tail"]
        if node["node"] not in with_text:
            head, hidden, tail = [], node_tokens(node), []
        elif node_tokens(node) > 2 * BASE_KEEP:
            hidden = node_tokens(node) - 2 * BASE_KEEP
            whole = head + tail
            head, tail = whole[:BASE_KEEP], whole[-BASE_KEEP:]
        records.append({
            "node": node["node"], "parent": node["parent"], "head": head, "hidden": hidden,
            "tail": tail, "locks": node["locks"], "pins": node["pins"], "hits": node["hits"],
            "created": node["created"], "last_used": node["last_used"],
        })  # fmt: skip
    return records


def _parents_first(tree: Tree, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``wanted`` and all their ancestors, each after its parent."""
    out: dict[int, dict[str, Any]] = {}
    for node in wanted:
        line = []
        while node is not None and node["node"] != 0 and node["node"] not in out:
            line.append(node)
            node = tree["nodes"].get(str(node["parent"]))
        for ancestor in reversed(line):
            out[ancestor["node"]] = ancestor
    return list(out.values())
