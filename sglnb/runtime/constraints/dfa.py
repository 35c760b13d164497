"""A deterministic automaton over classes of characters.

The alphabet is not bytes and not code points: code points that the regex never tells apart
are one class, so ``\\w`` costs a handful of classes instead of 140,000 characters.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import numpy as np

from sglnb.runtime.constraints.charset import CharSet, runs, size
from sglnb.runtime.constraints.once import once
from sglnb.runtime.constraints.shortest import Back

_DENSE_ENTRIES = 4_000_000


class Alphabet:
    """A partition of the code points into classes; code points of no set have none.

    Attributes:
        sets: the code points of each class.
        members: for each of the sets it was made from, its classes.
    """

    def __init__(self, sets: list[CharSet]):
        bounds = {0}
        for chars in sets:
            bounds.update(edge for lo, hi in chars for edge in (lo, hi + 1))
        starts = np.array(sorted(bounds), dtype=np.int64)
        # Refine by one set after the other; a set of one character only splits itself off.
        label = np.zeros(len(starts), dtype=np.int64)
        inside = np.zeros(len(starts), dtype=bool)
        spans = []
        for chars in sets:
            edges = np.array([(lo, hi + 1) for lo, hi in chars], dtype=np.int64).reshape(-1, 2)
            spans.append(np.searchsorted(starts, edges))
        singles = [span for chars, span in zip(sets, spans, strict=True) if size(chars) == 1]
        for chars, span in zip(sets, spans, strict=True):
            if size(chars) == 1:
                continue
            member = np.zeros(len(starts), dtype=bool)
            for lo, hi in span:
                member[lo:hi] = True
            inside |= member
            label = np.unique(label * 2 + member, return_inverse=True)[1].reshape(-1)
        fresh = int(label.max()) + 1
        for number, span in enumerate(singles):
            label[span[0, 0]] = fresh + number
            inside[span[0, 0]] = True
        _, first, index = np.unique(label[inside], return_index=True, return_inverse=True)
        # Number the classes by their first code point: stable, and pleasant to read.
        rank = np.empty(len(first), dtype=np.int32)
        rank[np.argsort(first)] = np.arange(len(first))
        self._starts = starts
        self._class = np.full(len(starts), -1, dtype=np.int32)
        self._class[inside] = rank[index.reshape(-1)]
        self._starts_list = starts.tolist()
        self._class_list = self._class.tolist()
        self._ascii = [self._class_of(c) for c in range(128)]
        ends = [*self._starts_list[1:], 0x110000]
        ranges: list[list[tuple[int, int]]] = [[] for _ in first]
        for lo, hi, c in zip(self._starts_list, ends, self._class_list, strict=True):
            if c >= 0:
                if ranges[c] and ranges[c][-1][1] == lo - 1:
                    ranges[c][-1] = (ranges[c][-1][0], hi - 1)
                else:
                    ranges[c].append((lo, hi - 1))
        self.sets: list[CharSet] = [tuple(r) for r in ranges]
        self.members = [
            np.unique(np.concatenate([self._class[lo:hi] for lo, hi in span])).tolist()
            if len(span)
            else []
            for span in spans
        ]

    def __len__(self) -> int:
        return len(self.sets)

    def _class_of(self, code: int) -> int:
        return self._class_list[bisect_right(self._starts_list, code) - 1]

    def class_of(self, code: int) -> int:
        """Class of one code point, -1 if none."""
        return self._ascii[code] if code < 128 else self._class_of(code)

    def classify(self, codes: np.ndarray) -> np.ndarray:
        """Classes of many code points, int32."""
        return self._class[np.searchsorted(self._starts, codes, side="right") - 1]

    def overlapping(self, lo: int, hi: int) -> np.ndarray:
        """Whether each class has a code point from ``lo`` to ``hi``, bool."""
        out = np.zeros(len(self), dtype=bool)
        first = bisect_right(self._starts_list, lo) - 1
        last = bisect_right(self._starts_list, hi)
        touched = self._class[first:last]
        out[touched[touched >= 0]] = True
        return out

    def overlaps(self, lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
        """Whether each class has a code point in each of the ranges, bool (classes, ranges)."""
        out = np.zeros((len(self), len(lows)), dtype=bool)
        first = np.searchsorted(self._starts, lows, side="right") - 1
        count = np.searchsorted(self._starts, highs, side="right") - first
        touched = self._class[runs(first, count)]
        which = np.repeat(np.arange(len(lows)), count)
        out[touched[touched >= 0], which[touched >= 0]] = True
        return out

    @once
    def single(self) -> list[str | None]:
        """The character of each class that has only one."""
        return [chr(s[0][0]) if size(s) == 1 else None for s in self.sets]


class DFA:
    """States are numbers, the start is 0, every state can reach a final one.

    Args:
        alphabet: the classes.
        rows: for each state, next state by class.
        final: the states where a text may end.
    """

    complete = True
    """Whether all of it is there; :class:`.lazy.LazyDFA` makes states on demand."""

    def __init__(self, alphabet: Alphabet, rows: list[dict[int, int]], final: Iterable[int]):
        self.alphabet = alphabet
        self.rows = rows
        self.final = frozenset(final)

    def __len__(self) -> int:
        return len(self.rows)

    def step(self, states: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Next state of each (state, class) pair, -1 where there is none and from state -1."""
        width = len(self.alphabet) + 1
        keys = states * width + classes  # class -1 lands on the column before, never used
        if self._dense is not None:
            return self._dense[keys]
        known, target = self._sparse
        at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where(known[at] == keys, target[at], -1)

    @once
    def _sparse(self) -> tuple[np.ndarray, np.ndarray]:
        width = len(self.alphabet) + 1
        pairs = sorted(
            (q * width + c, t) for q, row in enumerate(self.rows) for c, t in row.items()
        )
        table = np.array(pairs or [(-1, -1)], dtype=np.int64).T
        return table[0].copy(), table[1].copy()

    @once
    def _dense(self) -> np.ndarray | None:
        entries = (len(self.rows) + 1) * (len(self.alphabet) + 1)  # the last row: of state -1
        if entries > _DENSE_ENTRIES:
            return None
        table = np.full(entries, -1, dtype=np.int32)
        known, target = self._sparse
        table[known] = target
        return table

    def parts(self, state: int) -> list[int]:
        """States whose texts are together those of ``state``, and which may be easier."""
        return [state]

    def nodes(self, state: int) -> list[int]:
        """The nodes of :meth:`backwards` that are ``state``."""
        return [state]

    def backwards(self) -> Back:
        """The automaton, for the shortest ways to its ends."""
        into: list[list[tuple[int, int | None]]] = [[] for _ in self.rows]
        for state, row in enumerate(self.rows):
            for char_class, target in row.items():
                into[target].append((state, char_class))
        return Back(into, list(self.final), [[c] for c in range(len(self.alphabet))])

    @property
    def seen(self) -> Iterable[int]:
        """The states that were made so far: all."""
        return range(len(self))

    def only_exit(self, state: int) -> tuple[str, int] | None:
        """The one way on from ``state``: (character, next state). None if there is a choice;
        that a text may end in ``state`` is one."""
        row = self.rows[state]
        if len(row) != 1 or state in self.final:
            return None
        ((c, target),) = row.items()
        char = self.alphabet.single[c]
        return None if char is None else (char, target)

    @once
    def nbytes(self) -> int:
        """Memory that it takes, about: a Python dict for each state, and the tables of it."""
        edges = sum(map(len, self.rows))
        entries = (len(self.rows) + 1) * (len(self.alphabet) + 1)
        dense = 4 * entries if entries <= _DENSE_ENTRIES else 0
        return 232 * len(self.rows) + (50 + 12) * edges + dense

    def live_classes(self, states: np.ndarray) -> np.ndarray:
        """Whether each class leads on from each of ``states``, bool (states, classes)."""
        out = np.zeros((len(states), len(self.alphabet)), dtype=bool)
        for i, q in enumerate(states.tolist()):
            out[i, list(self.rows[q])] = True
        return out

    def matches(self, text: str) -> bool:
        """Whether the automaton accepts ``text``, character by character."""
        state: int | None = 0
        for char in text:
            state = self.rows[state].get(self.alphabet.class_of(ord(char)))
            if state is None:
                return False
        return state in self.final
