"""The smallest automaton of a language.

Partition refinement after Moore (1956), all states at once in numpy. Its rounds are as many as
the longest text that is needed to tell two states apart, so it begins with the states already
told apart by their shortest and their longest text: after that a long chain takes a few rounds.
"""

from __future__ import annotations

import numpy as np

from sglnb.runtime.constraints.determinize import renumber
from sglnb.runtime.constraints.dfa import DFA
from sglnb.runtime.constraints.shortest import FAR, Back, shortest_ways

MAX_WORK = 60_000_000
"""Table entries looked at, about half a second. Automata that need more are left as they are:
right, only not the smallest."""


def minimize(dfa: DFA) -> DFA:
    """Merge the states of ``dfa`` (trimmed) that no text tells apart."""
    n, width = len(dfa), len(dfa.alphabet)
    if n * (width + 1) > MAX_WORK // 4:
        return dfa
    table = np.full((n, width), -1, dtype=np.int32)
    for state, row in enumerate(dfa.rows):
        table[state, list(row)] = list(row.values())
    # Rows are compared by their hashes, and in full at the end.
    weight = np.random.default_rng(1956).integers(1, 1 << 62, width + 1, dtype=np.uint64)
    back = dfa.backwards()
    lengths = [shortest_ways(back, [1] * width).length, _longest(dfa, back)]
    _, block = np.unique(np.array(lengths), axis=1, return_inverse=True)
    block = block.reshape(-1)
    count = int(block.max()) + 1
    for _ in range(2 + MAX_WORK // (n * (width + 20))):
        block_of = np.append(block, count).astype(np.uint64)  # the last one: there is no way on
        seen = block_of[table] @ weight[:-1] + block_of[:-1] * weight[-1]
        _, first, finer = np.unique(seen, return_index=True, return_inverse=True)
        if len(first) == count:
            same = first[finer]
            if not np.array_equal(block_of[table], block_of[table[same]]):
                return dfa  # two hashes were the same
            return renumber(dfa, dict(enumerate(same.tolist())))
        block, count = finer, len(first)
    return dfa


def _longest(dfa: DFA, back: Back) -> list[int]:
    """Characters of the longest text from each state; :data:`FAR` if there is none."""
    length = [FAR] * len(dfa)
    left = [len(row) for row in dfa.rows]
    queue = [state for state, exits in enumerate(left) if not exits]
    for state in queue:
        length[state] = max((length[to] + 1 for to in dfa.rows[state].values()), default=0)
        for source, _ in back.into[state]:
            left[source] -= 1
            if not left[source]:
                queue.append(source)
    return length
