"""What a run looked like: pure folds over the event log, and the ways to show them.

Live in a notebook (:class:`RunView`), static in a saved one (:func:`static_html`), as a page of
its own (:func:`to_html`), as text (:func:`to_text`) and as a table (:func:`to_frame`). All of
them draw the same view state, made by :func:`fold`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .environment import in_notebook
from .frame import to_frame
from .page import iframe_html, to_html
from .plain import to_text, tree_text
from .reduce import ViewState, fold, initial, reduce
from .reduce_tree import initial_tree, reduce_tree
from .run_svg import run_svg
from .runlog import run_events
from .static_html import static_html, tree_static_html
from .steps_frame import steps_frame
from .tree_export import tree_dot, tree_svg
from .tree_page import folded_tree_frame, tree_frame, tree_page

if TYPE_CHECKING:
    from .tree_view import TreeView
    from .widget import RunView

__all__ = [
    "RunView",
    "TreeView",
    "ViewState",
    "fold",
    "folded_tree_frame",
    "iframe_html",
    "in_notebook",
    "initial",
    "initial_tree",
    "reduce",
    "reduce_tree",
    "run_events",
    "run_svg",
    "static_html",
    "steps_frame",
    "to_frame",
    "to_html",
    "to_text",
    "tree_dot",
    "tree_frame",
    "tree_page",
    "tree_static_html",
    "tree_svg",
    "tree_text",
]


def __getattr__(name: str) -> Any:
    """The widgets on first use: the folds and static forms need no Jupyter."""
    if name == "RunView":
        from .widget import RunView

        return RunView
    if name == "TreeView":
        from .tree_view import TreeView

        return TreeView
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
