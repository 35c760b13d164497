"""The slot allocator against a plain set."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglnb.runtime.pool import SlotPool, SlotTable, runs_of


@given(
    total=st.integers(1, 60),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 12), st.integers(0, 60))),
)
def test_pool_hands_out_each_slot_once(total, steps):
    pool, taken = SlotPool(total), set()
    for take, n, pick in steps:
        if take:
            if n > total - len(taken):
                with pytest.raises(MemoryError):
                    pool.alloc(n)
                continue
            after = pick if pick in taken else -1
            slots = pool.alloc(n, after=after)
            assert len(slots) == n == len(set(slots))
            assert not taken & set(slots)
            if after >= 0 and after + 1 < total and after + 1 not in taken:
                assert slots[0] == after + 1, "the slot right behind is free and comes first"
            taken |= set(slots)
        elif taken:
            back = sorted(taken)[pick % len(taken) :][:n]
            pool.free(back)
            taken -= set(back)
        assert pool.free_slots() == set(range(total)) - taken
        assert pool.free_count == total - len(taken)


def test_double_free_is_an_error():
    pool = SlotPool(10)
    slots = pool.alloc(4)
    pool.free(slots[:2])
    with pytest.raises(RuntimeError, match="free already"):
        pool.free(slots[:2])
    with pytest.raises(RuntimeError, match="out of range"):
        pool.free([10])


def test_growing_requests_stay_contiguous():
    pool = SlotPool(4096)
    tables = [SlotTable() for _ in range(8)]
    for table in tables:
        table.extend(pool.alloc(20))
    for _ in range(100):
        for table in tables:
            table.extend(pool.alloc(1, after=table.last))
    assert all(len(table.runs) == 1 for table in tables)


@given(st.lists(st.integers(0, 30), max_size=30))
def test_runs_spell_the_slots(slots):
    table = SlotTable()
    for slot in slots:
        table.extend([slot])
    spelled = [s for start, stop in table.runs for s in range(start, stop)]
    assert spelled == slots == table.slots
    assert table.runs == runs_of(slots)
    assert all(a[1] != b[0] for a, b in pairwise(table.runs)), "as long as can be"
    half = len(slots) // 2
    table.rewrite(half, [70, 71])
    assert table.slots == [*slots[:half], 70, 71, *slots[half + 2 :]]
    assert table.runs == runs_of(table.slots)


def test_long_runs_among_short_ones():
    slots = [*range(100, 1137), 5, 3, 4, 9, *range(2000, 2064), 1]
    assert runs_of(slots) == [(100, 1137), (5, 6), (3, 5), (9, 10), (2000, 2064), (1, 2)]
    assert runs_of([]) == []
