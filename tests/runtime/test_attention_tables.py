"""The tables of a batch, and which rows share a prefix, against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglnb.runtime.attention import Row
from sglnb.runtime.attention.cascade import find_groups
from sglnb.runtime.attention.tables import TableBuilder, clip
from sglnb.runtime.pool import runs_of

CPU = torch.device("cpu")


@st.composite
def trees(draw, page=1):
    """Rows as the radix tree hands them out: each a path in a random tree of slots, and behind
    it slots of its own. Branches begin at whole pages."""
    pages = iter(draw(st.permutations(range(160))))
    if draw(st.booleans()):
        pages = iter(range(160))

    def some(least, most):
        n = draw(st.integers(least, most))
        return [p * page + i for p in itertools.islice(pages, n) for i in range(page)]

    paths = [[]]
    for _ in range(draw(st.integers(0, 4))):
        paths.append(draw(st.sampled_from(paths)) + some(1, 8))
    rows = []
    for _ in range(draw(st.integers(1, 7))):
        own = some(1, 4)
        slots = draw(st.sampled_from(paths)) + own
        unused = draw(st.integers(0, page - 1))  # the last page is not full
        stop = len(slots) - unused
        count = draw(st.integers(1, len(own) - unused)) if draw(st.booleans()) else 1
        rows.append(Row(stop - count, count, slots, runs_of(slots)))
    return rows


paged = st.sampled_from([1, 16]).flatmap(lambda p: st.tuples(st.just(p), trees(p)))


@settings(max_examples=150, deadline=None)
@given(paged)
def test_tables_equal_loops(case):
    page, rows = case
    builder = TableBuilder(CPU, page)
    counts = [row.count for row in rows]
    tables = builder.build([clip(r.runs, 0, r.start + r.count) for r in rows], counts)
    assert tables.qo_indptr.tolist() == [0, *np.cumsum(counts)]
    for i, row in enumerate(rows):
        pages = tables.kv_indices[tables.kv_indptr[i] : tables.kv_indptr[i + 1]].tolist()
        slots = [p * page + j for p in pages for j in range(page)]
        length = (len(pages) - 1) * page + int(tables.last_page_len[i])
        assert slots[:length] == row.slots[: row.start + row.count]
    for there, here in zip(tables, tables.host, strict=False):
        assert there.tolist() == here.tolist()
    new = [s for r in rows for s in r.slots[r.start : r.start + r.count]]
    assert builder.slots(rows).tolist() == new


def test_a_row_that_reads_nothing():
    tables = TableBuilder(CPU, 16).build([[], [(32, 50)], []], [2, 1, 0])
    assert tables.kv_indptr.tolist() == [0, 0, 2, 2]
    assert tables.last_page_len.tolist() == [0, 2, 0]
    assert tables.kv_indices.tolist() == [2, 3]


@given(st.lists(st.integers(0, 30), unique=True), st.integers(0, 12), st.integers(0, 12))
def test_clip_equals_slicing(slots, start, more):
    runs = clip(runs_of(slots), start, start + more)
    assert [s for a, b in runs for s in range(a, b)] == slots[start : start + more]


@settings(max_examples=150, deadline=None)
@given(paged, st.sampled_from([1, 5, 40]))
def test_groups_are_disjoint_and_share_what_they_say(case, least):
    page, rows = case
    groups = find_groups(rows, page, least)
    members = [i for group in groups for i in group.rows]
    assert len(members) == len(set(members))
    for group in groups:
        assert len(group.rows) > 1
        assert group.length % page == 0
        assert group.saved >= least
        first = rows[group.rows[0]]
        for i in group.rows:
            assert group.length <= rows[i].start, "a row's new tokens are its own"
            assert rows[i].slots[: group.length] == first.slots[: group.length]


@settings(max_examples=60, deadline=None)
@given(trees())
def test_groups_save_as_much_as_the_best_one(rows):
    """Against all sets of rows that could be read as one group."""

    def common(some):
        n = min(rows[i].start for i in some)
        columns = zip(*(rows[i].slots[:n] for i in some), strict=True)
        return sum(1 for _ in itertools.takewhile(lambda c: len(set(c)) == 1, columns))

    some = range(len(rows))
    sets = (s for n in range(2, len(rows) + 1) for s in itertools.combinations(some, n))
    best = max(((len(s) - 1) * common(s) for s in sets), default=0)
    assert sum(group.saved for group in find_groups(rows, 1, 1)) >= best


def test_a_branch_is_read_as_a_branch_and_the_rest_as_a_trunk():
    trunk, branch = list(range(100)), list(range(100, 400))
    slots = [[*trunk, 500 + i] for i in range(3)] + [[*trunk, *branch, 510 + i] for i in range(3)]
    rows = [Row(len(s) - 1, 1, s, runs_of(s)) for s in slots]
    assert find_groups(rows, 1, 1) == [([3, 4, 5], 400), ([0, 1, 2], 100)]
