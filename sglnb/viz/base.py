"""What our widgets have in common: a kernel that hears them while a cell runs."""

from __future__ import annotations

import logging
from typing import Any

import anywidget
import traitlets

from .ask import Answers

logger = logging.getLogger(__name__)


def hear_while_busy(widget: Any) -> None:
    """Let ``widget`` hear its page while a cell runs, where the kernel can do that.

    ipykernel 7.4 answers a comm on the thread that last sent on it; that is one of ours, and the
    page's messages (Stop, for one) would wait for the cell. Before 7.0 they wait in any case.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda data, default: default


class View(anywidget.AnyWidget):
    """A widget that takes messages of its own.

    ``controls`` says whether questions about the cache can be answered; without it (and in a
    page without a kernel) the view draws no controls.
    """

    controls = traitlets.Bool(False).tag(sync=True)

    def _begin(self, answers: Answers) -> None:
        """Listen from now on."""
        self._answers = answers
        self.on_msg(self._on_custom)
        hear_while_busy(self)

    def _on_custom(self, widget: Any, content: Any, buffers: Any) -> None:
        """On whatever thread the kernel chooses: only pass the wish on."""
        if isinstance(content, dict) and not self._answers.take(content):
            try:
                self._on_wish(content)
            except Exception:
                logger.exception("%r: %r failed", self, content.get("kind"))

    def _on_wish(self, content: dict[str, Any]) -> None:
        """What else a person may want of the view. It must return at once."""
