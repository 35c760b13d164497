"""Events as small JSON for the browser. ``static/wire.js`` reads it back.

What the views never use is left out, numbers are rounded, defaults are dropped, a prompt that
begins like an earlier request's tokens says only how far (forks, turns of a chat and choices repeat
long prefixes), and events that only go on share a wire (:mod:`.shared_wire`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from sglnb.events import Event

from .reduce_tree import clip_pieces
from .runlog import TREE_KINDS
from .shared_wire import Steps, Tokens, Wire

REMEMBERED = 16
"""Requests whose tokens a new prompt is compared with."""
MIN_SAME = 8
"""Shorter common prefixes are not worth a reference."""


class Encoder:
    """Turns events into wire dicts, in order."""

    def __init__(self) -> None:
        self._sequences: OrderedDict[str, list[int]] = OrderedDict()
        self._numbers: dict[str, int] = {}

    def __call__(self, event: Event) -> Wire:
        """The wire of one event."""
        return self.together([event])[0]

    def together(self, events: Iterable[Event]) -> list[Wire]:
        """The wires of events that came one after the other. A wire that some share stands where
        the first of them was."""
        out: list[Wire | Tokens | Steps] = []
        texts: dict[str, Tokens] = {}
        steps: Steps | None = None
        for event in events:
            if event.kind == "tokens":
                self._remember(event)
                text = texts.get(event.rid)
                if text is None or not text.add(event):
                    texts[event.rid] = text = Tokens(event)
                    out.append(text)
            elif event.kind == "step":
                if steps is None or not steps.add(event):
                    steps = Steps(event, self._numbers)
                    out.append(steps)
            else:
                if event.kind not in TREE_KINDS:
                    steps = None  # a condensed copy may tell those as one: nothing came between
                out.append(self._other(event))
        return [each if isinstance(each, dict) else each.wire() for each in out]

    def _other(self, event: Event) -> Wire:
        special = _SPECIAL.get(event.kind)
        wire = {"k": event.kind, "s": event.seq, "t": round(event.t, 5)}
        if special is not None:
            special(self, event, wire)
        else:
            for name, value in event.to_dict().items():
                if name not in ("kind", "seq", "t", "path") and value not in ("", None):
                    wire[name] = value
        return wire

    def _arrived(self, event: Any, wire: Wire) -> None:
        for name in ("rid", "run", "state", "name", "purpose", "constraint"):
            if getattr(event, name):
                wire[name] = getattr(event, name)
        wire["i"] = self._numbers.setdefault(event.rid, len(self._numbers))
        best, same = "", 0
        for rid, ids in self._sequences.items():
            n = common_prefix(ids, event.ids)
            if n >= same:
                best, same = rid, n
        if same < MIN_SAME:
            same = 0
        else:
            wire["same"] = [best, same]
        wire["ids"], wire["pieces"] = event.ids[same:], event.pieces[same:]
        self._sequences[event.rid] = list(event.ids)
        if len(self._sequences) > REMEMBERED:
            self._sequences.popitem(last=False)

    def _remember(self, event: Any) -> None:
        sequence = self._sequences.get(event.rid)
        if sequence is not None:
            if event.replaced:
                del sequence[-event.replaced :]
            sequence += event.ids

    def _inserted(self, event: Any, wire: Wire) -> None:
        head, hidden, tail = clip_pieces(event.pieces)
        wire.update(node=event.node, parent=event.parent, text=[head, hidden, tail])
        if event.rid:
            wire["rid"] = event.rid

    def _snapshot(self, event: Any, wire: Wire) -> None:
        wire.update(total_slots=event.total_slots, used_slots=event.used_slots)
        wire["nodes"] = []
        for record in event.nodes:
            if "head" in record:
                text = [record["head"], record["hidden"], record["tail"]]
            else:
                text = list(clip_pieces(record["pieces"]))
            wire["nodes"].append([
                record["node"], record["parent"], record["locks"], record["hits"],
                round(record["last_used"], 3), *text,
                round(record.get("created", record["last_used"]), 3), record.get("pins", 0),
            ])  # fmt: skip


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many items ``a`` and ``b`` have in common from the start (halving, so in C)."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


_SPECIAL = {
    "request_arrived": Encoder._arrived,
    "node_inserted": Encoder._inserted,
    "cache_snapshot": Encoder._snapshot,
}
