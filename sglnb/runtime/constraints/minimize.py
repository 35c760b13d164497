"""The smallest automaton of a language.

Partition refinement after Hopcroft, in the form of Valmari and Lehtinen (2008), "Efficient
minimization of DFAs with partial transition functions": O(m log n) for m transitions, and
no dead state is needed.
"""

from __future__ import annotations

from sglnb.runtime.constraints.determinize import renumber
from sglnb.runtime.constraints.dfa import DFA

MAX_TRANSITIONS = 150_000
"""Larger automata are left as they are: right, only not the smallest."""


class _Partition:
    """Refinable partition of 0..n-1: split off what was marked, smaller half new."""

    def __init__(self, n: int):
        self.elements = list(range(n))
        self.location = list(range(n))
        self.block_of = [0] * n
        self.first = [0] if n else []
        self.past = [n] if n else []
        self.marked = [0] if n else []
        self.touched: list[int] = []

    def __len__(self) -> int:
        return len(self.first)

    def members(self, block: int) -> list[int]:
        return self.elements[self.first[block] : self.past[block]]

    def mark(self, e: int) -> None:
        block, at = self.block_of[e], self.location[e]
        to = self.first[block] + self.marked[block]
        if at < to:
            return
        other = self.elements[to]
        self.elements[at], self.location[other] = other, at
        self.elements[to], self.location[e] = e, to
        if not self.marked[block]:
            self.touched.append(block)
        self.marked[block] += 1

    def split(self) -> None:
        while self.touched:
            block = self.touched.pop()
            middle = self.first[block] + self.marked[block]
            self.marked[block] = 0
            if middle == self.past[block]:
                continue
            if middle - self.first[block] <= self.past[block] - middle:
                self.first.append(self.first[block])
                self.past.append(middle)
                self.first[block] = middle
            else:
                self.first.append(middle)
                self.past.append(self.past[block])
                self.past[block] = middle
            self.marked.append(0)
            for e in self.members(len(self.first) - 1):
                self.block_of[e] = len(self.first) - 1


def minimize(dfa: DFA) -> DFA:
    """Merge the states of ``dfa`` (trimmed) that no text tells apart."""
    moves = [(c, q, target) for q, row in enumerate(dfa.rows) for c, target in row.items()]
    if len(moves) > MAX_TRANSITIONS:
        return dfa
    into: list[list[int]] = [[] for _ in dfa.rows]
    for i, (_, _, target) in enumerate(moves):
        into[target].append(i)
    blocks = _Partition(len(dfa))
    for q in dfa.final:
        blocks.mark(q)
    blocks.split()
    cords = _Partition(len(moves))  # transitions, split by class and then by target block
    by_class: dict[int, list[int]] = {}
    for i, (c, _, _) in enumerate(moves):
        by_class.setdefault(c, []).append(i)
    for group in list(by_class.values())[1:]:
        for i in group:
            cords.mark(i)
        cords.split()
    checked, cord = 1, 0
    while cord < len(cords):
        for i in cords.members(cord):
            blocks.mark(moves[i][1])
        blocks.split()
        cord += 1
        while checked < len(blocks):
            for q in blocks.members(checked):
                for i in into[q]:
                    cords.mark(i)
            cords.split()
            checked += 1
    return renumber(
        dfa, {q: blocks.elements[blocks.first[b]] for q, b in enumerate(blocks.block_of)}
    )
