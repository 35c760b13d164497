"""An automaton whose states are made as texts reach them.

The whole automaton of ``(a|b)*a(a|b){20}`` has a million states, of which a text of a hundred
characters sees a hundred. A state here is a number for a set of NFA states (subset construction,
one row at a time, as in grep and RE2). What is kept of them is bounded: when there is too much,
all of it is dropped and made again where it is needed. A number stays valid all the same, for
each state remembers for ever, in eight bytes, the state and the class that it was first reached
by: its set is found again by that way. So cursors and masks hold plain numbers, as always.
"""

from __future__ import annotations

import threading
from array import array

import numpy as np

from sglnb.runtime.constraints.determinize import Subsets
from sglnb.runtime.constraints.dfa import DFA
from sglnb.runtime.constraints.shortest import Back

MAX_BYTES = 48 << 20
"""Memory for the states that are kept."""
_MAX_PARTS = 64


class LazyDFA(DFA):
    """The automaton of ``subsets``, unfolded on demand; not the smallest one. The start is 0, and
    every state can reach a final one. For several threads.

    Args:
        subsets: the sets of NFA states.
        max_bytes: memory for the states that are kept, about.
    """

    complete = False

    def __init__(self, subsets: Subsets, max_bytes: int = MAX_BYTES):
        self.alphabet = subsets.alphabet
        self.rows = _Rows(self)
        self._subsets = subsets
        self._lock = threading.RLock()
        self._width = len(self.alphabet)
        self._origin = array("q")
        """Of each state, from where it was reached: state * width + class. Negative: a set of one
        NFA state, -2 - its position; -1 for the start."""
        self._ends = bytearray()
        self.final = _Finals(self._ends)
        self._single: dict[int, int] = {}
        self._state_bytes = 700 + 2 * (len(subsets.core) // 8) + 66 * min(self._width, 64)
        self._max_kept = max(4, max_bytes // self._state_bytes)
        self._kept = _Kept(self._width, len(self))
        self._number(subsets.start, -1)

    def __len__(self) -> int:
        """How many states were made so far."""
        return len(self._origin)

    @property
    def nbytes(self) -> int:
        """Memory that it takes now, about."""
        nfa = len(self._subsets.core) * (len(self._subsets.core) // 8 + 300)
        return nfa + len(self._kept.number) * self._state_bytes + self._kept.nbytes + 9 * len(self)

    # -- one state ---------------------------------------------------------------------------

    def _number(self, subset: int, origin: int) -> int:
        """The state of ``subset``, which may be new."""
        known = self._kept.number.get(subset)
        if known is None:
            known = len(self._origin)
            self._origin.append(origin)
            self._ends.append(bool(subset & self._subsets.end))
            self._kept.add(known, subset)
        return known

    def _subset(self, state: int) -> int:
        """The NFA states of ``state``, found again by the way to it if need be."""
        way = []
        while (subset := self._kept.subset.get(state)) is None:
            origin = self._origin[state]
            if origin < 0:
                subset = self._subsets.start if origin == -1 else 1 << (-2 - origin)
                self._kept.add(state, subset)
                break
            way.append(state)
            state = origin // self._width
        for state in reversed(way):
            by = self._origin[state] % self._width
            subset = next(to for classes, to in self._subsets.exits(subset) if by in classes)
            self._kept.add(state, subset)
        return subset

    def row(self, state: int) -> dict[int, int]:
        """Next state by class."""
        known = self._kept.rows.get(state)
        if known is not None:
            return known
        with self._lock:
            self._make_room()
            return self._expand(state)

    def _expand(self, state: int) -> dict[int, int]:
        known = self._kept.rows.get(state)
        if known is None:
            known = {}
            for classes, subset in self._subsets.exits(self._subset(state)):
                target = self._number(subset, state * self._width + classes[0])
                known.update(dict.fromkeys(classes, target))
            self._kept.fill(state, known)
        return known

    def _make_room(self) -> None:
        if len(self._kept.subset) > self._max_kept:
            self._kept = _Kept(self._width, len(self))

    # -- many states -------------------------------------------------------------------------

    def step(self, states: np.ndarray, classes: np.ndarray) -> np.ndarray:
        with self._lock:
            self._make_room()
            kept = self._kept
            slots = kept.slot[states]
            fresh = np.unique(states[slots < 0]).tolist()
            for state in fresh:
                self._expand(state)
            return kept.table[kept.slot[states] if fresh else slots, classes]

    def parts(self, state: int) -> list[int]:
        """States whose texts are together those of ``state``: one for each NFA state in its set.
        Sets of many are left whole."""
        with self._lock:
            members = self._subsets.members(self._subset(state))
            if not 1 < len(members) <= _MAX_PARTS:
                return [state]
            for member in members:
                if member not in self._single:
                    self._single[member] = self._number(1 << member, -2 - member)
            return [self._single[member] for member in members]

    # -- ways to the end ---------------------------------------------------------------------

    def backwards(self) -> Back:
        """The NFA, for the shortest ways: that of a state is the shortest of its NFA states."""
        nfa, classes = self._subsets.nfa, self.alphabet.members
        into: list[list[tuple[int, int | None]]] = [[] for _ in nfa.moves]
        label: dict[int, int] = {}
        for q, (empty, moves) in enumerate(zip(nfa.empty, nfa.moves, strict=True)):
            for target in empty:
                into[target].append((q, None))
            for number, target in moves:
                if classes[number]:
                    into[target].append((q, label.setdefault(number, len(label))))
        return Back(into, [nfa.end], [classes[number] for number in label])

    def nodes(self, state: int) -> list[int]:
        core = self._subsets.core
        with self._lock:
            return [core[i] for i in self._subsets.members(self._subset(state))]

    # -- the drawing -------------------------------------------------------------------------

    @property
    def seen(self) -> list[int]:
        with self._lock:
            return sorted(self._kept.rows)


class _Kept:
    """What may be dropped: sets of NFA states, rows, and the rows as a table.

    Attributes:
        table: next state by row and class. Row 0 is that of state -1 and the last column that of
            class -1: there is none.
        slot: the row of each state, -1 of one that has none yet. The last one is of state -1.
    """

    def __init__(self, width: int, n_states: int):
        self.subset: dict[int, int] = {}
        self.number: dict[int, int] = {}
        self.rows: dict[int, dict[int, int]] = {}
        self.table = np.full((64, width + 1), -1, dtype=np.int32)
        self.slot = np.array([0], dtype=np.int32)
        self._enough_slots(n_states)

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.slot.nbytes

    def add(self, state: int, subset: int) -> None:
        self.subset[state] = subset
        self.number.setdefault(subset, state)
        self._enough_slots(state)

    def fill(self, state: int, row: dict[int, int]) -> None:
        at = len(self.rows) + 1
        if at == len(self.table):
            self.table = np.concatenate([self.table, np.full_like(self.table, -1)])
        if row:
            self.table[at, list(row)] = list(row.values())
        self.slot[state] = at
        self.rows[state] = row

    def _enough_slots(self, state: int) -> None:
        if state >= len(self.slot) - 1:
            more = np.full(state + 256, -1, dtype=np.int32)
            self.slot = np.concatenate([self.slot[:-1], more, self.slot[-1:]])


class _Rows:
    """``rows[state]`` of an automaton that makes them."""

    def __init__(self, dfa: LazyDFA):
        self._dfa = dfa

    def __getitem__(self, state: int) -> dict[int, int]:
        return self._dfa.row(state)


class _Finals:
    """``state in final``."""

    def __init__(self, ends: bytearray):
        self._ends = ends

    def __contains__(self, state: int) -> bool:
        return bool(self._ends[state])
