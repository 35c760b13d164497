"""The engine's steps as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sglnb.events import Event

if TYPE_CHECKING:
    import pandas

COLUMNS = ["step", "t", "seconds", "prefill", "decode", "prefill_tokens", "waiting", "used_slots",
           "total_slots"]  # fmt: skip


def steps_frame(events: Iterable[Event]) -> pandas.DataFrame:
    """One row per step (forward pass): its number, t (its end, seconds on the log's clock),
    seconds, prefill and decode (requests that took part), prefill_tokens, waiting (requests),
    and the pool's used_slots of total_slots after it."""
    import pandas

    rows = []
    for event in events:
        if event.kind == "step":
            row = {name: getattr(event, name) for name in COLUMNS}
            rows.append({**row, "prefill": len(event.prefill), "decode": len(event.decode)})
    return pandas.DataFrame(rows, columns=COLUMNS)
