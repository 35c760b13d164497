"""The timeline of a run's program states: one row a state, one bar a request.

``static/reduce_branches.js`` holds the same fold in JavaScript; change both together.
"""

from __future__ import annotations

from typing import Any

from sglnb.events import Event

from .reduce_header import failure

Branches = dict[str, Any]


def initial_branches() -> Branches:
    """No rows. ``rows`` by state id, ``order`` in order of appearance, ``bars`` by request id.

    A bar's times (seconds on the log's clock, None until they happen): ``arrived``,
    ``scheduled`` (admitted: prefill begins), ``first`` (first output token), ``end``. ``gaps``
    are the ``[from, to]`` during which it was retracted.
    """
    return {"rows": {}, "order": [], "bars": {}, "t0": None, "t1": 0.0}


def reduce_branches(view: Branches, event: Event) -> Branches:
    """The timeline after ``event``. Reuses ``view``'s storage."""
    step = _STEPS.get(event.kind)
    if step is not None:
        if view["t0"] is None:
            view["t0"] = event.t
        view["t1"] = event.t
        step(view, event)
    return view


def _row(view: Branches, key: str, t: float) -> dict[str, Any]:
    row = view["rows"].get(key)
    if row is None:
        row = {
            "state": key, "label": "", "parent": None, "index": 0, "t0": t, "t1": None,
            "bars": [], "forks": [], "joins": [], "joined": None, "error": "",
        }  # fmt: skip
        view["rows"][key] = row
        view["order"].append(key)
    return row


def _none(view: Branches, event: Any) -> None:
    """Only moves the clock."""


def _state_started(view: Branches, event: Any) -> None:
    row = _row(view, event.state, event.t)
    row["label"] = event.label
    row["parent"] = event.parent
    row["index"] = event.index


def _state_forked(view: Branches, event: Any) -> None:
    _row(view, event.parent, event.t)["forks"].append([event.t, event.children])


def _state_joined(view: Branches, event: Any) -> None:
    _row(view, event.parent, event.t)["joins"].append([event.t, event.children])
    for child in event.children:
        _row(view, child, event.t)["joined"] = event.t


def _state_ended(view: Branches, event: Any) -> None:
    row = _row(view, event.state, event.t)
    row["t1"] = event.t
    row["error"] = failure(event.error)


def _arrived(view: Branches, event: Any) -> None:
    key = event.state or event.rid
    _row(view, key, event.t)["bars"].append(event.rid)
    view["bars"][event.rid] = {
        "rid": event.rid, "row": key, "name": event.name, "purpose": event.purpose,
        "prompt": len(event.ids), "cached": 0, "tokens": 0, "forced": 0,
        "arrived": event.t, "scheduled": None, "first": None, "end": None,
        "gaps": [], "reason": "", "error": "",
    }  # fmt: skip


def _matched(view: Branches, event: Any) -> None:
    bar = view["bars"].get(event.rid)
    if bar is not None and bar["scheduled"] is None:
        bar["cached"] = min(event.cached, bar["prompt"])  # forced tokens may be there too
    _scheduled(view, event)


def _scheduled(view: Branches, event: Any) -> None:
    """Admission begins the prefill; the chunks themselves are told of when they are done."""
    bar = view["bars"].get(event.rid)
    if bar is None or bar["end"] is not None:
        return
    if bar["scheduled"] is None:
        bar["scheduled"] = event.t
    if bar["gaps"] and bar["gaps"][-1][1] is None:
        bar["gaps"][-1][1] = event.t


def _retracted(view: Branches, event: Any) -> None:
    bar = view["bars"].get(event.rid)
    if bar is not None:
        bar["gaps"].append([event.t, None])


def _tokens(view: Branches, event: Any) -> None:
    bar = view["bars"].get(event.rid)
    if bar is None:
        return
    if bar["first"] is None:
        bar["first"] = event.t
    bar["tokens"] += len(event.ids) - event.replaced
    if event.how == "forced":
        bar["forced"] += len(event.ids)


def _finished(view: Branches, event: Any) -> None:
    bar = view["bars"].get(event.rid)
    if bar is None:
        return
    bar["end"] = event.t
    bar["reason"] = event.reason
    bar["error"] = event.error
    if bar["gaps"] and bar["gaps"][-1][1] is None:
        bar["gaps"][-1][1] = event.t


_STEPS = {
    "run_started": _none,
    "run_ended": _none,
    "variable_set": _none,
    "state_started": _state_started,
    "state_forked": _state_forked,
    "state_joined": _state_joined,
    "state_ended": _state_ended,
    "request_arrived": _arrived,
    "request_matched": _matched,
    "request_scheduled": _scheduled,
    "request_retracted": _retracted,
    "tokens": _tokens,
    "request_finished": _finished,
}
