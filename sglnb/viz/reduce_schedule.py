"""The engine's steps: who was in each, how much was computed, how full the pool was.

Only requests that arrived in the log are known by name; all others are "others". What a request
computes in a decode is what it got since its last step: one token, more after a jump.
``static/reduce_schedule.js`` holds the same fold in JavaScript; change both together.
"""

from __future__ import annotations

from typing import Any

from sglnb.events import Event

Schedule = dict[str, Any]


def initial_schedule() -> Schedule:
    """No steps. ``requests`` by id (``at`` is the place in ``order``, that of arrival), ``steps``
    in order, ``queue`` the requests known that wait now; ``since`` is what happened after the last
    step: tokens made, requests admitted with what they found cached, sent back, prefilled.

    A step's ``parts`` are ``[rid, tokens read, tokens written, cached]``: prompt positions
    computed, output positions computed, positions found in the cache at admission just before.
    ``others`` are ``[prefilling, their tokens, decoding]``. ``prompt`` and ``hits`` are the prompt
    tokens so far and those of them found in the cache.
    """
    return {
        "requests": {}, "order": [], "steps": [], "queue": 0, "prompt": 0, "hits": 0,
        "since": _nothing(),
    }  # fmt: skip


def _nothing() -> dict[str, Any]:
    return {"made": 0, "forced": 0, "cached": {}, "read": {}, "retracted": []}


def reduce_schedule(view: Schedule, event: Event) -> Schedule:
    """The schedule after ``event``. Reuses ``view``'s storage."""
    step = _STEPS.get(event.kind)
    if step is not None:
        step(view, event)
    return view


def _arrived(view: Schedule, event: Any) -> None:
    if event.rid in view["requests"]:
        return
    view["requests"][event.rid] = {
        "rid": event.rid, "at": len(view["order"]), "row": event.state or event.rid,
        "name": event.name, "purpose": event.purpose, "prompt": len(event.ids), "cached": None,
        "out": 0, "owed": 0, "fresh": 0, "waits": True,
    }  # fmt: skip
    view["order"].append(event.rid)
    view["queue"] += 1


def _set_waits(view: Schedule, request: dict[str, Any], waits: bool) -> None:
    if request["waits"] != waits:
        request["waits"] = waits
        view["queue"] += 1 if waits else -1


def _matched(view: Schedule, event: Any) -> None:
    request = view["requests"].get(event.rid)
    if request is None:
        return
    _set_waits(view, request, False)
    view["since"]["cached"][event.rid] = event.cached
    if request["cached"] is None:
        request["cached"] = min(event.cached, request["prompt"])
        view["prompt"] += request["prompt"]
        view["hits"] += request["cached"]
    request["owed"] = max(0, request["prompt"] + request["out"] - event.cached)
    request["fresh"] = 0


def _scheduled(view: Schedule, event: Any) -> None:
    read = view["since"]["read"]
    read[event.rid] = read.get(event.rid, 0) + event.end - event.start


def _tokens(view: Schedule, event: Any) -> None:
    request = view["requests"].get(event.rid)
    if request is None:
        return
    n = len(event.ids)
    request["out"] += n - event.replaced
    request["fresh"] += n
    view["since"]["made"] += n - event.replaced
    if event.how == "forced":
        view["since"]["forced"] += n


def _retracted(view: Schedule, event: Any) -> None:
    request = view["requests"].get(event.rid)
    if request is not None:
        _set_waits(view, request, True)
        view["since"]["retracted"].append(event.rid)


def _finished(view: Schedule, event: Any) -> None:
    request = view["requests"].get(event.rid)
    if request is not None:
        _set_waits(view, request, False)


def _step(view: Schedule, event: Any) -> None:
    since, requests = view["since"], view["requests"]
    parts, prefilling, decoding, read_by_own = [], 0, 0, 0
    for rids, reads in ((event.prefill, True), (event.decode, False)):
        for rid in rids:
            request = requests.get(rid)
            if request is None:
                prefilling += reads
                decoding += not reads
                continue
            read = since["read"].get(rid, 0) if reads else 0
            wrote = 0 if reads else max(event.count, request["owed"])
            read_by_own += read
            parts.append([rid, read, wrote, since["cached"].get(rid, 0)])
            request["owed"], request["fresh"] = request["fresh"], 0
    view["steps"].append({
        "step": event.step, "t": event.t, "seconds": event.seconds, "count": event.count,
        "parts": parts,
        "others": [prefilling, max(0, event.prefill_tokens - read_by_own), decoding],
        "waiting": event.waiting, "queue": view["queue"],
        "used": event.used_slots, "total": event.total_slots,
        "made": since["made"], "forced": since["forced"], "retracted": since["retracted"],
        "prompt": view["prompt"], "hits": view["hits"],
    })  # fmt: skip
    view["since"] = _nothing()


_STEPS = {
    "request_arrived": _arrived,
    "request_matched": _matched,
    "request_scheduled": _scheduled,
    "tokens": _tokens,
    "request_retracted": _retracted,
    "request_finished": _finished,
    "step": _step,
}
