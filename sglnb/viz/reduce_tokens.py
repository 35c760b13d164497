"""The text of every program state as tokens that know where they came from.

A state's row is its newest request's prompt followed by that request's output. When a later
request of the state arrives, its prompt repeats the earlier text: tokens in the common prefix
of ids keep their kind (sampled, forced, select); the rest is new prompt. A fork's child starts
from its parent's tokens in the same way, or from its first sibling's where the parent's text has
not been seen; ``shared`` says how many of its tokens it has from there.

Token records are never changed once made, only appended or replaced from some place to the end,
so that a view can tell by identity what is new. Records that were replaced hang on as ``ghosts``
of the first one that came in their place; ``back`` counts them. ``static/reduce_tokens.js`` holds
the same fold; change both together.
"""

from __future__ import annotations

from typing import Any

from sglnb.events import Event

from .reduce_header import failure

Tokens = dict[str, Any]
Row = dict[str, Any]

UNSEEN = 8
"""So many tokens shared by siblings must be their parent's text."""


def initial_tokens() -> Tokens:
    """No rows. ``rows`` by state id (or by request id where there is no state), ``order`` in
    order of appearance, ``requests`` by request id."""
    return {"rows": {}, "order": [], "requests": {}}


def reduce_tokens(view: Tokens, event: Event) -> Tokens:
    """The token view after ``event``. Reuses ``view``'s storage."""
    step = _STEPS.get(event.kind)
    if step is not None:
        step(view, event)
    return view


def _row(view: Tokens, key: str) -> Row:
    row = view["rows"].get(key)
    if row is None:
        row = {
            "state": key, "label": "", "parent": None, "index": 0,
            "tokens": [], "shared": 0, "shown": 0, "cached": 0, "aligned": False,
            "forked": False, "rid": "", "name": "", "status": "", "error": "", "ended": False,
            "picks": [], "variables": [], "scoring": {}, "back": 0,
        }  # fmt: skip
        view["rows"][key] = row
        view["order"].append(key)
    return row


# -- states --------------------------------------------------------------------------------


def _state_started(view: Tokens, event: Any) -> None:
    row = _row(view, event.state)
    row["label"] = event.label
    row["parent"] = event.parent
    row["index"] = event.index


def _state_forked(view: Tokens, event: Any) -> None:
    row = _row(view, event.parent)
    row["forked"] = True
    row["shown"] = len(row["tokens"])  # what the children share is worth seeing


def _state_ended(view: Tokens, event: Any) -> None:
    row = _row(view, event.state)
    row["ended"] = True
    row["error"] = failure(event.error)


def _variable_set(view: Tokens, event: Any) -> None:
    row = _row(view, event.state)
    if event.choices is None:
        row["variables"].append([event.name, event.text])
        return
    group = row["scoring"].pop(event.name, None)
    pick = len(row["picks"])
    row["picks"].append({"name": event.name, "text": event.text, "choices": event.choices})
    found = None if group is None else _winner(group, event)
    if found is None:
        return
    ids, pieces, start = found
    _align(view, row, ids[:start], pieces[:start])
    row["tokens"] += [
        {"id": ids[i], "piece": pieces[i], "kind": "select", "name": event.name, "pick": pick}
        for i in range(start, len(ids))
    ]
    row["shown"] = len(row["tokens"])


def _winner(group: dict[str, Any], event: Any) -> tuple[list[int], list[str], int] | None:
    """The winning choice's request and where the choice starts in its prompt."""
    order = list(range(len(group["ids"])))
    names = [choice[0] for choice in event.choices]
    if len(names) == len(order) and event.text in names:
        order.insert(0, names.index(event.text))  # requests usually come in choice order
    for i in order:
        pieces, end = group["pieces"][i], ""
        start = len(pieces)
        while start > 0 and len(end) < len(event.text):
            start -= 1
            end = pieces[start] + end
        if end.endswith(event.text):
            return group["ids"][i], pieces, start
    return None


# -- requests ------------------------------------------------------------------------------


def _arrived(view: Tokens, event: Any) -> None:
    key = event.state or event.rid
    row = _row(view, key)
    view["requests"][event.rid] = {
        "row": key, "name": event.name, "purpose": event.purpose,
        "prompt": len(event.ids), "done": False, "last": event.t,
    }  # fmt: skip
    if event.purpose == "select":
        _score(view, row, event)
    elif event.purpose == "prefill":
        _warm(view, row, event)
    else:
        _align(view, row, event.ids, event.pieces)
        row["rid"] = event.rid
        row["name"] = event.name
        row["status"] = ""
        row["shown"] = len(row["tokens"])


def _score(view: Tokens, row: Row, event: Any) -> None:
    """One choice: what all the choices' prompts have in common is the text before them."""
    group = row["scoring"].get(event.name)
    if group is None:
        row["scoring"][event.name] = {
            "ids": [event.ids], "pieces": [event.pieces], "same": len(event.ids), "cached": None,
        }  # fmt: skip
        return
    group["same"] = _common(group["ids"][0], event.ids, group["same"])
    group["ids"].append(event.ids)
    group["pieces"].append(event.pieces)
    _align(view, row, event.ids[: group["same"]], event.pieces[: group["same"]])
    row["shown"] = len(row["tokens"])


