"""Which rows of a batch begin with the same KV: what one cascade reads once for all of them.

The radix tree gives requests with a common prefix the same slots, so the slots tell it all: rows
whose tables begin alike share KV, be they forks, requests with one system prompt, or both.
(Hydragen; FlashInfer, "cascade inference".)
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

from .base import Row
from .tables import Runs


class Group(NamedTuple):
    """Rows that share their first positions."""

    rows: list[int]
    length: int
    """Positions shared, in whole pages."""

    @property
    def saved(self) -> int:
        """Tokens of KV that need not be read again."""
        return (len(self.rows) - 1) * self.length


def find_groups(rows: list[Row], page_size: int, least: int) -> list[Group]:
    """Disjoint groups that save much together, each at least ``least`` reads of one token's KV in
    one layer; most saving first.

    A row joins one group: where forks have forks of their own, it is read with its branch or with
    the common trunk, whichever saves more.
    """
    first = Counter([row.runs[0][0] for row in rows])
    alike = [i for i, row in enumerate(rows) if first[row.runs[0][0]] > 1]
    if not alike or (len(alike) - 1) * max(rows[i].start for i in alike) < least:
        return []
    order = sorted(alike, key=lambda i: rows[i].runs)
    # Sorted by slots, the rows that share a prefix are neighbours, and the prefix common to
    # several neighbours is the shortest one between any two of them.
    common = []
    for a, b in pairwise(order):
        n = min(_common(rows[a].runs, rows[b].runs), rows[a].start, rows[b].start)
        common.append(n - n % page_size)
    groups = _best(order, common, 0, len(order))
    return sorted((g for g in groups if g.saved >= least), key=lambda g: -g.saved)


def _common(a: Runs, b: Runs) -> int:
    """Leading slots that are the same."""
    n = 0
    for (start, stop), (other, end) in zip(a, b, strict=False):
        if start != other:
            break
        n += min(stop, end) - start
        if stop != end:
            break
    return n


def _best(order: list[int], common: list[int], low: int, high: int) -> list[Group]:
    """Groups among ``order[low:high]``. Cut where the common prefix is shortest; each part joins
    the group of what all have in common, or goes by groups of its own."""
    if high - low < 2:
        return []
    shortest = min(common[low : high - 1])
    cuts = [i + 1 for i in range(low, high - 1) if common[i] == shortest]
    together: list[int] = []  # rows that save more, or as much, by what all have in common
    apart: list[Group] = []
    both: list[Group] = []
    for start, stop in zip([low, *cuts], [*cuts, high], strict=True):
        inner = _best(order, common, start, stop)
        apart += inner
        if (stop - start) * shortest >= _saved(inner):
            together += order[start:stop]
        else:
            both += inner
    if len(together) > 1:
        both.append(Group(sorted(together), shortest))
    return both if shortest and _saved(both) >= _saved(apart) else apart


def _saved(groups: list[Group]) -> int:
    return sum(group.saved for group in groups)
