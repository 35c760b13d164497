"""What a run's view keeps in its saved state: the run's log as JSON of bounded size.

As the log outgrows the budget the copy becomes leaner: first the alternatives of each token go,
then tokens generated one after the other share an event, as the engine's steps do, and at last what
does not fit is counted instead of kept. The header's numbers are always there and always right.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

from sglnb.events import Event

from .reduce_header import initial_header, reduce_header
from .runlog import TREE_KINDS
from .wire import Encoder, Wire

FULL, NO_ALTERNATIVES, MERGED, CUT = range(4)
MERGE = 16
"""Most tokens that share one event in the merged form."""
DROPPABLE = TREE_KINDS | {"tokens", "step"}
_PARALLEL = ("ids", "pieces", "lp", "allowed", "mass", "ent")
LINE = 250
"""Events in a line of the copy."""
TICKS = 100_000
"""A second, as precise as times are in wire form."""


def to_json(value: Any) -> str:
    """Compact JSON in plain ASCII: lone surrogates and line separators cannot break it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


class SavedLog:
    """A run's log, kept small. Give it every event of the run, read :meth:`text`."""

    def __init__(self, budget: int = 140_000):
        self.budget = budget
        self.level = FULL
        self.omitted = 0
        self.header = initial_header()
        self.last = -2
        self._events: list[Event] = []
        self._start(FULL)

    def _start(self, level: int) -> None:
        self.level = level
        self.omitted = 0
        self.size = 0
        self._encode = Encoder(alternatives=level == FULL)
        self._wires: list[Wire] = []
        self._open: dict[str, Wire] = {}
        self._last_step: Wire = {}

    def add(self, events: Iterable[Event], encoded: Iterable[tuple[Wire, str] | None] = ()) -> None:
        """Keep ``events`` too. ``encoded`` are what a full :class:`Encoder` made of them and its
        JSON, where someone has them already: they are used while the copy is full."""
        for event, known in itertools.zip_longest(events, encoded):
            reduce_header(self.header, event)
            self.last = event.seq
            if self.level < CUT:
                self._events.append(event)
            self._put(event, known if self.level == FULL else None)
            while self.size > self.budget and self.level < CUT:
                self._start(self.level + 1)
                for earlier in self._events:
                    self._put(earlier)
        if self.level == CUT:
            self._events.clear()  # it gets no leaner: no second pass will need them

    def _put(self, event: Event, known: tuple[Wire, str] | None = None) -> None:
        if self.level == CUT and self.size > self.budget and event.kind in DROPPABLE:
            self.omitted += 1
            return
        wire = self._encode(event) if known is None else known[0]
        size = len(to_json(wire) if known is None else known[1]) + 1
        if self.level == CUT and self.size + size > self.budget:
            if event.kind in DROPPABLE or self.size > 1.15 * self.budget:
                self.omitted += 1
                return
            if event.kind == "request_arrived":
                wire["cut"] = len(wire.pop("pieces"))
                wire["ids"] = []
                size = len(to_json(wire)) + 1
        if self.level >= MERGED:
            if event.kind == "tokens" and self._merge(wire):
                self.size += size - 54
                return
            if event.kind == "step" and self._merge_step(wire):
                return
            if event.kind not in DROPPABLE:
                self._last_step = {}
        self.size += size
        self._wires.append(wire)

    def _merge(self, wire: Wire) -> bool:
        """Whether ``wire`` could be added to the newest event of the same request."""
        last = self._open.get(wire["rid"])
        fits = (
            last is not None
            and len(last["ids"]) < MERGE
            and last.get("how") == wire.get("how")
            and all((key in last) == (key in wire) for key in _PARALLEL)
            and "replaced" not in wire
            and ("fsm" in last) == ("fsm" in wire)
            and ("fsm" not in wire or last["fsm"][-1] == wire["fsm"][0])
        )
        if not fits:
            # Copies, because the lists belong to the event.
            wire.update({key: list(wire[key]) for key in _PARALLEL if key in wire})
            self._open[wire["rid"]] = wire
            return False
        # How much later each token came than the first.
        late = last.setdefault("at", [0] * len(last["ids"]))
        late += [round((wire["t"] - last["t"]) * TICKS)] * len(wire["ids"])
        for key in _PARALLEL:
            if key in wire:
                last[key] += wire[key]
        if "fsm" in wire:
            last["fsm"] += wire["fsm"][1:]
        return True

    def _merge_step(self, wire: Wire) -> bool:
        """Whether ``wire`` could be added to the step before it: the same requests decoded in
        both, and nothing came or went between."""
        last = self._last_step
        fits = (
            "p" not in wire
            and "op" not in wire
            and all(last.get(key) == wire.get(key) for key in ("p", "op", "d", "od"))
            and last.get("c", 1) < MERGE
        )
        if not last or not fits:
            self._last_step = wire
            return False
        last["c"] = last.get("c", 1) + 1
        last["x"] = round(last["x"] + wire["x"], 5)
        for key in ("n", "t", "w", "u"):
            if key in wire:
                last[key] = wire[key]
            else:
                last.pop(key, None)
        return True

    def text(self) -> str:
        """The copy as JSON: ``last`` (the newest event's number, kept or not), ``header``,
        ``level``, ``omitted`` and ``events`` in wire form.

        The first line holds all but the events, the last one nothing; those between hold some
        events each, so that a page can read a long log a line at a time.
        """
        header = {key: value for key, value in self.header.items() if key != "counts"}
        head = to_json({"last": self.last, "header": header, "level": self.level,
                        "omitted": self.omitted, "events": []})  # fmt: skip
        wires = self._wires
        lines = [to_json(wires[i : i + LINE])[1:-1] for i in range(0, len(wires), LINE)]
        return f"{head[:-2]}\n" + ",\n".join(lines) + "\n]}"
