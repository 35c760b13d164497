"""What the radix tree went through since a view was last told."""

from __future__ import annotations

from sglnb.events import Event, EventLog

from .runlog import TREE_KINDS, base_snapshot

MOST = 1000
"""Events; of more, one snapshot tells the same."""


def tree_since(log: EventLog, seq: int) -> list[Event]:
    """The tree's events after number ``seq``; a snapshot where they are too many or too old."""
    events = log.since(seq + 1)
    lost = bool(events) and events[0].seq > seq + 1
    changes = [event for event in events if event.kind in TREE_KINDS]
    if lost or len(changes) > MOST:
        return [base_snapshot(log.since(0))]
    return changes
