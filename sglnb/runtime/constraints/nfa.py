"""Thompson's construction: a syntax tree becomes a nondeterministic automaton."""

from __future__ import annotations

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.charset import CharSet
from sglnb.runtime.constraints.syntax import Chars, Concat, Node, Repeat, Union

MAX_NFA_STATES = 20_000


class NFA:
    """States are numbers; state 0 is the start.

    Attributes:
        empty: for each state, the states that it reaches without a character.
        moves: for each state, its ``(set number, next state)`` pairs.
        sets: the distinct character sets.
        end: the one accepting state.
    """

    def __init__(self, node: Node):
        self.empty: list[list[int]] = [[]]
        self.moves: list[list[tuple[int, int]]] = [[]]
        self._set_ids: dict[CharSet, int] = {}
        self.end = self._add(node, 0)
        self.sets: list[CharSet] = list(self._set_ids)

    def _new(self) -> int:
        if len(self.empty) >= MAX_NFA_STATES:
            raise ConstraintError(
                f"regex: with its counted repeats spelled out it has more than "
                f"{MAX_NFA_STATES:,} positions; lower the counts, or use * and max_tokens"
            )
        self.empty.append([])
        self.moves.append([])
        return len(self.empty) - 1

    def _add(self, node: Node, start: int) -> int:
        """Append ``node`` after ``start``; returns the state after it. Only fresh loop heads
        get edges back, so a start may be shared with what came before."""
        if isinstance(node, Chars):
            end = self._new()
            number = self._set_ids.setdefault(node.chars, len(self._set_ids))
            self.moves[start].append((number, end))
            return end
        if isinstance(node, Concat):
            for part in node.parts:
                start = self._add(part, start)
            return start
        if isinstance(node, Union):
            end = self._new()
            for option in node.options:
                head = self._new()
                self.empty[start].append(head)
                self.empty[self._add(option, head)].append(end)
            return end
        assert isinstance(node, Repeat), node
        return self._repeat(node, start)

    def live(self) -> set[int]:
        """The states from which the end can be reached."""
        before: list[list[int]] = [[] for _ in self.moves]
        for q, (empty, moves) in enumerate(zip(self.empty, self.moves, strict=True)):
            for target in empty:
                before[target].append(q)
            for number, target in moves:
                if self.sets[number]:
                    before[target].append(q)
        live, stack = {self.end}, [self.end]
        while stack:
            for q in before[stack.pop()]:
                if q not in live:
                    live.add(q)
                    stack.append(q)
        return live

    def _repeat(self, node: Repeat, start: int) -> int:
        for _ in range(node.low):
            start = self._add(node.body, start)
        if node.high is None:
            head = self._new()
            self.empty[start].append(head)
            self.empty[self._add(node.body, head)].append(head)
            return head
        end = self._new()
        for _ in range(node.high - node.low):
            # Every copy leaves straight for the end, so that closures stay small.
            self.empty[start].append(end)
            start = self._add(node.body, start)
        self.empty[start].append(end)
        return end
