"""The live view of one run in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import traitlets

from sglnb.events import EventLog

from .ask import Answers
from .assets import css, esm, packed
from .base import View
from .publisher import Publisher
from .text import clip_middle, one_line


class RunView(View):
    """Shows a run while it happens: header, tokens, radix tree and branches.

    Display it, let the run go, and call :meth:`finish` at the end. Deltas travel as custom
    messages; ``saved`` holds a bounded copy of the log, from which a reloaded page or a
    notebook saved with its widget state draws the same picture.

    Args:
        log: the engine's event log.
        run: id of the run to show; it may start later.
        panes: "auto" (what there is to show) or a comma-separated choice of
            "tokens", "tree", "program", "constraint", "branches" and "schedule".
        on_cancel: called when Stop is pressed and the kernel cannot be interrupted from the
            browser. It must return at once (set an event, abort a request).
        title: shown until the run's own title is known.
        foreground: whether the cell waits for the run. Stop then interrupts the kernel;
            otherwise it only calls ``on_cancel``.
        cache: the engine's ``cache``, for the tree's commands; None: there are none.
    """

    _esm = packed(esm())
    _css = css()
    run = traitlets.Unicode("").tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)
    panes = traitlets.Unicode("auto").tag(sync=True)
    foreground = traitlets.Bool(True).tag(sync=True)
    saved = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        log: EventLog,
        run: str,
        *,
        panes: str = "auto",
        on_cancel: Callable[[], Any] | None = None,
        title: str = "",
        foreground: bool = True,
        cache: Any = None,
    ):
        check_panes(panes)
        super().__init__(
            run=run, title=title, panes=panes, foreground=foreground, controls=cache is not None
        )
        self._on_cancel = on_cancel
        self._publisher = Publisher(log, run, self._send_events, self._save)
        self._begin(Answers(cache, self.send, self._publisher.catch_up))

    def __repr__(self) -> str:
        """What a notebook shows where the widget cannot be drawn."""
        name = clip_middle(one_line(self.title or self.run or "run"), 40)
        return f"{name}: live view (needs its kernel; the saved picture follows)"

    def finish(self) -> None:
        """Show the last events, save the final state and stop the publisher."""
        self._publisher.finish()

    def _send_events(self, message: dict[str, Any]) -> None:
        self.send(message)

    def _save(self, text: str) -> None:
        self.saved = text

    def _on_wish(self, content: dict[str, Any]) -> None:
        if content.get("kind") == "cancel" and self._on_cancel:
            self._on_cancel()


def check_panes(panes: str) -> None:
    """Raise ValueError unless ``panes`` names panes that exist."""
    known = ("auto", "tokens", "tree", "program", "constraint", "branches", "schedule")
    for name in panes.split(","):
        if name.strip() not in known:
            raise ValueError(f"panes: no pane called {name.strip()!r}; choose from {known}")
