"""Subset construction: the deterministic automaton of a nondeterministic one, trimmed."""

from __future__ import annotations

import numpy as np

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.dfa import DFA, Alphabet
from sglnb.runtime.constraints.nfa import NFA

MAX_STATES = 10_000
MAX_STEPS = 2_000_000
"""Work limit, counted in positions looked at: about half a second."""

_TOO_LARGE = (
    "regex: its automaton is too large ({what}). Lower the counted repeats, or avoid a "
    "repeat of alternatives that overlap, such as (.*a.{{20}})"
)


def determinize(nfa: NFA) -> DFA:
    """Subset construction, then drop the states from which no end can be reached.

    Raises:
        ConstraintError: too many states or too much work, or the language is empty.
    """
    return trim(_Subsets(nfa).build())


class _Subsets:
    """Subsets are Python integers, one bit for each state that matters."""

    def __init__(self, nfa: NFA):
        self.nfa = nfa
        self.alphabet = Alphabet(nfa.sets)
        self.steps = 0
        self._core = [q for q, moves in enumerate(nfa.moves) if moves or q == nfa.end]
        self._bit = {q: 1 << i for i, q in enumerate(self._core)}
        self._closures: dict[int, int] = {}
        self._splits: dict[frozenset[int], list[tuple[list[int], list[int]]]] = {}
        for q in reversed(range(len(nfa.moves))):  # mostly successors first
            self._closures[q] = self.closure(q)

    def build(self) -> DFA:
        start = self._closures[0]
        number = {start: 0}
        rows: list[dict[int, int]] = []
        queue = [start]
        for subset in queue:
            row: dict[int, int] = {}
            for classes, targets in self.exits(subset):
                if targets not in number:
                    if len(queue) >= MAX_STATES:
                        raise ConstraintError(_TOO_LARGE.format(what=f"over {MAX_STATES:,} states"))
                    number[targets] = len(queue)
                    queue.append(targets)
                row.update(dict.fromkeys(classes, number[targets]))
            rows.append(row)
        end = self._bit[self.nfa.end]
        return DFA(self.alphabet, rows, [i for i, subset in enumerate(queue) if subset & end])

    def work(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise ConstraintError(_TOO_LARGE.format(what="too many overlapping positions"))

    def closure(self, state: int) -> int:
        """The states reached without a character that read one, or are the end."""
        seen, stack, out = {state}, [state], 0
        while stack:
            at = stack.pop()
            if at in self._closures:
                out |= self._closures[at]
                continue
            out |= self._bit.get(at, 0)
            for target in self.nfa.empty[at]:
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        self.work(len(seen))
        return out

    def members(self, subset: int) -> list[int]:
        raw = np.frombuffer(subset.to_bytes(len(self._core) // 8 + 1, "little"), dtype=np.uint8)
        return np.unpackbits(raw, bitorder="little").nonzero()[0].tolist()

    def exits(self, subset: int) -> list[tuple[list[int], int]]:
        """(classes, next subset) pairs; every class at most once."""
        targets: dict[int, int] = {}
        members = self.members(subset)
        self.work(len(members) * (1 + len(self._core) // 2048))
        for member in members:
            for number, target in self.nfa.moves[self._core[member]]:
                targets[number] = targets.get(number, 0) | self._closures[target]
        out = []
        for numbers, classes in self.split(frozenset(targets)):
            self.work(len(classes))
            reached = 0
            for number in numbers:
                reached |= targets[number]
            out.append((classes, reached))
        return out

    def split(self, numbers: frozenset[int]) -> list[tuple[list[int], list[int]]]:
        """The classes of some sets, grouped by which of the sets they are in."""
        known = self._splits.get(numbers)
        if known is None:
            holders: dict[int, list[int]] = {}
            for number in sorted(numbers):
                for c in self.alphabet.members[number]:
                    holders.setdefault(c, []).append(number)
            groups: dict[tuple[int, ...], list[int]] = {}
            for c, held in holders.items():
                groups.setdefault(tuple(held), []).append(c)
            self.work(len(holders))
            known = self._splits[numbers] = [(list(k), v) for k, v in groups.items()]
        return known


def trim(dfa: DFA) -> DFA:
    """Keep the states from which a final one can be reached.

    Raises:
        ConstraintError: there are none, the start included.
    """
    sources: list[list[int]] = [[] for _ in dfa.rows]
    for q, row in enumerate(dfa.rows):
        for target in set(row.values()):
            sources[target].append(q)
    live = set(dfa.final)
    stack = list(live)
    while stack:
        for q in sources[stack.pop()]:
            if q not in live:
                live.add(q)
                stack.append(q)
    if 0 not in live:
        raise ConstraintError("regex: no text at all matches it; look for an empty class")
    return renumber(dfa, {q: q for q in live})


def renumber(dfa: DFA, block: dict[int, int]) -> DFA:
    """Merge states: ``block`` maps each state that stays to its representative. The new
    numbers follow breadth first from the start, which is 0."""
    number = {block[0]: 0}
    order = [block[0]]
    rows = []
    for q in order:
        row = {}
        for c, target in sorted(dfa.rows[q].items()):
            if target in block:
                to = block[target]
                if to not in number:
                    number[to] = len(order)
                    order.append(to)
                row[c] = number[to]
        rows.append(row)
    return DFA(dfa.alphabet, rows, [i for i, q in enumerate(order) if q in dfa.final])
