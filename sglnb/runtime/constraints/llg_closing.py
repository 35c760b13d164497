"""Bringing a text to a legal end before its tokens run out: grammars and schemas.

A parser has no distances to look up; a way to an end has to be searched. One is always at hand:
as long as the tokens that are taken leave it possible (inside a string, say) or another one is
found, they stand; a token behind which none is found is replaced by the way's own. So a search
may give up early: the end only begins a little earlier then.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import llguidance
import numpy as np

from sglnb.runtime.constraints.base import Closer
from sglnb.runtime.constraints.llg_vocabulary import LLGVocabulary

LONGEST_WAY = 2_000
"""Tokens of a way that is looked for where there is no budget yet."""
FIRST_LOOKS = 3_000
"""Places that a search from the start looks at: nobody waits for it but its own request."""
LOOKS = 100
"""Places that a search on the engine's thread looks at. Counted, not timed: the same seed gives
the same text. One takes 0.1 to 0.4 ms with a vocabulary of 128,000."""
_BRANCHES = 4
"""Tokens that are tried at each place."""
_STEPS = ((0.0, 0.6), (0.05, 0.4))
"""What a token more costs beside taking the next best one, and which part of a search is done so.
First straight ahead, which finds long ways; then with ways that are as likely side by side, so
that none is followed for ever."""
_CHUNK = 512
"""Tokens that are looked at together."""


class LLGCloser(Closer):
    """Keeps an end of one request's grammar in reach.

    Args:
        way: tokens of a whole text; None: none was found, one is looked for on the way.
        budget: tokens of the request.
    """

    def __init__(self, vocabulary: LLGVocabulary, way: list[int] | None, budget: int):
        self._vocabulary = vocabulary
        _ = vocabulary.inside  # made here, not on the engine's thread
        self._way = way
        self._rest = budget // 8
        """Tokens until the next look, while no way is known."""

    def keeps(self, cursor, token: int, left: int) -> bool:
        if cursor.ended:
            self._way = []
            return True
        before = self._way
        if before is None and self._rest > 0:
            self._rest -= 1
            return True
        way = self._find(cursor.matcher, token, before, left)
        if way is None and before is not None:
            return False
        self._way, self._rest = way, left // 8
        return True

    def _find(self, matcher, token: int, before: list[int] | None, left: int) -> list[int] | None:
        for known in () if before is None else self._may_go_on(token, before):
            if len(known) <= left:
                twin = matcher.deep_copy()
                if twin.try_consume_tokens(known) == len(known) and may_end(twin):
                    return known
        return shortest(matcher, self._vocabulary, left)

    def _may_go_on(self, token: int, way: list[int]) -> Iterator[list[int]]:
        """What may be left of a way behind ``token``."""
        if way and way[0] == token:
            yield way[1:]
            return
        yield way  # it came in between, as inside a string
        size = len(self._vocabulary.spelled(token)) if token >= 0 else 0
        for n, first in enumerate(way, 1):
            size -= len(self._vocabulary.spelled(first))
            if size <= 0:
                if size == 0:
                    yield way[n:]  # it stands in the place of some of it, as another digit
                return

    def way(self, left: int) -> list[int]:
        return list(self._way) if self._way and len(self._way) >= left else []

    def instead(self) -> list[int]:
        return list(self._way or self._vocabulary.base.eos_ids[:1])


def shortest(
    matcher: llguidance.LLMatcher, vocabulary: LLGVocabulary, limit: int, looks: int = LOOKS
) -> list[int] | None:
    """Tokens that bring ``matcher`` to a legal end, at most ``limit`` of them; None if none are
    found. What is forced is taken; where there is a choice, what closes something comes first, and
    the others wait until that has led nowhere (a best-first search).

    Args:
        looks: places to look at before giving up.
    """
    for step, part in _STEPS:
        way = _search(matcher, vocabulary, limit, int(part * looks), step)
        if way is not None:
            return way
    return None


def _search(
    matcher, vocabulary: LLGVocabulary, limit: int, looks: int, step: float
) -> list[int] | None:
    heap = [(0.0, 0, [], [], b"", matcher)]
    found, seen = 1, set()
    for _ in range(looks):
        if not heap:
            return None
        cost, _, before, more, text, at = heapq.heappop(heap)
        if text in seen:
            continue  # the same text in other tokens, which cost less
        seen.add(text)
        at, way = at.deep_copy(), [*before, *more]
        if at.try_consume_tokens(more) < len(more) or at.is_error():
            continue
        if may_end(at):
            return way
        for rank, more in enumerate(_likely_ends(at, vocabulary, way[-1:], _BRANCHES)):
            longer = text + b"".join(map(vocabulary.spelled, more))
            if len(way) + len(more) <= limit and longer not in seen:
                heapq.heappush(heap, (cost + rank + step, -found, way, more, longer, at))
                found += 1
    return None


def _likely_ends(matcher, vocabulary: LLGVocabulary, last: list[int], n: int) -> list[list[int]]:
    """Up to ``n`` ways to go on behind the ``last`` token, those first that are likely to lead to
    an end soon: legal tokens, or the text that is certain."""
    certain = vocabulary.split(matcher.compute_ff_bytes())
    if certain:
        return [certain]
    words = vocabulary.words(matcher.compute_bitmask())
    if matcher.is_error():
        return []
    free = vocabulary.is_free(words)
    if free:
        known = vocabulary.inside
    elif last and vocabulary.spelled(last[0])[-1:].isalnum():
        known = vocabulary.behind
    else:
        known = vocabulary.between
    likely = _legal(words, vocabulary.special, n) + _legal(words, known, n)
    likely += [i for i in _legal(words, vocabulary.by_length, n) if i not in likely]
    out = [[i] for i in likely[:n]]
    if free:
        out.insert(1, vocabulary.alphabet)
    return out


def _legal(words: np.ndarray, tokens: np.ndarray, n: int) -> list[int]:
    """The first ``n`` of ``tokens`` that a mask allows."""
    out: list[int] = []
    for at in range(0, len(tokens), _CHUNK):
        part = tokens[at : at + _CHUNK]
        out += part[(words[part >> 5] >> (part & 31)) & 1 == 1].tolist()
        if len(out) >= n:
            break
    return out[:n]


def may_end(matcher: llguidance.LLMatcher) -> bool:
    """Whether a text may end there."""
    return matcher.is_accepting() and not matcher.is_error()