def _warm(view: Tokens, row: Row, event: Any) -> None:
    """A prefill hint repeats the state's text and may run ahead of it, out of sight."""
    _, same = _known(view, row, event.ids)
    if same < row["shown"] or same == len(event.ids):
        return
    _align(view, row, event.ids, event.pieces)
    if row["forked"]:
        row["shown"] = len(row["tokens"])


def _align(view: Tokens, row: Row, ids: list[int], pieces: list[str]) -> None:
    have, same = _known(view, row, ids)
    if row["aligned"]:
        row["shared"] = min(row["shared"], same)
    else:
        row["shared"] = same
        row["aligned"] = True
    row["tokens"] = have[:same] + [
        {"id": ids[i], "piece": pieces[i], "kind": "prompt"} for i in range(same, len(ids))
    ]
    row["shown"] = min(row["shown"], len(row["tokens"]))


def _known(view: Tokens, row: Row, ids: list[int]) -> tuple[list[dict[str, Any]], int]:
    """The tokens that ``ids`` continue and how many of them agree: the row's own, or at first
    its parent's, or its first sibling's where no request showed the parent's text yet."""
    if row["aligned"]:
        return row["tokens"], _agree(row["tokens"], ids)
    parent = row["parent"]
    if parent is None:
        return [], 0
    rows = view["rows"]
    have = rows[parent]["tokens"] if parent in rows else []
    same = _agree(have, ids)
    if same > 0:
        return have, same
    siblings = (rows[key] for key in view["order"] if rows[key]["parent"] == parent)
    sibling = next((each for each in siblings if each["aligned"]), None)
    more = 0 if sibling is None else _agree(sibling["tokens"], ids)
    return (sibling["tokens"], more) if more >= UNSEEN else ([], 0)


def _agree(tokens: list[dict[str, Any]], ids: list[int]) -> int:
    return _common([token["id"] for token in tokens], ids, len(ids))


def _common(a: list[int], b: list[int], limit: int) -> int:
    n = min(len(a), len(b), limit)
    for i in range(n):
        if a[i] != b[i]:
            return i
    return n


def _matched(view: Tokens, event: Any) -> None:
    request = view["requests"].get(event.rid)
    if request is None:
        return
    row = view["rows"][request["row"]]
    if request["purpose"] == "select":
        # The first choice computes the text for the others: the least is what was there before.
        group = row["scoring"].get(request["name"])
        if group is not None:
            old = group["cached"]
            group["cached"] = event.cached if old is None else min(old, event.cached)
            row["cached"] = group["cached"]
    elif row["rid"] == event.rid or (request["purpose"] == "prefill" and not row["rid"]):
        row["cached"] = event.cached


def _tokens(view: Tokens, event: Any) -> None:
    request = view["requests"].get(event.rid)
    if request is None or request["purpose"] != "gen":
        return
    row = view["rows"][request["row"]]
    if row["rid"] != event.rid:
        return
    ghosts = row["tokens"][-event.replaced :] if event.replaced else []
    del row["tokens"][len(row["tokens"]) - len(ghosts) :]
    row["back"] += len(ghosts)
    states = [event.fsm_before, *(event.fsm_after or ())]
    for i, token in enumerate(event.ids):
        record = {
            "id": token, "piece": event.pieces[i], "kind": event.how, "name": request["name"],
            "rid": event.rid, "t": event.t, "wait": event.t - request["last"],
            "logprob": _at(event.logprobs, i), "entropy": _at(event.entropy, i),
            "top": _at(event.top, i) or [], "allowed": _at(event.allowed, i),
            "mass": _at(event.mass, i), "fsm": _at(states, i), "fsm_to": _at(states, i + 1),
        }  # fmt: skip
        if ghosts and i == 0:
            record["ghosts"] = [each for ghost in ghosts for each in _and_its_ghosts(ghost)]
        row["tokens"].append(record)
    request["last"] = event.t
    row["shown"] = len(row["tokens"])


def _and_its_ghosts(token: dict[str, Any]) -> list[dict[str, Any]]:
    ghosts = token.get("ghosts", [])
    return [*ghosts, {key: token[key] for key in token if key != "ghosts"}]


def _at(items: list[Any] | None, i: int) -> Any:
    return items[i] if items is not None and i < len(items) else None


def _finished(view: Tokens, event: Any) -> None:
    request = view["requests"].get(event.rid)
    if request is None:
        return
    request["done"] = True
    row = view["rows"][request["row"]]
    if row["rid"] == event.rid:
        row["status"] = event.reason
    if event.error:
        row["error"] = failure(event.error)


_STEPS = {
    "state_started": _state_started,
    "state_forked": _state_forked,
    "state_ended": _state_ended,
    "variable_set": _variable_set,
    "request_arrived": _arrived,
    "request_matched": _matched,
    "tokens": _tokens,
    "request_finished": _finished,
}
