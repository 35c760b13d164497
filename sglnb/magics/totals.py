"""Token counts of a run, folded from its events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..events import Event, RequestArrived, RequestFinished


class Totals(NamedTuple):
    """Sums over the requests of one run that have finished."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    forced_tokens: int = 0


def rids_of(events: Iterable[Event], run: str) -> set[str]:
    """Ids of the requests of ``run``."""
    return {e.rid for e in events if isinstance(e, RequestArrived) and e.run == run}


def totals_of(events: Iterable[Event], run: str) -> Totals:
    """The totals of ``run``."""
    events = list(events)
    rids = rids_of(events, run)
    done = [e for e in events if isinstance(e, RequestFinished) and e.rid in rids]
    return Totals(
        len(done),
        sum(e.prompt_tokens for e in done),
        sum(e.cached_tokens for e in done),
        sum(e.completion_tokens for e in done),
        sum(e.forced_tokens for e in done),
    )
