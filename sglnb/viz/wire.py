"""Events as small JSON for the browser. ``static/wire.js`` reads it back.

What the views never use is left out, numbers are rounded, defaults are dropped, and a prompt
that begins like an earlier request's tokens says only how far: forks, turns of a chat and
choices repeat long prefixes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from sglnb.events import Event

from .reduce_tree import clip_pieces

Wire = dict[str, Any]

REMEMBERED = 16
"""Requests whose tokens a new prompt is compared with."""
MIN_SAME = 8
"""Shorter common prefixes are not worth a reference."""


class Encoder:
    """Turns events into wire dicts, in order. ``alternatives=False`` leaves out the likeliest
    other tokens, which are most of the bytes."""

    def __init__(self, alternatives: bool = True):
        self.alternatives = alternatives
        self._sequences: OrderedDict[str, list[int]] = OrderedDict()
        self._numbers: dict[str, int] = {}

    def __call__(self, event: Event) -> Wire:
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

    def _tokens(self, event: Any, wire: Wire) -> None:
        wire.update(rid=event.rid, ids=event.ids, pieces=event.pieces)
        if event.how != "sampled":
            wire["how"] = event.how
        numbers = (
            ("lp", event.logprobs, 4), ("mass", event.mass, 4), ("ent", event.entropy or (), 3),
        )  # fmt: skip
        for name, values, digits in numbers:
            if values.count(None) < len(values):
                wire[name] = [None if v is None else round(v, digits) for v in values]
        if event.allowed.count(None) < len(event.allowed):
            wire["allowed"] = event.allowed
        if self.alternatives and any(event.top):
            wire["top"] = [
                [
                    [piece, token, None if p is None else round(p, 4), *(() if allowed else (0,))]
                    for piece, token, p, allowed in items
                ]
                for items in event.top
            ]
        if event.fsm_before is not None:
            wire["fsm"] = [event.fsm_before, *event.fsm_after]
        if event.replaced:
            wire["replaced"] = event.replaced
        if event.rid in self._sequences:
            if event.replaced:
                del self._sequences[event.rid][-event.replaced :]
            self._sequences[event.rid] += event.ids

    def _step(self, event: Any, wire: Wire) -> None:
        """Requests by their number in order of arrival; those of other runs are only counted."""
        wire["n"] = event.step
        for name, rids in (("p", event.prefill), ("d", event.decode)):
            own = [self._numbers[rid] for rid in rids if rid in self._numbers]
            if own:
                wire[name] = own
            if len(own) < len(rids):
                wire["o" + name] = len(rids) - len(own)
        for name, value in (("pt", event.prefill_tokens), ("w", event.waiting)):
            if value:
                wire[name] = value
        wire["u"] = [event.used_slots, event.total_slots]
        wire["x"] = round(event.seconds, 5)
        if event.count != 1:
            wire["c"] = event.count

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
    "tokens": Encoder._tokens,
    "step": Encoder._step,
    "node_inserted": Encoder._inserted,
    "cache_snapshot": Encoder._snapshot,
}
