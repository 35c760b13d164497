"""The parts of a program's dataflow graph: steps, states, and why a trace has ended."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import SglError
from .errors import Where

if TYPE_CHECKING:
    from ..runtime.images import Image

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
