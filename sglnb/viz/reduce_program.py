"""The program of a run as its source has it, filled in while it runs.

The plan comes first (:class:`sglnb.events.ProgramRead`); then each gen, select and fork that a
state comes to fills its node. A constant's place in the cache is seen in the first prompt that
holds it: the constants at a prompt's beginning and those right before its end are found there by
their text. One between two texts that the source does not know is told of only where all up to it
was cached. ``static/reduce_program.js`` holds the same fold in JavaScript; change both together.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any

from sglnb.events import Event

from .reduce_header import failure

Program = dict[str, Any]
START = -1
_SPACE = " \n\t\r"


def initial_program() -> Program:
    """No plan. ``nodes`` as the plan has them, with ``fills`` (indices into the list of them),
    ``cached`` (``[cached, tokens]`` of a constant, None: not seen), ``forks`` (lists of states) and
    ``joins``. ``now`` is the fill that each state is at, ``rids`` the requests that are looked at,
    ``forked`` the last fork of each state, ``branch`` the fork that a state came from.

    A fill's ``status`` is "waiting", "running", "done", "stopped" or "failed"; ``pieces`` are of
    its text, ``text`` is the value where it is no generation's.
    """
    return {
        "nodes": [], "more": 0, "fills": [], "now": {}, "rids": {}, "forking": {}, "forked": {},
        "branch": {}, "over": False,
    }  # fmt: skip


def reduce_program(view: Program, event: Event) -> Program:
    """The program after ``event``. Reuses ``view``'s storage."""
    step = _STEPS.get(event.kind)
    if step is not None and (view["nodes"] or step is _read):
        step(view, event)
    return view


def _node(view: Program, fields: dict[str, Any]) -> dict[str, Any]:
    node = {
        "name": None, "code": "", "text": "", "tail": "", "hidden": 0, "role": None, "prev": None,
        "of": None, "size": None, "uses": [], "unread": False, "line": None, "unseen": False,
        "opens": False, **fields, "fills": [], "cached": None, "forks": [], "joins": 0,
    }  # fmt: skip
    view["nodes"].append(node)
    return node


def _read(view: Program, event: Any) -> None:
    if view["nodes"]:
        return
    view["more"] = event.graph["more"]
    for fields in event.graph["nodes"]:
        _node(view, fields)


def _reached(view: Program, event: Any) -> None:
    node = _found(view, event)
    if event.what == "fork":
        view["forking"][event.state] = view["forked"][event.state] = node["id"]
        return
    if event.state in view["now"]:
        _close(view["fills"][view["now"][event.state]], "")  # a state does one after the other
    node["fills"].append(len(view["fills"]))
    view["now"][event.state] = len(view["fills"])
    view["fills"].append({
        "node": node["id"], "state": event.state, "name": event.name, "status": "waiting",
        "pieces": [], "text": None, "rid": "", "prompt": 0, "cached": None, "open": 0, "error": "",
    })  # fmt: skip


def _found(view: Program, event: Any) -> dict[str, Any]:
    """The event's node; where the source did not say so, one for all that are alike."""
    nodes = view["nodes"]
    if event.node is not None and event.node < len(nodes):
        return nodes[event.node]
    for node in nodes:
        if node["unseen"] and (node["kind"], node["name"]) == (event.what, event.name):
            return node
    return _node(view, {"id": len(nodes), "kind": event.what, "depth": 0, "name": event.name,
                        "unseen": True})  # fmt: skip


# -- requests ------------------------------------------------------------------------------


def _arrived(view: Program, event: Any) -> None:
    if event.purpose == "prefill" and event.state in view["forked"]:
        # What the branches share is computed before they ask for it.
        spans = _spans(view["nodes"], view["forked"][event.state], event.pieces)
        view["rids"][event.rid] = {"fill": None, "purpose": "prefill", "spans": spans}
    at = view["now"].get(event.state)
    if at is None or event.purpose not in ("gen", "select"):
        return
    fill = view["fills"][at]
    first = fill["rid"] == ""
    if first:
        fill["rid"] = event.rid
        fill["prompt"] = len(event.ids)
    fill["open"] += 1
    if fill["status"] == "done":
        fill["status"] = "running"
    spans = _spans(view["nodes"], fill["node"], event.pieces) if first else []
    view["rids"][event.rid] = {"fill": at, "purpose": event.purpose, "spans": spans}


