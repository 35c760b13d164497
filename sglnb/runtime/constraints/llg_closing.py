"""Bringing a text to a legal end before its tokens run out: grammars and schemas.

A parser has no distances to look up; a way to an end has to be searched. One is always at hand:
as long as the tokens that are taken leave it possible (inside a string, say) or another one is
found, they stand; a token behind which none is found in time is replaced by the way's own.
"""

from __future__ import annotations

import llguidance
import numpy as np

from sglnb.runtime.constraints.base import Closer
from sglnb.runtime.constraints.llg_vocabulary import LLGVocabulary

LONGEST_WAY = 2_000
"""Tokens of a way that is looked for where there is no budget yet."""
_BEAM = 8
"""Texts that are followed side by side where the first idea leads to no end."""
_BRANCHES = 4
"""Tokens that are tried after each of them."""
_GROWTH = 48
"""A token is taken to make the way to the end longer by no more than this. It decides only how
often one looks while there is plenty of room: with less than this to spare, after each token."""


class LLGCloser(Closer):
    """Keeps an end of one request's grammar in reach.

    Args:
        way: tokens of a whole text; None: none was found, one is looked for on the way.
        budget: tokens of the request.
    """

    def __init__(self, vocabulary: LLGVocabulary, way: list[int] | None, budget: int):
        self._vocabulary = vocabulary
        self._way = way
        self._rest = 0
        """Tokens until the next look."""
        self._plan_rest(budget)

    def keeps(self, cursor, token: int, left: int) -> bool:
        if cursor.ended:
            self._way = []
            return True
        if self._rest > 0:
            self._rest -= 1
            self._way = None
            return True
        before = self._way
        on = before[1:] if before and before[0] == token else before
        way = self._find(cursor.matcher, on, left)
        if way is None and before is not None:
            return False
        self._way = way
        self._plan_rest(left)
        return True

    def _plan_rest(self, left: int) -> None:
        if self._way is None:
            self._rest = left // 8
        else:
            self._rest = max(0, left - len(self._way)) // _GROWTH - 1

    def _find(self, matcher, known: list[int] | None, left: int) -> list[int] | None:
        if known is not None and len(known) <= left:
            twin = matcher.deep_copy()
            if twin.try_consume_tokens(known) == len(known) and may_end(twin):
                return known
        return shortest(matcher, self._vocabulary, left)

    def way(self, left: int) -> list[int]:
        return list(self._way) if self._way and len(self._way) >= left else []

    def instead(self) -> list[int]:
        return list(self._way or self._vocabulary.base.eos_ids[:1])


def shortest(
    matcher: llguidance.LLMatcher, vocabulary: LLGVocabulary, limit: int
) -> list[int] | None:
    """Tokens that bring ``matcher`` to a legal end, at most ``limit`` of them; None if none are
    found. First what is forced and, where there is a choice, what closes something; if that
    leads nowhere, several such texts side by side."""
    for beam, branches in ((1, 1), (_BEAM, _BRANCHES)):
        way = _search(matcher, vocabulary, limit, beam, branches)
        if way is not None:
            return way
    return None


def _search(matcher, vocabulary, limit: int, beam: int, branches: int) -> list[int] | None:
    texts = [(0, [], matcher.deep_copy())]
    if may_end(matcher):
        return []
    for _ in range(limit):
        longer = []
        for rank, tokens, at in texts:
            for place, token in enumerate(_likely_ends(at, vocabulary, branches)):
                twin = at.deep_copy() if branches > 1 else at
                if not twin.consume_token(token) or twin.is_error():
                    continue
                if may_end(twin):
                    return [*tokens, token]
                longer.append((rank + place, [*tokens, token], twin))
        longer.sort(key=lambda one: one[0])
        texts = longer[:beam]
        if not texts:
            return None
    return None


def _likely_ends(matcher, vocabulary: LLGVocabulary, n: int) -> list[int]:
    """Up to ``n`` legal tokens, those first that are likely to lead to an end soon. Where text is
    certain, the longest token of it."""
    forced = matcher.compute_ff_bytes()
    if forced:
        token = vocabulary.longest_prefix(forced)
        if token is not None:
            return [token]
    words = vocabulary.words(matcher.compute_bitmask())
    if matcher.is_error():
        return []
    known = vocabulary.inside if _has(words, vocabulary.letter) else vocabulary.between
    legal = known[(words[known >> 5] >> (known & 31)) & 1 == 1]
    if len(legal) >= n:
        return legal[:n].tolist()
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    bits[known] = 0
    bits[[i for i in vocabulary.eos_ids if i < len(bits)]] = 0
    others = np.flatnonzero(bits)
    shortest_first = others[np.argsort(vocabulary.lengths[others], kind="stable")]
    return [*legal.tolist(), *shortest_first[:n].tolist()]


def _has(words: np.ndarray, token: int) -> bool:
    return token >= 0 and bool(words[token >> 5] >> (token & 31) & 1)


def may_end(matcher: llguidance.LLMatcher) -> bool:
    """Whether a text may end there."""
    return matcher.is_accepting() and not matcher.is_error()
