"""Why a text was not found in the cache, from the tree and what it remembers of evictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .image_keys import ImageKeys
from .radix import RadixTree
from .radix_node import Node, common_prefix

LOOK_AHEAD = 64
"""Tokens behind the miss whose text is compared."""

_WHY = {
    "space": "to make room",
    "flush": "by a flush",
    "resize": "when the pool was made smaller",
    "release": "when the engine's memory was released",
    "asked": "by cache.evict",
}


class Miss(NamedTuple):
    """Where the cached prefix of a text ends, and why there."""

    tokens: int
    """Tokens of the text."""
    cached: int
    """Leading tokens whose KV is there."""
    reason: str
    """"cached" (nothing is missing), "evicted", "other namespace", "tokenized differently",
    "page rounding" or "never stored"."""
    token: str
    """The first token that is missing, as text; "" when nothing is."""
    instead: list[str]
    """What the cache holds in that token's place."""
    detail: str
    """The reason in a sentence."""
    evicted: float | None = None
    """When, on the event log's clock in seconds; for "evicted"."""
    by: str = ""
    """The request that needed the room; for "evicted"."""

    def __str__(self) -> str:
        head = f"{self.cached:,} of {self.tokens:,} tokens are cached"
        if self.reason == "cached":
            return f"{head}."
        there = ", ".join(map(repr, self.instead[:4]))
        there = f" (the cache goes on with {there})" if there else ""
        return f"{head}; the first missing one is {self.token!r}{there}. {self.detail}"


def explain_miss(
    tree: RadixTree, known: ImageKeys, ids: list[int], extra_key: str, now: float
) -> Miss:
    """Why the cached prefix of the keys ``ids`` ends where it ends. Leaves the tree as it is."""
    peek = tree.peek(ids, extra_key)
    beyond = list(_continuations(tree, peek.node, peek.within))
    exact = peek.length + max((common_prefix(key, ids, peek.length) for key in beyond), default=0)
    token = "".join(known.pieces(ids[exact : exact + 1]))
    at = exact - peek.length
    stored = [key[at] for key in beyond if key[:at] == ids[peek.length : exact] and len(key) > at]
    instead = known.pieces(stored)

    def miss(reason: str, detail: str, **more: object) -> Miss:
        return Miss(len(ids), peek.length, reason, token, instead, detail, **more)

    if peek.length == len(ids):
        return miss("cached", "")
    if exact == len(ids):
        detail = (
            f"The other {exact - peek.length} are there, but only whole pages of "
            f"{tree.page_size} tokens are reused."
        )
        return miss("page rounding", detail)
    gone = _evicted(tree, ids, exact, extra_key)
    if gone is not None:
        end, eviction = gone
        whom = _WHY.get(eviction.why, eviction.why)
        whom += f" for {eviction.rid}" if eviction.rid else ""
        detail = f"{end - exact:,} more were evicted {now - eviction.time:.1f} s ago {whom}."
        return miss("evicted", detail, evicted=eviction.time, by=eviction.rid)
    others = {name: tree.peek(ids, name).length for name in tree.roots if name != extra_key}
    best = max(others, key=others.get, default="")
    if others.get(best, 0) > exact:
        name = repr(best) if best else "the plain one"
        detail = f"{others[best]:,} are cached in another namespace ({name})."
        return miss("other namespace", detail)
    if any(_same_text(known, ids[peek.length :], key, at) for key in beyond):
        detail = "The same text is stored, cut into other tokens."
        return miss("tokenized differently", detail)
    return miss("never stored", "This text was never computed behind this prefix.")


def _continuations(tree: RadixTree, node: Node, within: int) -> Iterator[list[int]]:
    """What the tree holds behind a match that ends after ``within`` keys of ``node``'s edge."""
    if within < len(node.key):
        yield node.key[within:]
        return
    for child in node.children.values():
        yield child.key


def _evicted(tree: RadixTree, ids: list[int], known: int, extra_key: str):
    """(end, eviction) of the evicted edge that reached furthest along ``ids``, if any reached
    past ``known``."""
    best = None
    for eviction in tree.evictions:
        start = eviction.start
        if start > known or eviction.extra_key != extra_key:
            continue
        if hash(tuple(ids[:start])) != eviction.above:
            continue
        end = start + common_prefix(eviction.key, ids, start)
        if end > known and (best is None or end >= best[0]):
            best = end, eviction
    return best


def _same_text(known: ImageKeys, asked: list[int], stored: list[int], at: int) -> bool:
    """Whether two sequences that part at token ``at`` still spell the same there: their bytes
    agree to the end of both tokens, or to the end of what was asked."""
    if stored[:at] != asked[:at] or len(stored) <= at or len(asked) <= at:
        return False

    def spell(keys: list[int], count: int) -> bytes:
        return known.to_bytes(keys[at : at + count])

    longest = max(len(spell(asked, 1)), len(spell(stored, 1)))
    a, b = spell(asked, LOOK_AHEAD), spell(stored, LOOK_AHEAD)
    return bool(longest) and (a[:longest] == b[:longest] or b.startswith(a))
