"""A run's tokens as a DataFrame."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sglnb.events import Event

from .plain import ordered_rows, row_label
from .reduce import fold
from .runlog import run_events
from .text import storable

if TYPE_CHECKING:
    import pandas

COLUMNS = ["state", "label", "position", "name", "token", "id", "kind", "cached", "logprob",
           "prob", "entropy", "allowed", "mass", "t", "wait", "rid"]  # fmt: skip


def token_rows(events: Iterable[Event], run: str) -> list[dict[str, Any]]:
    """One dict for each token of each state, what a fork shares with its parent only once."""
    tokens = fold(run_events(events, run))["tokens"]
    rows = []
    for _, row in ordered_rows(tokens["rows"], tokens["order"]):
        for position in range(row["shared"], row["shown"]):
            token = row["tokens"][position]
            logprob = token.get("logprob")
            rows.append({
                "state": row["state"], "label": storable(row_label(row)), "position": position,
                "name": storable(token.get("name", "")), "token": storable(token["piece"]),
                "id": token["id"], "kind": token["kind"], "cached": position < row["cached"],
                "logprob": logprob, "prob": None if logprob is None else math.exp(logprob),
                "entropy": token.get("entropy"), "allowed": token.get("allowed"),
                "mass": token.get("mass"), "t": token.get("t"), "wait": token.get("wait"),
                "rid": token.get("rid", ""),
            })  # fmt: skip
    return rows


def to_frame(events: Iterable[Event], run: str) -> pandas.DataFrame:
    """One row per token: state, label, position in the state's text, name of the variable,
    token, id, kind ("prompt", "sampled", "forced", "closing", "retokenized" or "select"), cached,
    logprob (natural, before temperature and mask), prob, entropy (nats, of the same distribution),
    allowed (tokens that the constraint left), mass (probability it left), t (seconds on the log's
    clock), wait (seconds since the token before it) and rid."""
    import pandas

    frame = pandas.DataFrame(token_rows(events, run), columns=COLUMNS)
    for column in ("logprob", "prob", "entropy", "mass", "t", "wait"):
        frame[column] = frame[column].astype("float64")
    frame["allowed"] = frame["allowed"].astype("Int64")
    return frame
