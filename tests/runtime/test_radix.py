"""The radix tree and the slots' owners against simple models."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sglnb.runtime.memory import MemoryManager
from sglnb.runtime.pool import SlotPool
from sglnb.runtime.radix import RadixTree, common_prefix
from sglnb.runtime.request import Request
from sglnb.runtime.sampling_params import SamplingParams

TEXT = st.lists(st.integers(0, 2), min_size=1, max_size=12)


class TreeMachine(RuleBasedStateMachine):
    """Random inserts, lookups, locks and evictions. The model is a dict from stored prefix to
    slot: a prefix is stored iff each of its tokens is."""

    def __init__(self):
        super().__init__()
        self.slot_of: dict[tuple[int, ...], int] = {}
        self.freed: list[int] = []
        self.tree = RadixTree(self.freed.extend)
        self.locked: list = []
        self.next_slot = 0

    def known(self, ids):
        n = 0
        while n < len(ids) and tuple(ids[: n + 1]) in self.slot_of:
            n += 1
        return n

    @rule(ids=TEXT)
    def insert(self, ids):
        slots = list(range(self.next_slot, self.next_slot + len(ids)))
        self.next_slot += len(ids)
        before = self.known(ids)
        assert self.tree.insert(ids, slots) == before
        for n in range(before, len(ids)):
            self.slot_of[tuple(ids[: n + 1])] = slots[n]

    @rule(ids=TEXT)
    def find(self, ids):
        match = self.tree.find(ids)
        assert match.slots == [self.slot_of[tuple(ids[: n + 1])] for n in range(self.known(ids))]
        assert match.node.depth() == len(match.slots)

    @rule(ids=TEXT)
    def peek_changes_nothing(self, ids):
        before = [(n.id, list(n.key), n.hits, n.stamp) for n in self.tree.nodes()]
        assert self.tree.peek(ids).length == self.known(ids)
        assert before == [(n.id, list(n.key), n.hits, n.stamp) for n in self.tree.nodes()]

    @rule(ids=TEXT)
    def lock(self, ids):
        match = self.tree.find(ids)
        self.tree.lock(match.node)
        self.locked.append((match.node, ids[: len(match.slots)]))

    @precondition(lambda self: self.locked)
    @rule(which=st.integers(0, 100))
    def unlock(self, which):
        node, _ = self.locked.pop(which % len(self.locked))
        self.tree.unlock(node)

    @rule(n=st.integers(1, 10))
    def evict(self, n):
        evictable = self.tree.evictable_size
        self.freed.clear()
        freed = self.tree.evict(n)
        assert freed == len(self.freed) >= min(n, evictable)
        gone = set(self.freed)
        self.slot_of = {ids: slot for ids, slot in self.slot_of.items() if slot not in gone}
        assert len(gone) == freed

    @invariant()
    def books_are_right(self):
        users: dict[int, int] = {}
        for node, ids in self.locked:
            assert self.known(ids) == len(ids), "a locked prefix was evicted"
            assert node.depth() == len(ids)
            if node.parent is not None:
                users[node.id] = users.get(node.id, 0) + 1
        self.tree.check(users)
        assert self.tree.size == len(self.slot_of)


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class MemoryMachine(RuleBasedStateMachine):
    """Requests that come, grow, share and go over a small pool, as the scheduler moves them."""

    def __init__(self):
        super().__init__()
        self.pool = SlotPool(40)
        self.memory = MemoryManager(self.pool, RadixTree(self.pool.free))
        self.live: list[Request] = []
        self.content: dict[int, tuple[int, ...]] = {}  # slot -> the prefix whose KV it holds

    @rule(ids=TEXT)
    def admit(self, ids):
        request = Request(ids, SamplingParams())
        self.memory.admit(request)
        self.live.append(request)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 100), n=st.integers(1, 6), token=st.integers(0, 2))
    def compute(self, which, n, token):
        request = self.live[which % len(self.live)]
        n = min(n, request.pending)
        try:
            self.memory.grow(request, n)
        except MemoryError:
            assert n > self.memory.available
            return
        for at in range(request.computed, request.computed + n):
            self.content[request.table.slots[at]] = tuple(request.ids[: at + 1])
        request.computed += n
        if request.pending == 0:
            request.ids.append(token)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 100))
    def share(self, which):
        request = self.live[which % len(self.live)]
        if request.computed:
            self.memory.share(request)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 100), keep=st.booleans())
    def release(self, which, keep):
        self.memory.release(self.live.pop(which % len(self.live)), keep)

    @invariant()
    def every_slot_has_one_owner_and_the_right_content(self):
        self.memory.check(self.live)
        for request in self.live:
            for at in range(request.computed):
                held = self.content[request.table.slots[at]]
                assert held == tuple(request.ids[: at + 1]), "a slot was given to someone else"


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_eviction_takes_the_least_recently_used_leaf():
    freed: list[int] = []
    tree = RadixTree(freed.extend)
    tree.insert([1, 2], [10, 11])
    tree.insert([3, 4], [12, 13])
    tree.hit(tree.find([1, 2]).node)
    assert tree.evict(1) == 2
    assert sorted(freed) == [12, 13]


def test_unlocking_too_often_is_an_error():
    tree = RadixTree(lambda slots: None)
    tree.insert([1], [0])
    node = tree.find([1]).node
    tree.lock(node)
    tree.unlock(node)
    with pytest.raises(RuntimeError, match="more often"):
        tree.unlock(node)


def test_a_prompt_that_is_stored_whole_is_not_cut_before_its_last_token():
    tree = RadixTree(lambda slots: None)
    tree.insert([1, 2, 3, 4], [10, 11, 12, 13])
    match = tree.find([1, 2, 3], 2)
    assert match.slots == [10, 11]
    assert tree.count == 1
    match = tree.find([1, 2, 9], 2)
    assert (match.slots, match.node.depth(), tree.count) == ([10, 11], 2, 2)


def test_common_prefix():
    for n in range(20):
        key, ids = list(range(20)), list(range(100, 103)) + list(range(20))
        ids[3 + n] = -1
        assert common_prefix(key, ids, 3) == n
    assert common_prefix([1, 2, 3], [1, 2], 0) == 2
