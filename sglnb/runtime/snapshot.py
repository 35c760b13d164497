"""The radix tree at one moment: plain data that knows how to be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..events import CacheSnapshot

if TYPE_CHECKING:
    from .engine import Engine


class Snapshot(list[dict[str, Any]]):
    """What :meth:`Cache.snapshot <sglnb.runtime.cache.Cache.snapshot>` gives: a list of nodes,
    parents first. A notebook shows it as a tree to search, pin and evict in, and below it a
    picture that a saved notebook keeps.
    """

    def __init__(
        self, nodes: list[dict[str, Any]], engine: Engine, total_slots: int, used_slots: int
    ):
        super().__init__(nodes)
        self.total_slots, self.used_slots = total_slots, used_slots
        self.time = engine.events.now()
        """Seconds on the event log's clock."""
        self._engine, self._seq = engine, engine.events.next_seq - 1

    @property
    def event(self) -> CacheSnapshot:
        """The same as an event, for the views."""
        event = CacheSnapshot(
            nodes=list(self), total_slots=self.total_slots, used_slots=self.used_slots
        )
        event.seq, event.t = self._seq, self.time
        return event

    def to_html(self) -> str:
        """One self-contained page to look around in; needs no network and no kernel."""
        from ..viz import tree_page

        return tree_page(self.event, self._title)

    def to_svg(self) -> str:
        """A drawing as SVG text."""
        from ..viz import tree_svg

        return tree_svg(self._tree())

    def to_dot(self) -> str:
        """A drawing for Graphviz."""
        from ..viz import tree_dot

        return tree_dot(self._tree())

    def to_frame(self) -> Any:
        """One row a node, as a pandas DataFrame."""
        from ..viz import tree_frame

        return tree_frame(self)

    def to_text(self) -> str:
        """An indented list for a terminal."""
        from ..viz import tree_text

        return tree_text(self._tree())

    @property
    def _title(self) -> str:
        return f"cache of {self._engine.model_name}"

    def _tree(self) -> dict[str, Any]:
        from ..viz import initial_tree, reduce_tree

        return reduce_tree(initial_tree(), self.event)

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from ..viz import tree_static_html

        return {"text/plain": self.to_text(), "text/html": tree_static_html(list(self))}

    def _ipython_display_(self) -> None:
        from IPython.display import display

        from ..viz import TreeView, in_notebook

        if in_notebook():
            display(
                TreeView(self.event, self._engine.events, self._engine.cache, title=self._title)
            )
        display(self._repr_mimebundle_(), raw=True)
