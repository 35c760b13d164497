"""A fixed list of texts as an automaton: a trie whose equal endings are shared."""

from __future__ import annotations

from collections.abc import Sequence

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.determinize import renumber
from sglnb.runtime.constraints.dfa import DFA, Alphabet

MAX_CHARACTERS = 1_000_000


def check_choices(choices: Sequence[str]) -> tuple[str, ...]:
    """The distinct choices, in order.

    Raises:
        ConstraintError: no choice, or one that is not text.
    """
    if isinstance(choices, str) or not isinstance(choices, Sequence):
        raise ConstraintError(f"choices: expected a list of strings, got {type(choices).__name__}")
    for i, choice in enumerate(choices):
        if not isinstance(choice, str):
            raise ConstraintError(
                f"choices[{i}]: expected a string, got {type(choice).__name__} {choice!r}"
            )
        try:
            choice.encode()
        except UnicodeEncodeError:
            raise ConstraintError(
                f"choices[{i}]: {choice!r} holds half a surrogate pair, which is not text"
            ) from None
    if not choices:
        raise ConstraintError("choices: the list is empty; give at least one string")
    distinct = tuple(dict.fromkeys(choices))
    if (total := sum(map(len, distinct))) > MAX_CHARACTERS:
        raise ConstraintError(
            f"choices: {total:,} characters in all, more than {MAX_CHARACTERS:,}; shorten the list"
        )
    return distinct


def choices_dfa(choices: tuple[str, ...]) -> DFA:
    """The smallest automaton that accepts exactly ``choices``."""
    alphabet = Alphabet([((ord(c), ord(c)),) for c in sorted(set("".join(choices)))])
    rows: list[dict[int, int]] = [{}]
    final = set()
    for choice in choices:
        q = 0
        for char in choice:
            c = alphabet.class_of(ord(char))
            if c not in rows[q]:
                rows[q][c] = len(rows)
                rows.append({})
            q = rows[q][c]
        final.add(q)
    # Children come after their parents, so backwards every child is settled first.
    same: dict[tuple, int] = {}
    block: dict[int, int] = {}
    for q in range(len(rows) - 1, -1, -1):
        exits = tuple(sorted((c, block[target]) for c, target in rows[q].items()))
        block[q] = same.setdefault((q in final, exits), q)
    return renumber(DFA(alphabet, rows, final), block)
