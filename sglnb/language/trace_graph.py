"""The dataflow graph of a program: steps, the order of text in each state, and who uses what."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .backend import Backend, get_default_backend
from .chat_template import ChatTemplate, template_of
from .images import placeholder as image_placeholder
from .trace_node import CONSTANT, Constant, Node, Stop, TracedState

if TYPE_CHECKING:
    import pandas

    from .advice import AdviceReport


@dataclass(repr=False)
class Trace:
    """The dataflow graph of a program, made without a model.

    Attributes:
        program: its name.
        nodes: the steps, in the order of the body.
        states: the states they belong to; the first is the program's own.
        parameters: names of all its parameters.
        arguments: names of the arguments that were left open.
        stopped: where and why the trace ended before the program; None if it is complete.
        ret_value: what the body returned.
    """

    program: str
    backend: Backend | None = None
    nodes: list[Node] = field(default_factory=list)
    states: list[TracedState] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    stopped: Stop | None = None
    ret_value: Any = None

    @property
    def complete(self) -> bool:
        """Whether the graph is the whole program."""
        return self.stopped is None

    @property
    def last_node(self) -> Node | None:
        """The last step of the program's own state."""
        return next((node for node in reversed(self.nodes) if node.state == 0), None)

    @property
    def edges(self) -> list[tuple[int, int, str]]:
        """(from, to, "order" or "data") for each dependency of a step."""
        out = []
        for node in self.nodes:
            if node.prev_node is not None:
                out.append((node.prev_node.id, node.id, "order"))
            out += [(source.id, node.id, "data") for source in node.sources]
        return out

    @cached_property
    def _used_backend(self) -> Backend:
        return get_default_backend() if self.backend is None else self.backend

    @property
    def template(self) -> ChatTemplate:
        """The chat template of the backend."""
        return template_of(self._used_backend)

    @property
    def prefix(self) -> str:
        """The longest text that every run begins with, through the chat template."""
        return self.constant().text

    def constant(self) -> Constant:
        """The constant beginning of the program's own state, with its images."""
        return self.constant_of(node for node in self.nodes if node.state == 0)

    def constant_of(self, nodes: Any) -> Constant:
        """The constant beginning of a chain of steps."""
        text, images, count, previous = [], [], 0, None
        for node in nodes:
            if node.kind not in CONSTANT:
                break
            if node.kind == "image":
                images.append(node.expr.image)
            text.append(self.rendered(node, previous))
            previous = node.name if node.kind == "role_end" else previous
            count += 1
        return Constant("".join(text), images, count)

    def rendered(self, node: Node, previous: str | None) -> str:
        """What a constant step adds to the text when the last message was of ``previous``."""
        if node.kind == "image":
            return image_placeholder(self._used_backend)
        if node.kind in ("role_begin", "role_end"):
            return self.template.around(node.name, previous)[node.kind == "role_end"]
        return node.text

    def count_tokens(self, text: str) -> int:
        """Tokens of ``text`` by the backend's tokenizer; a token for four characters where it has
        none."""
        tokenizer = self._used_backend.tokenizer
        if tokenizer is None:
            return len(text) // 4
        return len(tokenizer.encode(text)) if text else 0

    def advice(self, rows: Any = None, *, least: int = 8) -> AdviceReport:
        """What could be written earlier, so that more of the prompt is shared between runs.

        Args:
            rows: the arguments of a batch, as for ``run_batch``: an argument that is the same in
                all of them counts as constant.
            least: tokens a row that a change must save to be told.
        """
        from .advice import advise

        return advise(self, rows, least)

    # -- what it looks like ----------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The whole graph as plain data, for JSON."""
        return {
            "program": self.program,
            "arguments": list(self.arguments),
            "complete": self.complete,
            "stopped": self.stopped._asdict() if self.stopped is not None else None,
            "states": [
                {**state._asdict(), "label": state.label, "options": sorted(state.options)}
                for state in self.states
            ],
            "nodes": [node.to_dict() for node in self.nodes],
        }

    def to_frame(self) -> pandas.DataFrame:
        """One row a step: id, kind, state, label, name, text, prev (the step before it), sources
        (steps whose results it uses), children (branches), file and line."""
        import pandas

        rows = [{**n.to_dict(), "label": self.states[n.state].label} for n in self.nodes]
        columns = ["id", "kind", "state", "label", "name", "text", "prev", "sources", "children",
                   "file", "line"]  # fmt: skip
        frame = pandas.DataFrame(rows, columns=columns)
        for column in ("prev", "line"):
            frame[column] = frame[column].astype("Int64")
        return frame

    def to_dot(self) -> str:
        """The graph for Graphviz: a column a state, data edges dashed."""
        from ..viz.program_graph import program_dot

        return program_dot(self.to_dict())

    def to_svg(self) -> str:
        """The graph as SVG, by Graphviz' ``dot`` where it is installed."""
        from ..viz.program_graph import program_svg

        return program_svg(self.to_dict())

    def to_html(self) -> str:
        """The graph as one self-contained HTML page."""
        from ..viz.program_graph import program_page

        return program_page(self.to_dict())

    def __repr__(self) -> str:
        from ..viz.program_graph import program_text

        return program_text(self.to_dict())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from ..viz.program_graph import program_html

        return {"text/plain": repr(self), "text/html": program_html(self.to_dict())}
