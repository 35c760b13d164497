"""How long a text has to be: a lower bound that is told before a request runs.

A bound, no exact distance: the fewest bytes of any text, divided by the longest token. It never
refuses what could fit.
"""

from __future__ import annotations

import heapq

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.base import Constraint
from sglnb.runtime.constraints.dfa import DFA
from sglnb.runtime.constraints.vocabulary import Vocabulary


def least_bytes(dfa: DFA) -> int:
    """UTF-8 bytes of the shortest text that ``dfa`` accepts (Dijkstra from the start state)."""
    cheapest = [len(chr(sets[0][0]).encode()) for sets in dfa.alphabet.sets]
    best = {0: 0}
    heap = [(0, 0)]
    while heap:
        spent, state = heapq.heappop(heap)
        if state in dfa.final:
            return spent
        if spent > best[state]:
            continue
        for char_class, target in dfa.rows[state].items():
            cost = spent + cheapest[char_class]
            if cost < best.get(target, cost + 1):
                best[target] = cost
                heapq.heappush(heap, (cost, target))
    return 0


def least_tokens(n_bytes: int, vocabulary: Vocabulary) -> int:
    """No fewer tokens spell ``n_bytes``."""
    return -(-n_bytes // vocabulary.longest)


def check_budget(constraint: Constraint, max_new_tokens: int) -> None:
    """Raise ConstraintError when no text of ``constraint`` fits in ``max_new_tokens``."""
    if 0 < max_new_tokens < constraint.min_tokens:
        raise ConstraintError(
            f"{constraint.kind}: every text that satisfies it has at least "
            f"{constraint.min_tokens:,} tokens, more than max_new_tokens={max_new_tokens:,}; "
            "raise max_tokens"
        )
