"""Regular expressions that end a text, followed character by character as it grows."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ..errors import ConstraintError
from .constraints.compiler import regex_dfa
from .constraints.dfa import DFA


class Hit(NamedTuple):
    """What ended a text."""

    start: int
    """First character of the match."""
    end: int
    """The character behind it."""
    stop: str
    """The stop string or regex."""


class StopRegexes:
    """All places where a match may have begun, each with its state in an automaton.

    An automaton instead of ``re.search`` tells more: which end of the text may still grow into a
    match (every state can reach a final one), and each character costs the same however long
    the text is.

    Args:
        regexes: Python's syntax, without what a finite automaton cannot do.

    Raises:
        ConstraintError: not a regex, not supported, or it matches the empty text.
    """

    def __init__(self, regexes: tuple[str, ...]):
        self._dfas = [(regex, _dfa(regex)) for regex in regexes]
        self._begun: dict[tuple[int, int], int] = {}
        """First character of the longest beginning in each (automaton, state)."""

    @property
    def open_from(self) -> int | None:
        """First character of what may still become a match; None: nothing may."""
        return min(self._begun.values(), default=None)

    def push(self, text: str, at: int) -> Hit | None:
        """Read ``text``, whose first character is number ``at``; returns the first match to end,
        the longest if several end together. Nothing is to be read behind it."""
        for i, char in enumerate(text, at):
            hits = self._step(char, i)
            if hits:
                return min(hits)
        return None

    def _step(self, char: str, i: int) -> list[Hit]:
        begun: dict[tuple[int, int], int] = {}
        hits = []
        fresh = {(which, 0): i for which in range(len(self._dfas))}
        for (which, state), start in (fresh | self._begun).items():
            regex, dfa = self._dfas[which]
            target = dfa.rows[state].get(dfa.alphabet.class_of(ord(char)))
            if target is None:
                continue
            begun[which, target] = min(start, begun.get((which, target), start))
            if target in dfa.final:
                hits.append(Hit(start, i + 1, regex))
        self._begun = begun
        return hits


@lru_cache(maxsize=128)
def _dfa(regex: str) -> DFA:
    try:
        dfa = regex_dfa(regex)
    except ConstraintError as error:
        raise ConstraintError(f"stop_{error}") from None
    if 0 in dfa.final:
        raise ConstraintError(
            f"stop_regex: {regex!r} matches the empty text, so nothing could be written; make "
            "it ask for at least one character"
        )
    return dfa
