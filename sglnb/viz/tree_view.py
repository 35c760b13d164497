"""The radix tree alone, in a notebook: at one moment, and after each command."""

from __future__ import annotations

from typing import Any

import traitlets

from sglnb.events import CacheSnapshot, EventLog

from .ask import Answers
from .assets import css, packed, tree_esm
from .base import View
from .runlog import base_snapshot
from .saved import to_json
from .tree_feed import tree_since
from .wire import Encoder, Wire

KEPT = 2000
"""Events kept in the saved state; of more, one snapshot tells the same."""


class TreeView(View):
    """Shows a snapshot of an engine's radix tree, to look around, pin and evict in.

    Args:
        snapshot: the tree as it was; its ``seq`` says when.
        log: the engine's event log.
        cache: the engine's ``cache``, which answers the view's questions.
        title: what it is called.
    """

    _esm = packed(tree_esm())
    _css = css()
    title = traitlets.Unicode("").tag(sync=True)
    saved = traitlets.Unicode("[]").tag(sync=True)

    def __init__(self, snapshot: CacheSnapshot, log: EventLog, cache: Any, *, title: str = "cache"):
        self._log, self._last_seq = log, snapshot.seq
        self._encode = Encoder()
        self._wires: list[Wire] = [self._encode(base_snapshot([snapshot]))]
        super().__init__(
            title=title, saved=to_json(self._wires), controls=True,
        )  # fmt: skip
        self._begin(Answers(cache, self.send, self._refresh))

    def __repr__(self) -> str:
        return "cache: interactive view (needs its kernel; the saved picture follows)"

    def _refresh(self) -> None:
        events = tree_since(self._log, self._last_seq)
        if not events:
            return
        if events[0].kind == "cache_snapshot" or len(self._wires) > KEPT:
            self._wires.clear()
            events = [base_snapshot(self._log.since(0))]
        wires = [self._encode(event) for event in events]
        self._wires += wires
        self._last_seq = events[-1].seq
        self.send({"kind": "events", "json": to_json(wires)})
        self.saved = to_json(self._wires)