def _spans(nodes: list[dict[str, Any]], node: int, pieces: list[str]) -> list[list[Any]]:
    """``[node, first token, end, exact]`` of the constants before ``node`` in a prompt that were
    not seen yet."""
    chain, at = [], nodes[node]["prev"]
    while at is not None and at != START and at < len(nodes):
        chain.append(nodes[at])
        at = nodes[at]["prev"]
    if not any(each["kind"] == "text" and each["cached"] is None for each in chain):
        return []
    text, ends = "".join(pieces), list(accumulate(map(len, pieces)))
    found: dict[int, list[Any]] = {}
    pos, exact = len(text), True
    for each in chain:
        if each["kind"] != "text":
            exact = exact and each["kind"] == "fork"
            continue
        if each["text"].strip(_SPACE) == "":
            continue
        i = text.rfind(each["text"], 0, pos) if not each["hidden"] else -1
        if i < 0:
            break
        found[each["id"]] = [i, i + len(each["text"]), exact]
        pos = i
    pos = 0
    for each in reversed(chain) if at == START else ():
        if each["kind"] != "text" or each["hidden"]:
            break
        i = text.find(each["text"], pos)
        if i < 0:
            break
        pos = i + len(each["text"])
        if each["text"].strip(_SPACE) != "":
            found[each["id"]] = [i, pos, True]
    return [
        [key, bisect_right(ends, i), bisect_right(ends, j - 1) + 1, exact]
        for key, (i, j, exact) in sorted(found.items())
        if nodes[key]["cached"] is None
    ]


def _matched(view: Program, event: Any) -> None:
    request = view["rids"].get(event.rid)
    if request is None:
        return
    fill = None if request["fill"] is None else view["fills"][request["fill"]]
    if fill is not None and fill["rid"] == event.rid and fill["cached"] is None:
        fill["cached"] = min(event.cached, fill["prompt"])
    for key, start, end, exact in request["spans"]:
        node = view["nodes"][key]
        if node["cached"] is None and (exact or event.cached >= end):
            node["cached"] = [max(0, min(event.cached, end) - start), end - start]
    request["spans"] = []


def _tokens(view: Program, event: Any) -> None:
    request = view["rids"].get(event.rid)
    if request is None or request["fill"] is None:
        return
    fill = view["fills"][request["fill"]]
    if fill["status"] == "waiting":
        fill["status"] = "running"
    if request["purpose"] != "gen" or fill["rid"] != event.rid:
        return
    if event.replaced:
        del fill["pieces"][-event.replaced :]
    fill["pieces"] += event.pieces


def _finished(view: Program, event: Any) -> None:
    request = view["rids"].pop(event.rid, None)
    if request is None or request["fill"] is None:
        return
    fill = view["fills"][request["fill"]]
    fill["open"] -= 1
    if failure(event.error):
        fill["status"], fill["error"] = "failed", event.error
    elif fill["status"] != "failed" and event.reason == "abort":
        fill["status"] = "stopped"
    elif fill["status"] in ("waiting", "running"):
        fill["status"] = "running" if fill["open"] else "done"


def _variable_set(view: Program, event: Any) -> None:
    at = view["now"].get(event.state)
    if at is None or view["fills"][at]["name"] != event.name:
        return
    fill = view["fills"][at]
    # A value that is no text of the model's is not shown in its place, but the end of a text, which
    # the model writes too, is left out.
    if event.choices is not None or "".join(fill["pieces"]).startswith(event.text):
        fill["text"] = event.text
    if fill["status"] in ("waiting", "running"):
        fill["status"] = "done"


# -- states --------------------------------------------------------------------------------


def _state_forked(view: Program, event: Any) -> None:
    key = view["forking"].pop(event.parent, None)
    if key is None:
        return
    view["nodes"][key]["forks"].append(event.children)
    for child in event.children:
        view["branch"][child] = key


def _state_joined(view: Program, event: Any) -> None:
    fork = view["branch"].get(event.children[0]) if event.children else None
    for node in view["nodes"]:
        if node["kind"] == "join" and node["of"] == fork and fork is not None:
            node["joins"] += 1


def _close(fill: dict[str, Any], error: str) -> None:
    if fill["status"] not in ("waiting", "running"):
        return
    if failure(error):
        fill["status"], fill["error"] = "failed", error
    else:
        fill["status"] = "stopped" if error else "done"


def _state_ended(view: Program, event: Any) -> None:
    at = view["now"].pop(event.state, None)
    if at is not None:
        _close(view["fills"][at], event.error)


def _run_ended(view: Program, event: Any) -> None:
    view["over"] = True
    for at in view["now"].values():
        _close(view["fills"][at], event.error)


_STEPS = {
    "program_read": _read,
    "program_reached": _reached,
    "request_arrived": _arrived,
    "request_matched": _matched,
    "tokens": _tokens,
    "request_finished": _finished,
    "variable_set": _variable_set,
    "state_forked": _state_forked,
    "state_joined": _state_joined,
    "state_ended": _state_ended,
    "run_ended": _run_ended,
}
