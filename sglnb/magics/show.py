"""What a run shows: a live view while it goes on, and a static picture once it is over.

The widget lives as long as the kernel; the picture is inline-styled HTML, which a saved and
reopened notebook still shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from IPython.display import HTML, display

from .. import viz
from ..runtime import Engine, default_engine

if TYPE_CHECKING:
    from .dashboard import Dashboard
    from .run import Run


class Live(Protocol):
    """A live view."""

    def finish(self) -> None:
        """Show the last state and stop listening."""


def show_live(run: Run, foreground: bool) -> Live | None:
    """Display a widget that follows ``run``; None where there is nothing to follow it."""
    if run.view in ("none", "text") or not viz.in_notebook():
        return None
    view = viz.RunView(
        run.backend.events,
        run.id,
        panes=run.panes,
        on_cancel=run.stop,
        title=run.title,
        foreground=foreground,
        cache=getattr(run.backend, "cache", None),
    )
    run.place = display(view, display_id=True)
    return view


def place_static(run: Run) -> Callable[[], None]:
    """Keep a place for the picture of a run that goes on; returns what fills it."""
    if not viz.in_notebook() or run.view == "none":
        return lambda: None
    place = display(HTML(""), display_id=True)
    return lambda: place.update(run)


def dashboard(engine: Engine | None = None) -> Dashboard:
    """The state and the controls of ``engine`` (default: the shared one) as widgets.

    A change acts on the running engine, between two steps. What is not possible now (a pool
    cannot be resized while requests run) is told in words, and nothing is lost.
    """
    from .dashboard import Dashboard  # widgets are imported when one is made

    engine = default_engine() if engine is None else engine
    if not isinstance(engine, Engine):
        raise ValueError(f"engine: must be an sglnb Engine, got {type(engine).__name__}")
    return Dashboard(engine)
