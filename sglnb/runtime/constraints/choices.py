"""A fixed list of texts as an automaton: a trie whose equal endings are shared."""

from __future__ import annotations

from collections.abc import Sequence

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.dfa import DFA, Alphabet
from sglnb.runtime.constraints.turns import step

MAX_CHARACTERS = 5_000_000


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
    """The smallest automaton that accepts exactly ``choices``, built in one pass over the sorted
    texts (Daciuk and others, 2000, "Incremental construction of minimal acyclic finite-state
    automata"): a state is settled once no later text can pass through it, and equal states are
    one."""
    alphabet = Alphabet([((ord(c), ord(c)),) for c in sorted(set("".join(choices)))])
    classes = {char: c for c, char in enumerate(alphabet.single)}
    rows: list[dict[int, int]] = []
    final: list[int] = []
    known: dict[tuple, int] = {}
    open_rows: list[dict[int, int]] = [{}]  # along the last text, with whether a text ends there
    ends = [False]

    def settle(depth: int, text: str) -> None:
        """Number the states of ``text`` that are deeper than ``depth``."""
        while len(open_rows) > depth + 1:
            number = number_of(open_rows.pop(), ends.pop())
            open_rows[-1][classes[text[len(open_rows) - 1]]] = number

    def number_of(row: dict[int, int], end: bool) -> int:
        key = (end, *row.items())  # in order, as the texts are
        number = known.setdefault(key, len(rows))
        if number == len(rows):
            rows.append(row)
            if end:
                final.append(number)
        return number

    before = ""
    for n, text in enumerate(sorted(choices)):
        if n % 256 == 0:
            step()
        pairs = enumerate(zip(before, text, strict=False))
        settle(next((i for i, (a, b) in pairs if a != b), len(before)), before)
        while len(open_rows) <= len(text):
            open_rows.append({})
            ends.append(False)
        ends[-1] = True
        before = text
    settle(0, before)
    last = number_of(open_rows[0], ends[0])  # the start, numbered last; it becomes 0
    rows = [{c: last - target for c, target in row.items()} for row in reversed(rows)]
    return DFA(alphabet, rows, [last - q for q in final])
