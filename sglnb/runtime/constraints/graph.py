"""The automaton as plain data to draw: plain, and compressed as in the SGLang paper.

Compressed: a state with one way on, by one character, is drawn into the edge before it, so
that a chain of such states is one edge with a text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from sglnb.runtime.constraints.charset import (
    ANYTHING,
    NOT_NEWLINE,
    CharSet,
    category,
    charset,
    complement,
    size,
)
from sglnb.runtime.constraints.dfa import DFA

_MAX_LABEL = 40
_MAX_SEEN = 2_000


class Node(NamedTuple):
    """A state. ``id`` is :attr:`Cursor.state`."""

    id: int
    final: bool


class Edge(NamedTuple):
    """A way from one state to another.

    Attributes:
        label: for the eye: ``[a-z]``, or the text of a chain.
        text: the exact text, where it is certain; None for a set of characters.
        via: the states that were drawn into this edge, in order.
    """

    source: int
    target: int
    label: str
    text: str | None
    via: tuple[int, ...]


class Graph(NamedTuple):
    """States and the edges between them; the start is state 0."""

    nodes: list[Node]
    edges: list[Edge]


class Graphs(NamedTuple):
    """The same automaton twice. Of one that makes its states as texts reach them
    (``Constraint.n_states`` is None) it is the part that was made so far."""

    plain: Graph
    compressed: Graph


def to_record(graph: Graph) -> dict[str, list[list[Any]]]:
    """``graph`` as :attr:`sglnb.events.ConstraintUsed.graph` has it."""
    return {
        "nodes": [[node.id, int(node.final)] for node in graph.nodes],
        "edges": [
            [edge.source, edge.target, edge.label, 0, list(edge.via)]
            if edge.text is None
            else [edge.source, edge.target, edge.text, 1, list(edge.via)]
            for edge in graph.edges
        ],
    }


def draw(dfa: DFA) -> Graphs:
    """Both graphs of ``dfa``."""
    seen = list(dfa.seen)[:_MAX_SEEN] if not dfa.complete else range(len(dfa))
    edges = [edge for q in seen for edge in _edges(dfa, q)]
    drawn = sorted({*seen, *(edge.target for edge in edges)})
    plain = Graph([Node(q, q in dfa.final) for q in drawn], edges)
    return Graphs(plain, _compress(dfa, plain, set(seen)))


def _edges(dfa: DFA, q: int) -> list[Edge]:
    """Edges out of ``q``, one per target."""
    by_target: dict[int, list[tuple[int, int]]] = {}
    for c, target in dfa.rows[q].items():
        by_target.setdefault(target, []).extend(dfa.alphabet.sets[c])
    out = []
    for target, spans in by_target.items():
        chars = charset(spans)
        text = chr(chars[0][0]) if size(chars) == 1 else None
        label = text_label(text) if text is not None else set_label(chars)
        out.append(Edge(q, target, label, text, ()))
    return out


def _compress(dfa: DFA, plain: Graph, seen: set[int]) -> Graph:
    """Draw chains as one edge. A chain's first state stays where paths meet in it or where
    a set of characters leads to it, so that its text is drawn once."""
    into: dict[int, list[Edge]] = {}
    for edge in plain.edges:
        into.setdefault(edge.target, []).append(edge)
    inner = {
        q
        for q in seen - {0}
        if dfa.only_exit(q) and len(into[q]) == 1 and into[q][0].text is not None
    }
    edges = []
    for edge in plain.edges:
        if edge.source in inner:
            continue
        text, target, via = edge.text, edge.target, []
        while target in inner:
            via.append(target)
            char, target = dfa.only_exit(target)
            text += char
        label = edge.label if not via else text_label(text)
        edges.append(Edge(edge.source, target, label, text, tuple(via)))
    return Graph([node for node in plain.nodes if node.id not in inner], edges)


def text_label(text: str) -> str:
    """``text`` in one line, with escapes for what cannot be seen."""
    return "".join(map(_visible, text))


@lru_cache(maxsize=1024)
def set_label(chars: CharSet) -> str:
    """A set of characters, as a regex would write it; long sets are cut with ``…``."""
    named = _named().get(chars)
    if named:
        return named
    negated = size(chars) > size(ANYTHING) // 2
    spans = complement(chars) if negated else chars
    parts = []
    for name in (r"\w", r"\d", r"\s"):
        members = category(name, False)
        if charset([*spans, *members]) == spans:
            parts.append(name)
            spans = complement(charset([*complement(spans), *members]))
    for lo, hi in spans:
        middle = "" if hi - lo < 2 else "-"
        parts.append(_in_set(lo) + (middle + _in_set(hi) if hi > lo else ""))
    label = ""
    for part in parts:
        if len(label) + len(part) > _MAX_LABEL:
            label += "…"
            break
        label += part
    return f"[{'^' * negated}{label}]"


def _named() -> dict[CharSet, str]:
    names = {category(name, False): name for name in (r"\w", r"\d", r"\s")}
    return {**names, ANYTHING: "any", NOT_NEWLINE: "."}


def _visible(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def _in_set(code: int) -> str:
    char = chr(code)
    return f"\\{char}" if char in r"\]^-[" else _visible(char)
