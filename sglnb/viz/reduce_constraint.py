"""The constraints of a run: what each looks like and which requests are under it.

Where a request stands in its constraint is told by its tokens (``fsm`` and ``fsm_to`` in
:mod:`.reduce_tokens`). ``static/reduce_constraint.js`` holds the same fold; change both together.
"""

from __future__ import annotations

from typing import Any

from sglnb.events import Event

Constraints = dict[str, Any]


def initial_constraint() -> Constraints:
    """Nothing. ``graphs`` by source, as :class:`sglnb.events.ConstraintUsed` tells them;
    ``requests`` by id, ``order`` in order of arrival."""
    return {"graphs": {}, "requests": {}, "order": []}


def reduce_constraint(view: Constraints, event: Event) -> Constraints:
    """The constraints after ``event``. Reuses ``view``'s storage."""
    step = _STEPS.get(event.kind)
    if step is not None:
        step(view, event)
    return view


def _used(view: Constraints, event: Any) -> None:
    view["graphs"][event.source] = {"states": event.states, "graph": event.graph}


def _arrived(view: Constraints, event: Any) -> None:
    if not event.constraint or event.rid in view["requests"]:
        return
    view["order"].append(event.rid)
    view["requests"][event.rid] = {
        "rid": event.rid, "source": event.constraint, "row": event.state or event.rid,
        "name": event.name, "started": False, "done": False,
    }  # fmt: skip


def _tokens(view: Constraints, event: Any) -> None:
    request = view["requests"].get(event.rid)
    if request is not None:
        request["started"] = True


def _finished(view: Constraints, event: Any) -> None:
    request = view["requests"].get(event.rid)
    if request is not None:
        request["done"] = True


_STEPS = {
    "constraint_used": _used,
    "request_arrived": _arrived,
    "tokens": _tokens,
    "request_finished": _finished,
}
