"""The dataflow graph of a program: steps, the order of text in each state, and who uses what."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import SglError
from .backend import Backend, get_default_backend
from .chat_template import ChatTemplate, chat_template_of
from .errors import Where
from .images import placeholder as image_placeholder

if TYPE_CHECKING:
    import pandas

    from ..runtime.images import Image
    from .advice import AdviceReport

CONSTANT = frozenset(
    {"text", "image", "role_begin", "role_end", "scope_begin", "scope_end", "set", "read"}
)
"""Kinds of steps after which the text is as certain as before them."""


@dataclass(eq=False, slots=True)
class Node:
    """One step of a program.

    Attributes:
        kind: "text", "argument", "gen", "select", "image", "role_begin", "role_end",
            "scope_begin", "scope_end", "set" (a variable), "use" (of a variable), "read" (the
            state's text or messages so far), "fork" or "join".
        state: index of the state whose text it belongs to.
        name: of the variable, argument or role; None if it has none.
        text: of a constant, as far as it does not depend on the chat template.
        prev_node: the step before it in its state, for a branch the fork; None at a beginning.
        sources: the steps whose results it needs besides.
        where: (file, line) where it was written.
        children: of a fork and a join, the states of the branches.
        expr: what the run does at this step.
    """

    id: int
    kind: str
    state: int
    name: str | None
    text: str
    prev_node: Node | None
    sources: tuple[Node, ...]
    where: Where
    children: tuple[int, ...] = ()
    expr: Any = None

    def __repr__(self) -> str:
        what = self.kind.title().replace("_", "")
        shown = self.text if self.kind == "text" else self.name
        return f"{what}({shown!r})" if shown is not None else what

    def print_graph_dfs(self) -> str:
        """This step and all that it depends on, a line each, dependencies first."""
        lines: list[str] = []
        stack, seen = [(self, False)], set()
        while stack:
            node, ready = stack.pop()
            if ready:
                before = f"%{node.prev_node.id} + " if node.prev_node else ""
                uses = f" of {', '.join(f'%{s.id}' for s in node.sources)}" if node.sources else ""
                lines.append(f"%{node.id} = {before}{node!r}{uses}\n")
            elif node.id not in seen:
                seen.add(node.id)
                stack.append((node, True))
                before = (node.prev_node,) if node.prev_node else ()
                stack += [(n, False) for n in reversed((*before, *node.sources))]
        return "".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; other steps by their numbers."""
        file, line = self.where or (None, None)
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "name": self.name,
            "text": self.text,
            "prev": None if self.prev_node is None else self.prev_node.id,
            "sources": [node.id for node in self.sources],
            "children": list(self.children),
            "file": file,
            "line": line,
        }


class TracedState(NamedTuple):
    """A state that the program works on."""

    index: int
    program: str
    """Name of the program that it was made for."""
    parent: int | None
    """The state that it was forked from."""
    branch: int
    """Its number among the branches."""
    options: dict[str, Any]
    """Sampling options of its program's call."""

    @property
    def label(self) -> str:
        """The program, for a branch with its number."""
        return self.program if self.parent is None else f"{self.program}[{self.branch}]"


class Stop(NamedTuple):
    """Where and why a trace ended before the program did."""

    why: str
    file: str | None
    line: int | None
    code: str
    """The source line."""
    on: str
    """The kind of what had no value: "argument", "variable"; "" for other reasons."""

    def __str__(self) -> str:
        place = "" if self.line is None else f"line {self.line}"
        if self.file is not None and os.path.isfile(self.file):
            place = f"{self.file}:{self.line}"
        code = f" (`{self.code}`)" if self.code else ""
        return f"{place}{code}: {self.why}" if place else self.why


class TraceError(SglError):
    """A program cannot be compiled: what it does next depends on what the model writes.

    Attributes:
        stopped: where and why.
    """

    def __init__(self, program: str, stopped: Stop):
        self.stopped = stopped
        super().__init__(f"compile: {program} cannot be traced to its end. {stopped}")


class Constant(NamedTuple):
    """A text that is known before the run."""

    text: str
    images: list[Image]
    nodes: int
    """Steps that it comes from."""


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
        return chat_template_of(self._used_backend.tokenizer)

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
        """Tokens of ``text`` by the backend's tokenizer."""
        return len(self._used_backend.tokenizer.encode(text)) if text else 0

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
