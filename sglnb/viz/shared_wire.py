"""Wires that events share: a request's next tokens, and the next steps of the same requests.

Most of a log is of these two kinds, and most of what such an event says is what the last one said.
So those that only go on are told as columns, one item a token or a step. Each keeps its number and
time, and ``static/wire.js`` takes them apart again: nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Wire = dict[str, Any]

MOST = 64
"""Most tokens or steps in one wire."""
TICKS = 100_000
"""A second, as precise as times are in wire form."""
PARTS = 10_000
"""Log-probabilities, probabilities and entropies are sent as whole numbers of these parts of 1:
they are written, sent and read faster than fractions."""
PARALLEL = ("ids", "pieces", "lp", "allowed", "mass", "ent")


class Tokens:
    """Tokens of one request, one event after the other."""

    def __init__(self, event: Any):
        self.events, self._size = [event], len(event.ids)

    def add(self, event: Any) -> bool:
        """Whether ``event`` only goes on; it shares the wire then."""
        last = self.events[-1]
        if (
            self._size >= MOST
            or not event.ids
            or not last.ids
            or event.replaced
            or event.how != last.how
            or event.fsm_before != (last.fsm_after[-1] if last.fsm_after else None)
        ):
            return False
        self.events.append(event)
        self._size += len(event.ids)
        return True

    def wire(self) -> Wire:
        """All of them."""
        events, first = self.events, self.events[0]
        wire = {
            "k": "tokens", "s": first.seq, "t": round(first.t, 5), "rid": first.rid,
            "ids": [i for e in events for i in e.ids],
            "pieces": [piece for e in events for piece in e.pieces],
        }  # fmt: skip
        if first.how != "sampled":
            wire["how"] = first.how
        n = len(wire["ids"])
        for name, values in (
            ("lp", [v for e in events for v in e.logprobs]),
            ("mass", [v for e in events for v in e.mass]),
            ("ent", [v for e in events for v in e.entropy or [None] * len(e.ids)]),
        ):
            if values.count(None) < n:
                wire[name] = in_parts(values)
        allowed = [v for e in events for v in e.allowed]
        if allowed.count(None) < n:
            wire["allowed"] = allowed
        if first.fsm_before is not None:
            wire["fsm"] = [first.fsm_before, *(state for e in events for state in e.fsm_after)]
        if first.replaced:
            wire["replaced"] = first.replaced
        if len(events) > 1:
            start = round(first.t * TICKS)
            wire["sq"] = [e.seq - first.seq for e in events for _ in e.ids]
            wire["at"] = [round(e.t * TICKS) - start for e in events for _ in e.ids]
        tops = [items for e in events for items in e.top]
        if any(tops):
            wire["top"] = _alternatives(tops)
        return wire


def _alternatives(tops: list[list[list[Any]]]) -> Wire:
    """The likeliest tokens of each token as columns: how many, then pieces, ids and
    log-probabilities of all, and the places of those that were not allowed."""
    counts = [len(items) for items in tops]
    flat = [item for items in tops for item in items]
    out = {
        "n": counts[0] if counts.count(counts[0]) == len(counts) else counts,
        "p": [item[0] for item in flat],
        "i": [item[1] for item in flat],
        "lp": in_parts([item[2] for item in flat]),
    }
    if forbidden := [place for place, item in enumerate(flat) if not item[3]]:
        out["no"] = forbidden
    return out


def in_parts(values: Sequence[float | None]) -> list[int | None]:
    """``values`` as whole numbers of :data:`PARTS`; what is unknown or no finite number is None."""
    try:
        return [round(v * PARTS) for v in values]  # type: ignore[operator]
    except (TypeError, OverflowError, ValueError):
        known = (v if v is not None and math.isfinite(v) else None for v in values)
        return [None if v is None else round(v * PARTS) for v in known]


class Steps:
    """Steps of the same requests, one after the other.

    Args:
        event: the first of them.
        numbers: the requests of the run in order of arrival; those of others are only counted.
    """

    def __init__(self, event: Any, numbers: Mapping[str, int]):
        self.events, self._numbers = [event], numbers

    def add(self, event: Any) -> bool:
        """Whether ``event`` only goes on; it shares the wire then."""
        last = self.events[-1]
        if (
            event.prefill
            or last.prefill
            or event.decode != last.decode
            or event.waiting != last.waiting
            or event.step != last.step + 1
            or event.total_slots != last.total_slots
            or event.count != 1
            or last.count != 1
            or len(self.events) >= MOST
        ):
            return False
        self.events.append(event)
        return True

    def wire(self) -> Wire:
        """All of them."""
        events, first, numbers = self.events, self.events[0], self._numbers
        wire: Wire = {"k": "step", "s": first.seq, "t": round(first.t, 5), "n": first.step}
        for name, rids in (("p", first.prefill), ("d", first.decode)):
            own = [numbers[rid] for rid in rids if rid in numbers]
            if own:
                wire[name] = own
            if len(own) < len(rids):
                wire["o" + name] = len(rids) - len(own)
        for name, value in (("pt", first.prefill_tokens), ("w", first.waiting)):
            if value:
                wire[name] = value
        if first.count != 1:
            wire["c"] = first.count
        wire["u"] = [first.used_slots, first.total_slots]
        wire["x"] = round(first.seconds, 5)
        if len(events) > 1:
            start = round(first.t * TICKS)
            wire["u"][0] = [e.used_slots for e in events]
            wire["x"] = [round(e.seconds, 5) for e in events]
            wire["sq"] = [e.seq - first.seq for e in events]
            wire["at"] = [round(e.t * TICKS) - start for e in events]
        return wire


def count_events(wire: Wire) -> int:
    """How many events share ``wire``."""
    return len(set(wire["sq"])) if "sq" in wire else 1


def join_tokens(last: Wire, wire: Wire) -> bool:
    """Whether the tokens of ``wire``, which have no alternatives, could be put behind those of
    ``last``, the newest of the same request."""
    fits = (
        len(last["ids"]) + len(wire["ids"]) <= MOST
        and last.get("how") == wire.get("how")
        and all((key in last) == (key in wire) for key in PARALLEL)
        and "replaced" not in wire
        and ("fsm" in last) == ("fsm" in wire)
        and ("fsm" not in wire or last["fsm"][-1] == wire["fsm"][0])
    )
    if not fits:
        return False
    later = {"sq": wire["s"] - last["s"], "at": round((wire["t"] - last["t"]) * TICKS)}
    for key, more in later.items():
        before = last.setdefault(key, [0] * len(last["ids"]))
        before += [more + own for own in wire.get(key, [0] * len(wire["ids"]))]
    for key in PARALLEL:
        if key in wire:
            last[key] += wire[key]
    if "fsm" in wire:
        last["fsm"] += wire["fsm"][1:]
    return True


def condense_steps(wire: Wire) -> None:
    """Make the steps of ``wire`` one, which is told as so many: their seconds together, all else
    the last one's."""
    if "sq" not in wire:
        return
    wire["c"] = len(wire["sq"])
    wire["n"] += wire["c"] - 1
    wire["s"] += wire.pop("sq")[-1]
    wire["t"] = round(wire["t"] + wire.pop("at")[-1] / TICKS, 5)
    wire["x"] = round(sum(wire["x"]), 5)
    wire["u"] = [wire["u"][0][-1], wire["u"][1]]


def join_steps(last: Wire, wire: Wire) -> bool:
    """Whether the step ``wire`` could be told in one with ``last``, the step before it: the same
    requests decoded in both. (Both are condensed.)"""
    count = last.get("c", 1) + wire.get("c", 1)
    same = all(last.get(key) == wire.get(key) for key in ("p", "op", "d", "od"))
    if "p" in wire or "op" in wire or not same or count > MOST:
        return False
    last["c"] = count
    last["x"] = round(last["x"] + wire["x"], 5)
    for key in ("s", "n", "t", "w", "u"):
        if key in wire:
            last[key] = wire[key]
        else:
            last.pop(key, None)
    return True
