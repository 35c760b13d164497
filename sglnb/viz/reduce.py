"""The run view as a pure fold over the event log.

``reduce(view, event)`` gives the view after one more event; live drawing, replay with a slider,
the static export and the DataFrame all come from it. A view is a plain dict that JSON can hold,
with one part for each pane. ``static/reduce.js`` is the same fold in JavaScript, file by file, and
both must give the same JSON for the same log.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sglnb.events import Event

from .reduce_branches import initial_branches, reduce_branches
from .reduce_constraint import initial_constraint, reduce_constraint
from .reduce_header import initial_header, reduce_header
from .reduce_program import initial_program, reduce_program
from .reduce_schedule import initial_schedule, reduce_schedule
from .reduce_tokens import initial_tokens, reduce_tokens
from .reduce_tree import initial_tree, reduce_tree

ViewState = dict[str, Any]


def initial() -> ViewState:
    """The view before the first event."""
    return {
        "header": initial_header(),
        "tokens": initial_tokens(),
        "tree": initial_tree(),
        "branches": initial_branches(),
        "constraint": initial_constraint(),
        "program": initial_program(),
        "schedule": initial_schedule(),
    }


def reduce(view: ViewState, event: Event) -> ViewState:
    """The view after ``event``.

    The result may reuse the storage of ``view``: who needs the earlier one again folds again
    or keeps a deep copy. Events are never changed.
    """
    reduce_header(view["header"], event)
    reduce_tokens(view["tokens"], event)
    reduce_tree(view["tree"], event)
    reduce_branches(view["branches"], event)
    reduce_constraint(view["constraint"], event)
    reduce_schedule(view["schedule"], event)
    reduce_program(view["program"], event)
    return view


def fold(events: Iterable[Event], view: ViewState | None = None) -> ViewState:
    """The view after all ``events``, starting from ``view`` (nothing by default)."""
    view = initial() if view is None else view
    for event in events:
        reduce(view, event)
    return view
