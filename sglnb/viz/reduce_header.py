"""The header line of a run: status, counts and times, folded from events.

``static/reduce_header.js`` holds the same fold in JavaScript; change both together.
"""

from __future__ import annotations

import re
from typing import Any

from sglnb.events import Event

Header = dict[str, Any]

_STOPS = re.compile(
    r"(?:KeyboardInterrupt|RequestAborted|CancelledError|GenerationAborted)\b"
    r"|(?!\w+: ).* was stopped|aborted\Z",
    re.ASCII,
)
"""A stop: one of these errors, or a message of ours that says so. A line that begins with the
name of another error is that error, whatever it says."""


def failure(error: str) -> str:
    """An event's ``error`` if it tells of a failure; "" when somebody stopped the work."""
    return "" if _STOPS.match(error) else error


def initial_header() -> Header:
    """Nothing happened yet. Times are seconds on the log's clock; counts are tokens.

    ``counts`` holds ``[prompt, cached, completion, forced]`` per request; the totals of the
    same names are their sums. ``busy`` is the time with at least one request unfinished.
    ``waits`` is what is waited for before there can be more text: ``[what, since when]`` by
    request, "" for what all requests wait for.
    """
    return {
        "run": "", "title": "", "status": "waiting", "error": "",
        "t0": None, "t1": 0.0, "first": None, "busy": 0.0, "last": 0.0,
        "started": False, "active": 0, "requests": 0, "aborted": 0, "retracted": 0,
        "prompt": 0, "cached": 0, "completion": 0, "forced": 0, "counts": {},
        "waits": {},
    }  # fmt: skip


def waiting_for(header: Header) -> list[Any]:
    """``[what, since when]`` of what a run has waited for longest; empty when it does not, or when
    it is over."""
    waits = header["waits"].values() if header["status"] == "running" else ()
    return min(waits, key=lambda wait: wait[1], default=[])


def reduce_header(header: Header, event: Event) -> Header:
    """The header after ``event``. Reuses ``header``'s storage."""
    step = _STEPS.get(event.kind)
    if step is None:
        return header
    if header["active"] > 0:
        header["busy"] += event.t - header["last"]
    header["last"] = event.t
    if header["t0"] is None:
        header["t0"] = event.t
    header["t1"] = event.t
    step(header, event)
    return header


def _run_started(header: Header, event: Any) -> None:
    header["run"] = event.run
    header["title"] = event.title
    header["status"] = "running"
    header["started"] = True
    header["t0"] = event.t


def _run_ended(header: Header, event: Any) -> None:
    header["error"] = failure(event.error)
    if header["error"]:
        header["status"] = "failed"
    else:
        header["status"] = "stopped" if event.error else "done"


def _arrived(header: Header, event: Any) -> None:
    header["requests"] += 1
    header["active"] += 1
    header["counts"][event.rid] = [len(event.ids), 0, 0, 0]
    header["prompt"] += len(event.ids)
    if not header["started"]:
        header["status"] = "running"


def _matched(header: Header, event: Any) -> None:
    counts = header["counts"].get(event.rid)
    # A retracted request matches again; what it reuses then is its own work.
    if counts is not None and counts[1] == 0 and counts[2] == 0:
        _replace(header, event.rid, [counts[0], min(event.cached, counts[0]), 0, 0])


def _preparing(header: Header, event: Any) -> None:
    if event.seconds is None:
        header["waits"][event.rid] = [event.what, event.t]
    else:
        header["waits"].pop(event.rid, None)


def _retracted(header: Header, event: Any) -> None:
    header["retracted"] += 1


def _tokens(header: Header, event: Any) -> None:
    counts = header["counts"].get(event.rid)
    if counts is None:
        return
    n = len(event.ids) - event.replaced
    forced = len(event.ids) if event.how == "forced" else 0
    _replace(header, event.rid, [counts[0], counts[1], counts[2] + n, counts[3] + forced])
    if header["first"] is None:
        header["first"] = event.t


def _finished(header: Header, event: Any) -> None:
    header["waits"].pop(event.rid, None)
    if event.rid not in header["counts"]:
        return
    header["active"] -= 1
    if event.reason == "abort":
        header["aborted"] += 1
    else:
        final = [event.prompt_tokens, event.cached_tokens,
                 event.completion_tokens, event.forced_tokens]  # fmt: skip
        _replace(header, event.rid, final)
    if not header["started"] and header["active"] == 0:
        header["status"] = "stopped" if header["aborted"] > 0 else "done"


def _replace(header: Header, rid: str, new: list[int]) -> None:
    old = header["counts"][rid]
    for i, name in enumerate(("prompt", "cached", "completion", "forced")):
        header[name] += new[i] - old[i]
    header["counts"][rid] = new


_STEPS = {
    "run_started": _run_started,
    "run_ended": _run_ended,
    "request_arrived": _arrived,
    "request_matched": _matched,
    "preparing": _preparing,
    "request_retracted": _retracted,
    "tokens": _tokens,
    "request_finished": _finished,
}
