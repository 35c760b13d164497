"""What a run shows: a live view while it goes on, and a static picture once it is over.

The widget lives as long as the kernel; the picture is inline-styled HTML, which a saved and
reopened notebook still shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from IPython.display import display

from .. import viz

if TYPE_CHECKING:
    from .run import Run

PANES = ("tokens", "tree", "branches")


class Live(Protocol):
    """A live view."""

    def finish(self) -> None:
        """Show the last state and stop listening."""


def show_live(run: Run) -> Live | None:
    """Display a widget that follows ``run``; None where there is nothing to follow it."""
    if run.view in ("none", "text") or not viz.in_notebook():
        return None
    panes = {"auto": None, "all": list(PANES)}.get(run.view, [run.view])
    view = viz.RunView(run.backend.events, run.id, panes=panes, on_cancel=run.stop, title=run.title)
    display(view)
    return view


def show_static(run: Run, later: bool = False) -> Callable[[], None]:
    """Display the run's picture now, or a place for it and return what fills the place."""
    if not later:
        display(run)
        return lambda: None
    place = display(run, display_id=True)
    return lambda: place.update(run) if place is not None else None


class TreePicture:
    """The radix tree at one moment, for ``%sgl cache``."""

    def __init__(self, nodes: list[dict[str, Any]]):
        self.nodes = nodes

    def __repr__(self) -> str:
        return viz.tree_text(self.nodes)

    def _repr_html_(self) -> str:
        return viz.tree_static_html(self.nodes)
