"""What a run's view keeps in its saved state: the run's log as JSON of bounded size.

As the log outgrows the budget the copy becomes leaner: first the alternatives of each token go,
then more tokens share a wire and steps like the one before are told in one with it, and at last
what does not fit is counted instead of kept. The header's numbers are always there and always
right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sglnb.events import Event

from .reduce_header import initial_header, reduce_header
from .runlog import TREE_KINDS
from .shared_wire import Wire, condense_steps, count_events, join_steps, join_tokens
from .wire import Encoder

FULL, NO_ALTERNATIVES, MERGED, CUT = range(4)
DROPPABLE = TREE_KINDS | {"tokens", "step"}
LINE = 100
"""Wires in a line of the copy."""
SAVED = 50
"""About as many characters are saved when tokens are told in a wire that is there."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


def to_json(value: Any) -> str:
    """Compact JSON in plain ASCII: lone surrogates and line separators cannot break it."""
    return _encode(value)


class Entry:
    """A wire and its JSON, with the alternatives apart: they are most of the bytes, and the first
    that a copy does without. It takes the wire over."""

    __slots__ = ("_text", "_top", "wire")

    def __init__(self, wire: Wire):
        top = wire.pop("top", None)
        self.wire = wire
        self._text: str | None = to_json(wire)
        self._top = "" if top is None else f',"top":{to_json(top)}}}'

    @property
    def text(self) -> str:
        """All of it as JSON."""
        if self._text is None:
            self._text = to_json(self.wire)
        return self._text[:-1] + self._top if self._top else self._text

    def __len__(self) -> int:
        """Characters of :attr:`text`, and one for what stands between it and the next."""
        return len(self._text or to_json(self.wire)) + len(self._top) + (not self._top)

    def changed(self) -> None:
        """Its wire is another."""
        self._text = None

    def drop_alternatives(self) -> None:
        """Do without them."""
        self._top = ""


class SavedLog:
    """A run's log, kept small. Give it every event of the run, read :meth:`text`."""

    def __init__(self, budget: int = 140_000):
        self.budget = budget
        self.level = FULL
        self.omitted = 0
        self.header = initial_header()
        self.last = -2
        self.size = 0
        self._encoder = Encoder()
        self._entries: list[Entry] = []
        self._open: dict[str, Entry] = {}
        self._last_step: Entry | None = None

    def add(self, events: Sequence[Event], entries: Iterable[Entry] | None = None) -> None:
        """Keep ``events`` too. ``entries`` are what an :class:`Encoder` made of them, where
        someone has it already; the copy takes them over."""
        for event in events:
            reduce_header(self.header, event)
            self.last = event.seq
        if entries is None:
            entries = map(Entry, self._encoder.together(events))
        for entry in entries:
            self._put(entry)
            while self.size > self.budget and self.level < CUT:
                self._grow_leaner()

    def _grow_leaner(self) -> None:
        self.level += 1
        entries, self._entries, self.size = self._entries, [], 0
        self._open.clear()
        self._last_step = None
        for entry in entries:
            self._put(entry)

    def _put(self, entry: Entry) -> None:
        if self.level > FULL:
            entry.drop_alternatives()
        if self.level >= MERGED and entry.wire["k"] == "step" and "sq" in entry.wire:
            condense_steps(entry.wire)
            entry.changed()
        if self.level == CUT and not self._has_room(entry):
            self.omitted += count_events(entry.wire)
        elif self.level < MERGED or not self._merge(entry):
            self.size += len(entry)
            self._entries.append(entry)

    def _has_room(self, entry: Entry) -> bool:
        """Whether ``entry`` is kept where not all can be; a long prompt may be made shorter."""
        if self.size + len(entry) <= self.budget:
            return True
        wire = entry.wire
        if wire["k"] in DROPPABLE or self.size > 1.15 * self.budget:
            return False
        if wire["k"] == "request_arrived" and "cut" not in wire:
            wire["cut"] = wire.pop("same", ["", 0])[1] + len(wire.pop("pieces"))
            wire["ids"] = []
            entry.changed()
        return True

    def _merge(self, entry: Entry) -> bool:
        """Whether ``entry`` could be added to one that is there."""
        wire, kind = entry.wire, entry.wire["k"]
        if kind == "tokens":
            last = self._open.get(wire["rid"])
            if last is not None and join_tokens(last.wire, wire):
                last.changed()
                self.size += len(entry) - SAVED
                return True
            self._open[wire["rid"]] = entry
        elif kind == "step":
            last = self._last_step
            if last is not None and join_steps(last.wire, wire):
                last.changed()
                return True
            self._last_step = entry
        elif kind not in DROPPABLE:
            self._last_step = None
        return False

    def text(self) -> str:
        """The copy as JSON: ``last`` (the newest event's number, kept or not), ``header``,
        ``level``, ``omitted`` and ``events`` in wire form.

        The first line holds all but the events, the last one nothing; those between hold some
        events each, so that a page can read a long log a line at a time.
        """
        header = {key: value for key, value in self.header.items() if key != "counts"}
        head = to_json({"last": self.last, "header": header, "level": self.level,
                        "omitted": self.omitted, "events": []})  # fmt: skip
        texts = [entry.text for entry in self._entries]
        lines = [",".join(texts[i : i + LINE]) for i in range(0, len(texts), LINE)]
        return f"{head[:-2]}\n" + ",\n".join(lines) + "\n]}"
