"""Subset construction: the deterministic automaton of a nondeterministic one."""

from __future__ import annotations

import numpy as np

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.dfa import DFA, Alphabet
from sglnb.runtime.constraints.nfa import NFA
from sglnb.runtime.constraints.turns import step

MAX_STATES = 10_000
MAX_STEPS = 2_000_000
"""Work limit, counted in positions looked at: about half a second."""
_MAX_SPLITS = 20_000
_MAX_WORD_BYTES = 16 << 20
_FULL = 12


class TooLarge(ConstraintError):
    """The whole automaton is more than should be built."""


class Subsets:
    """The sets of NFA states that texts lead to, as Python integers: one bit for each state that
    reads a character or is the end.

    States from which no end can be reached are in no set. So an empty set is where no text goes
    on, and every other one can reach an end.

    Attributes:
        nfa: the automaton.
        alphabet: the classes that its sets of characters make.
        core: the states that have a bit, in its order.
        start: the set before the first character.
        end: the bit of the accepting state.

    Raises:
        ConstraintError: no text matches, or following the empty moves is too much work.
    """

    def __init__(self, nfa: NFA):
        self.nfa = nfa
        self.alphabet = Alphabet(nfa.sets)
        live = nfa.live()
        self._moves = [
            [(s, to) for s, to in moves if to in live and nfa.sets[s]] for moves in nfa.moves
        ]
        self.core = [
            q for q, moves in enumerate(self._moves) if q in live and (moves or q == nfa.end)
        ]
        self._bit = {q: 1 << i for i, q in enumerate(self.core)}
        self._closures: dict[int, int] = {}
        self._splits: dict[frozenset[int], list[tuple[list[int], list[int]]]] = {}
        self._words: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._left = MAX_STEPS
        for q in reversed(range(len(nfa.moves))):  # mostly successors first
            if q % 1024 == 0:
                step()
            self._closures[q] = self._closure(q)
        self.start = self._closures[0]
        self.end = self._bit.get(nfa.end, 0)
        if not self.start:
            raise ConstraintError("regex: no text at all matches it; look for an empty class")

    def _work(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooLarge(
                "regex: its automaton is too large (too many overlapping positions). Lower the "
                "counted repeats, or avoid a repeat of alternatives that overlap"
            )

    def _closure(self, state: int) -> int:
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
        self._work(len(seen))
        return out

    def members(self, subset: int) -> list[int]:
        """Positions in ``core`` of the states of ``subset``."""
        raw = np.frombuffer(subset.to_bytes(len(self.core) // 8 + 1, "little"), dtype=np.uint8)
        return np.unpackbits(raw, bitorder="little").nonzero()[0].tolist()

    def exits(self, subset: int) -> list[tuple[list[int], int]]:
        """(classes, next subset) pairs; every class at most once."""
        targets: dict[int, int] = {}
        words = np.frombuffer(subset.to_bytes(8 * (len(self.core) // 64 + 1), "little"), "<u8")
        at = words.nonzero()[0]
        for key in zip(at.tolist(), words[at].tolist(), strict=True):
            for number, reached in self._words.get(key) or self._word(*key):
                targets[number] = targets.get(number, 0) | reached
        out = []
        for numbers, classes in self._split(frozenset(targets)):
            reached = 0
            for number in numbers:
                reached |= targets[number]
            out.append((classes, reached))
        return out

    def _word(self, at: int, word: int) -> list[tuple[int, int]]:
        """(set of characters, where it leads) pairs of 64 NFA states. Full words are remembered:
        they come back, for long counted repeats are all ones."""
        steps = []
        left = word
        while left:
            low = left & -left
            left ^= low
            for number, target in self._moves[self.core[64 * at + low.bit_length() - 1]]:
                steps.append((number, self._closures[target]))
        if word.bit_count() < _FULL:
            return steps
        targets: dict[int, int] = {}
        for number, reached in steps:
            targets[number] = targets.get(number, 0) | reached
        if len(self._words) * (len(self.core) // 8 + 300) > _MAX_WORD_BYTES:
            self._words.clear()
        self._words[at, word] = list(targets.items())
        return self._words[at, word]

    def _split(self, numbers: frozenset[int]) -> list[tuple[list[int], list[int]]]:
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
            if len(self._splits) > _MAX_SPLITS:
                self._splits.clear()
            known = self._splits[numbers] = [(list(k), v) for k, v in groups.items()]
        return known

    def determinize(self) -> DFA:
        """The whole automaton.

        Raises:
            TooLarge: too many states or too much work.
        """
        number = {self.start: 0}
        rows: list[dict[int, int]] = []
        queue = [self.start]
        self._left = MAX_STEPS
        for subset in queue:
            if len(rows) % 64 == 0:
                step()
            row: dict[int, int] = {}
            self._work(subset.bit_count() * (1 + len(self.core) // 2048))
            for classes, reached in self.exits(subset):
                self._work(len(classes))
                if reached not in number:
                    if len(queue) >= MAX_STATES:
                        raise TooLarge(f"regex: its automaton has over {MAX_STATES:,} states")
                    number[reached] = len(queue)
                    queue.append(reached)
                row.update(dict.fromkeys(classes, number[reached]))
            rows.append(row)
        return DFA(self.alphabet, rows, [i for i, s in enumerate(queue) if s & self.end])


def renumber(dfa: DFA, block: dict[int, int]) -> DFA:
    """Merge states: ``block`` maps each state to its representative. The new numbers follow
    breadth first from the start, which is 0."""
    number = {block[0]: 0}
    order = [block[0]]
    rows = []
    for q in order:
        row = {}
        for c, target in sorted(dfa.rows[q].items()):
            to = block[target]
            if to not in number:
                number[to] = len(order)
                order.append(to)
            row[c] = number[to]
        rows.append(row)
    return DFA(dfa.alphabet, rows, [i for i, q in enumerate(order) if q in dfa.final])
