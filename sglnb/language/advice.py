"""Code movement (SGLang's paper, appendix D): what could be written earlier in a program, so that
more of its prompt is the same in every run and is computed once. Advice only: another order is
another prompt, and whether its answers are as good is for people to judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .errors import Where
from .prefix import same_in_all
from .table import given_rows
from .trace_graph import Trace
from .trace_node import Node


class Advice(NamedTuple):
    """One part of a prompt that could stand earlier."""

    program: str
    """The program whose text it is."""
    text: str
    where: Where
    """(file, line) where it is written."""
    before: str
    """What it should stand before, in words."""
    before_where: Where
    tokens: int
    """More tokens of a row that would be shared."""

    def __str__(self) -> str:
        there = f" (line {self.before_where[1]})" if self.before_where else ""
        here = f"line {self.where[1]}: " if self.where else ""
        shown = self.text if len(self.text) <= 60 else f"{self.text[:40]}\u2026{self.text[-19:]}"
        return (
            f"{here}move {shown!r} before {self.before}{there}: "
            f"{self.tokens:,} more tokens of each row would be shared"
        )


@dataclass(repr=False)
class AdviceReport:
    """The advice on one program; iterate over it for the items.

    Attributes:
        head: what is shared now, in words.
        items: what could be moved, in the order of the prompt.
        notes: what could not be looked at, in words.
    """

    head: str
    items: list[Advice]
    notes: list[str]

    @property
    def tokens(self) -> int:
        """Tokens that all of it would save a row."""
        return sum(item.tokens for item in self.items)

    def __iter__(self) -> Iterator[Advice]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        lines = [self.head, *(f"* {line}" for line in (*self.items, *self.notes))]
        if self.items:
            lines.append("Another order is another prompt: compare the answers before you keep it.")
        return "\n".join(lines)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        style = "white-space: pre-wrap; font-family: sans-serif; font-size: 13px"
        text = repr(self)
        from ..viz.text import escape

        return {"text/plain": text, "text/html": f'<div style="{style}">{escape(text)}</div>'}


def advise(trace: Trace, rows: Any, least: int) -> AdviceReport:
    """See :meth:`Trace.advice`."""
    table = [] if rows is None else given_rows(rows, trace.parameters, False).listed()
    found: dict[Any, Advice] = {}
    shared = 0
    for state in trace.states:
        if state.parent is not None:  # a branch begins with what its parent has
            continue
        steps = [_known(n, table) for n in trace.nodes if n.state == state.index]
        if state.index == 0:
            shared = trace.count_tokens(trace.constant_of(steps).text)
        for item in _movable(trace, state.program, steps):
            if item.tokens >= least:
                found.setdefault((item.where, item.text), item)
    items = list(found.values())
    more = f"{sum(i.tokens for i in items):,} more could be" if items else "nothing is to be moved"
    return AdviceReport(
        f"{trace.program}: {shared:,} tokens at the beginning are the same in every row; {more}",
        items,
        [] if trace.stopped is None else [f"the rest cannot be looked at. {trace.stopped}"],
    )


def _known(node: Node, rows: list[dict[str, Any]]) -> Node:
    """An argument that is the same text in all rows, as constant text."""
    if node.kind == "argument" and rows and same_in_all(node.name, rows):
        value = rows[0][node.name]
        if isinstance(value, str):
            return replace(node, kind="text", text=value)
    return node


def _movable(trace: Trace, program: str, steps: list[Node]) -> Iterable[Advice]:
    """Constant text after the first open part, in the same message or a message of its own,
    and before the model writes."""
    known = trace.constant_of(steps)
    rest = steps[known.nodes :]
    if not rest or rest[0].kind not in ("argument", "use"):
        return
    hole, text = rest[0], known.text
    kind = "argument" if hole.kind == "argument" else "variable"
    before, before_where = f"{kind} {hole.name!r}", hole.where
    for part in _parts(steps, known.nodes):
        if part.whole:
            before, before_where = f"the message with {kind} {hole.name!r}", part.opened
        moved = "".join(trace.rendered(node, part.previous) for node in part.nodes)
        tokens = trace.count_tokens(text + moved) - trace.count_tokens(text)
        text += moved
        shown = "".join(node.text for node in part.nodes)
        yield Advice(program, shown, part.where, before, before_where, tokens)


class _Part(NamedTuple):
    nodes: list[Node]
    whole: bool
    """It is a message of its own."""
    previous: str | None
    """Role of the message before it."""
    opened: Where
    """Where the message of the first open part begins."""

    @property
    def where(self) -> Where:
        return next((node.where for node in self.nodes if node.kind == "text"), None)


def _parts(steps: list[Node], first: int) -> Iterable[_Part]:
    """The constant parts after step ``first``, an open one."""
    begins = [n for n in steps[:first] if n.kind == "role_begin"]
    opened = begins[-1].where if begins else steps[first].where
    inside = len(begins) > sum(n.kind == "role_end" for n in steps[:first])
    home, part, pure, previous = inside or not begins, [], True, None
    for node in steps[first + 1 :]:
        if node.kind == "role_begin":
            if home and not inside and _says_something(part):
                yield _Part(part, False, previous, opened)
            home, part, pure = False, [node], True
        elif node.kind == "role_end":
            if home and _says_something(part):
                yield _Part(part, False, previous, opened)
            elif not home and pure and _says_something(part):
                yield _Part([*part, node], True, previous, opened)
            home, part, previous = False, [], node.name
        elif node.kind in ("text", "read", "set", "scope_begin", "scope_end"):
            if node.kind == "text":
                part.append(node)
        elif node.kind in ("argument", "use", "image"):
            if home and _says_something(part):
                yield _Part(part, False, previous, opened)
                part = []
            pure = False
            part = part if not home else []
        else:
            break
    if home and _says_something(part):
        yield _Part(part, False, previous, opened)


def _says_something(part: list[Node]) -> bool:
    return bool("".join(node.text for node in part).strip())
