"""The plan of a program: what its source says that it will do, known before it runs.

The body of a ``%%sgl`` cell is any Python. To find out what it does by running it a second time,
on placeholders as :mod:`.tracer` does, would print, write and count twice: so it is never run, its
syntax tree is read. What the source does not settle is not guessed: a text that is made as the
program runs is a hole with the code that makes it, loops and conditions are nodes that say so, and
a call whose source cannot be read is opaque. A ``gen`` that was not foreseen (its line is in no
function that was read) is told of all the same when it begins, as one that is not in the plan.

Names are looked up, never evaluated: nothing of the user's is called, no attribute of the user's
objects is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from ..events import ProgramReached, ProgramRead
from .errors import Where

logger = logging.getLogger(__name__)

START = -1
"""As :attr:`PlanNode.prev`: the text begins here."""
MOST = 300
"""Nodes of a plan; of a longer program the first ones."""
LONGEST = 1200
"""Characters of a constant that are kept whole; of a longer one both ends are."""
END = 300
BUDGET = 24_000
"""Characters of constants in a plan; later ones are cut down to :data:`SHORT` at each end."""
SHORT = 60
HOLES = frozenset({"gen", "select"})
SHAPES = frozenset({"fork", "loop", "if", "else", "call"})
_NUMBERS = ("id", "depth", "prev", "of", "size")


@dataclass(slots=True)
class PlanNode:
    """One node of a plan.

    Attributes:
        kind: "text" (constant), "value" (made as the program runs, by ``code``), "use" (a variable
            of a state), "image", "gen", "select", "fork", "join", "loop", "if", "else", "call".
        depth: how many loops, conditions and calls it is in.
        name: of the variable, the branches or the program; None where it is computed.
        text: of a constant: all of it, or its beginning; ``tail`` is then its end and ``hidden``
            the number of characters between.
        role: of the message that it is part of.
        opens: a message begins or ended right before it.
        prev: the node whose text is right before its own, whenever it runs; :data:`START`: there
            is no text before; None: that depends on the run.
        of: of a join, the fork.
        size: of a fork, the number of branches where the source says it.
        uses: variables of states that it reads: of a condition, what it depends on.
        unread: a call whose source cannot be read.
    """

    id: int
    kind: str
    depth: int
    line: int | None = None
    name: str | None = None
    code: str = ""
    text: str = ""
    tail: str = ""
    hidden: int = 0
    role: str | None = None
    opens: bool = False
    prev: int | None = None
    of: int | None = None
    size: int | None = None
    uses: list[str] = field(default_factory=list)
    unread: bool = False


class Plan:
    """A program's plan, and where in the source its nodes are."""

    def __init__(self) -> None:
        self.nodes: list[PlanNode] = []
        self.more = 0
        """Nodes that there was no room for."""
        self.looked_up: list[tuple[Callable[[], Mapping[str, Any]], str, Any]] = []
        """Names of other places that it depends on: where they are, and what they were."""
        self._places: dict[str, list[tuple[int, int, PlanNode]]] = {}
        self._found: dict[tuple[Where, str, str | None], list[int]] = {}
        self._left = BUDGET

    def add(self, kind: str, depth: int, file: str, at: Any = None, **more: Any) -> int | None:
        """One more node, written at the syntax node ``at`` of ``file``; its id."""
        if len(self.nodes) >= MOST:
            self.more += 1
            return None
        line = getattr(at, "lineno", None)
        node = PlanNode(len(self.nodes), kind, depth, line, **more)
        if kind == "text":
            self._shorten(node)
        self.nodes.append(node)
        if line is not None and kind in HOLES | {"fork"}:
            self._places.setdefault(file, []).append((line, at.end_lineno or line, node))
        return node.id

    def _shorten(self, node: PlanNode) -> None:
        text = node.text
        most, end = (LONGEST, END) if self._left > 0 else (2 * SHORT, SHORT)
        if len(text) > most:
            node.text, node.tail, node.hidden = text[:end], text[-end:], len(text) - 2 * end
        self._left -= min(len(text), most)

    @cached_property
    def has_shape(self) -> bool:
        """Whether there is more to see than one or two holes in a row of texts: the rule by which
        views show a plan (:func:`sglnb.viz.program_rows.has_shape`) unless they are asked to."""
        holes = sum(node.kind in HOLES for node in self.nodes)
        return holes > 2 or any(node.kind in SHAPES for node in self.nodes)

    def still_true(self) -> bool:
        """Whether the names that it depends on are what they were."""
        return all(where().get(name) is value for where, name, value in self.looked_up)

    def extend(self, node: PlanNode, text: str) -> bool:
        """Add ``text`` to the constant ``node`` if it stays whole."""
        if node.hidden or len(node.text) + len(text) > LONGEST or self._left < len(text):
            return False
        node.text += text
        self._left -= len(text)
        return True

    def find(self, where: Where, what: str, name: str | None) -> list[int]:
        """The nodes that something which begins at ``where`` can be, likeliest first."""
        found = self._found.get((where, what, name))
        if found is None:
            found = self._look_up(where, what, name)
            if len(self._found) < 1000:  # a program can make up names without end
                self._found[where, what, name] = found
        return found

    def _look_up(self, where: Where, what: str, name: str | None) -> list[int]:
        if where is None:
            return []
        file, line = where
        here = [n for low, high, n in self._places.get(file, ()) if low <= line <= high]
        here = [n for n in here if n.kind == what and (what == "fork" or n.name in (None, name))]
        named = [n for n in here if n.name is not None]
        return [n.id for n in named or here]

    @cached_property
    def graph(self) -> dict[str, Any]:
        """The whole plan as plain data, for JSON; what is empty is left out."""
        nodes = [
            {k: v for k, v in asdict(n).items() if v or (k in _NUMBERS and v is not None)}
            for n in self.nodes
        ]
        return {"nodes": nodes, "more": self.more}


class PlanWatch:
    """Tells what of its plan a run comes to."""

    def __init__(self, plan: Plan, run: str, emit: Any):
        self._plan, self._run, self._emit = plan, run, emit
        self._times: dict[tuple[str, int], int] = {}
        emit(ProgramRead(run, plan.graph))

    def reached(self, state: str, what: str, name: str | None, where: Where) -> None:
        """``state`` begins a gen, a select or a fork that was written at ``where``. Of several
        that it can be, all on one line, it is the one that the state did least."""
        nodes, times = self._plan.find(where, what, name), self._times
        node = nodes[0] if nodes else None
        if len(nodes) > 1:
            node = min(nodes, key=lambda n: times.get((state, n), 0))
            times[state, node] = times.get((state, node), 0) + 1
        self._emit(ProgramReached(self._run, state, node, what, name or ""))
