"""A model made of dice: it writes any text of a constraint, and ends in time as the engine does."""

from __future__ import annotations

import functools
import random

import numpy as np

_CLOSING = {b'"', b")", b"]", b"}", b'")', b"))", b'"]', b'"}', b"}}"}


def write(
    constraint,
    tokenizer,
    rng: random.Random,
    budget: int,
    *,
    jump: bool = False,
    eager: float = 0.7,
) -> list[int] | None:
    """Tokens of a text of at most ``budget``, the end of the text left out; None if none fits.

    Args:
        jump: write certain text without throwing dice.
        eager: how likely it is to close what is open where nearly everything is legal, as inside
            a string; there dice would go on until the budget is spent.
    """
    closer = constraint.closer(budget)
    if closer is None:
        return None
    cursor, ids, closing = constraint.start(), [], _closing(tokenizer)

    def take(token: int) -> bool:
        cursor.advance(token)
        if not closer.keeps(cursor, token, budget - len(ids) - 1):
            cursor.rollback(1)
            return False
        ids.append(token)
        return True

    while len(ids) < budget and not cursor.done:
        forced = cursor.forced_tokens(ids)[: budget - len(ids)] if jump else []
        if forced and take(forced[0]):
            continue
        way = closer.way(budget - len(ids))
        if way:
            assert take(way[0])
            continue
        narrow = closer.legal(cursor, budget - len(ids))
        words = cursor.allowed() if narrow is None else narrow.words
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        legal = np.flatnonzero(bits)
        assert len(legal)
        near = closing[bits[closing] == 1]
        if len(near) and len(legal) > tokenizer.vocab_size // 4 and rng.random() < eager:
            legal = near
        token = int(rng.choice(legal))
        if not take(token):
            assert take(closer.instead()[0])
    assert cursor.is_final
    return [i for i in ids if i not in tokenizer.eos_ids]


@functools.cache
def _closing(tokenizer) -> np.ndarray:
    return np.array([i for i, raw in enumerate(tokenizer.token_bytes) if raw in _CLOSING])
