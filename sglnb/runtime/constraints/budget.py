"""How many tokens a text has to have at least: told before a request runs."""

from __future__ import annotations

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.base import Closer, Constraint
from sglnb.runtime.constraints.dfa import DFA
from sglnb.runtime.constraints.shortest import shortest_ways
from sglnb.runtime.constraints.vocabulary import Vocabulary

ON_BUDGET = ("close", "cut", "error")
"""What to do when ``max_new_tokens`` runs out before a constraint is met: bring the text to a legal
end in time; leave it as it is; leave it, and fail."""

_CLOSED = ("json_schema", "type")
"""Kinds that are closed unless something else is asked for: half a JSON is of no use."""


def least_bytes(dfa: DFA) -> int:
    """UTF-8 bytes of the shortest text that ``dfa`` accepts."""
    cost = [len(chr(chars[0][0]).encode()) for chars in dfa.alphabet.sets]
    return shortest_ways(dfa.backwards(), cost).length[0]


def least_tokens(n_bytes: int, vocabulary: Vocabulary) -> int:
    """No fewer tokens spell ``n_bytes``."""
    return -(-n_bytes // vocabulary.longest)


def closer_for(
    constraint: Constraint, budget: int, on_budget: str | None, may_be_cut: bool
) -> Closer | None:
    """What keeps a text of ``constraint`` within ``budget`` tokens; None: nothing does.

    Args:
        on_budget: one of :data:`ON_BUDGET`; None: what suits the constraint.
        may_be_cut: a stop string may end the text earlier, so it need not fit.

    Raises:
        ConstraintError: no text of it fits, or with "close" none that fits was found. Not with
            "cut", nor where it may be cut.
    """
    if not budget or on_budget == "cut":
        return None
    close = (on_budget or ("close" if constraint.kind in _CLOSED else "cut")) == "close"
    least = 0 if may_be_cut else constraint.at_least(budget)
    if least > budget:
        raise ConstraintError(
            f"{constraint.kind}: every text that satisfies it has at least {least:,} tokens, more "
            f"than max_new_tokens={budget:,}; raise max_tokens, or take on_budget='cut'"
        )
    closer = constraint.closer(budget) if close else None
    if closer is None and close and not may_be_cut:
        raise ConstraintError(
            f"{constraint.kind}: no text that satisfies it in max_new_tokens={budget:,} tokens was "
            "found; raise max_tokens, or take on_budget='cut'"
        )
    return closer
