"""Which waiting request is admitted first: one function each."""

from __future__ import annotations

from collections.abc import Callable

from .radix import RadixTree
from .request import Request

AGEING = 256
"""Tokens of prefix that one round of waiting is worth: with lpm alone a request without a
cached prefix could wait for ever behind a stream of ones with."""


def lpm(waiting: list[Request], tree: RadixTree) -> list[Request]:
    """Longest cached prefix first (paper, section 3.2), with ageing."""

    def key(request: Request) -> int:
        return -(tree.peek(request.keys, request.extra_key).length + AGEING * request.rounds_waited)

    return sorted(waiting, key=key)


def fcfs(waiting: list[Request], tree: RadixTree) -> list[Request]:
    """First come, first served."""
    return list(waiting)


POLICIES: dict[str, Callable[[list[Request], RadixTree], list[Request]]] = {
    "lpm": lpm,
    "fcfs": fcfs,
}
