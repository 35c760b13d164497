"""The radix tree and the slots' owners against simple models."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sglnb.runtime.eviction import EVICTIONS
from sglnb.runtime.memory import MemoryManager
from sglnb.runtime.pool import SlotPool
from sglnb.runtime.radix import RadixTree
from sglnb.runtime.radix_node import common_prefix
from sglnb.runtime.request import Request
from sglnb.runtime.sampling_params import SamplingParams

TEXT = st.lists(st.integers(0, 2), min_size=1, max_size=14)
SPACES = st.sampled_from(["", "adapter"])
PAGES = (1, 2, 4)


class TreeMachine(RuleBasedStateMachine):
    """Random inserts, lookups, locks and evictions. The model is a dict from stored prefix to
    slot: a prefix is stored iff each of its tokens is."""

    def __init__(self):
        super().__init__()
        self.slot_of: dict[tuple, int] = {}
        self.freed: list[int] = []
        self.locked: list = []
        self.next_slot = 0

    @initialize(page=st.sampled_from(PAGES), eviction=st.sampled_from(sorted(EVICTIONS)))
    def start(self, page, eviction):
        self.page = page
        self.tree = RadixTree(self.freed.extend, page_size=page, eviction=eviction)

    def at(self, ids, n, space):
        """Key of the slot of token ``n``: all up to the end of its page."""
        return (space, n, *ids[: (n // self.page + 1) * self.page])

    def known(self, ids, space):
        n = 0
        while n + self.page <= len(ids) and self.at(ids, n, space) in self.slot_of:
            n += self.page
        return n

    @rule(ids=TEXT, space=SPACES)
    def insert(self, ids, space):
        ids = ids[: len(ids) // self.page * self.page]
        slots = list(range(self.next_slot, self.next_slot + len(ids)))
        self.next_slot += len(ids)
        before = self.known(ids, space)
        assert self.tree.insert(ids, slots, extra_key=space) == before
        for n in range(before, len(ids)):
            self.slot_of[self.at(ids, n, space)] = slots[n]

    @rule(ids=TEXT, space=SPACES)
    def find(self, ids, space):
        match = self.tree.find(ids, extra_key=space)
        known = self.known(ids, space)
        assert match.slots == [self.slot_of[self.at(ids, n, space)] for n in range(known)]
        assert match.node.depth == len(match.slots)

    @rule(ids=TEXT, limit=st.integers(0, 14), space=SPACES)
    def find_within_a_limit(self, ids, limit, space):
        match = self.tree.find(ids, limit, extra_key=space)
        known = self.known(ids[:limit], space)
        assert match.slots == [self.slot_of[self.at(ids, n, space)] for n in range(known)]
        assert match.node.depth >= known
        above = match.node.parent.depth if match.node.parent else 0
        assert above < known or not known

    @rule(ids=TEXT, space=SPACES)
    def peek_changes_nothing(self, ids, space):
        before = [(n.id, list(n.key), n.hits, n.stamp) for n in self.tree.nodes()]
        assert self.tree.peek(ids, space).length == self.known(ids, space)
        assert before == [(n.id, list(n.key), n.hits, n.stamp) for n in self.tree.nodes()]

    @rule(ids=TEXT, space=SPACES)
    def hit(self, ids, space):
        self.tree.hit(self.tree.find(ids, extra_key=space).node)

    @rule(ids=TEXT, space=SPACES)
    def lock(self, ids, space):
        match = self.tree.find(ids, extra_key=space)
        self.tree.lock(match.node)
        self.locked.append((match.node, ids[: len(match.slots)], space))

    @precondition(lambda self: self.locked)
    @rule(which=st.integers(0, 100))
    def unlock(self, which):
        node, _, _ = self.locked.pop(which % len(self.locked))
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
        for node, ids, space in self.locked:
            assert self.known(ids, space) == len(ids), "a locked prefix was evicted"
            assert node.depth == len(ids)
            if node.parent is not None:
                users[node.id] = users.get(node.id, 0) + 1
        self.tree.check(users)
        assert self.tree.size == len(self.slot_of)


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class MemoryMachine(RuleBasedStateMachine):
    """Requests that come, grow, share and go over a small pool, as the scheduler moves them."""

    def __init__(self):
        super().__init__()
        self.live: list[Request] = []
        self.content: dict[int, tuple] = {}  # slot -> the prefix whose KV it holds

    @initialize(page=st.sampled_from(PAGES))
    def start(self, page):
        self.pool = SlotPool(40, page)
        self.memory = MemoryManager(self.pool, RadixTree(self.pool.free, page_size=page))

    @rule(ids=TEXT, space=SPACES)
    def admit(self, ids, space):
        request = Request(ids, SamplingParams(), extra_key=space)
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
            slot = request.table.slots[at]
            self.content[slot] = (request.extra_key, *request.ids[: at + 1])
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
                assert held == (request.extra_key, *request.ids[: at + 1]), "a slot was reused"


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(
    ("eviction", "gone"),
    [
        ("lru", "BCA"),  # A was used last
        ("mru", "ACB"),
        ("fifo", "ABC"),
        ("lfu", "CBA"),  # B and A were hit, A twice
        ("priority", "BAC"),  # C belongs to someone important
        ("cost", "CBA"),  # as lfu, C being no dearer
    ],
)
def test_what_each_strategy_evicts_first(eviction, gone):
    freed: list[int] = []
    tree = RadixTree(freed.extend, eviction=eviction, clock=iter(range(1000)).__next__)
    for i, priority in enumerate((0, 0, 1)):
        tree.insert([i, 7], [2 * i, 2 * i + 1], priority=priority)
    tree.hit(tree.find([1, 7]).node)
    tree.hit(tree.find([0, 7]).node)
    if eviction in ("lru", "mru", "priority"):  # C between B and A
        tree.insert([2, 7], [8, 9])
        tree.hit(tree.find([0, 7]).node)
    else:
        tree.hit(tree.find([0, 7]).node)
    for _ in range(3):
        assert tree.evict(1) == 2
    assert "".join("ABC"[slot // 2] for slot in freed[::2]) == gone


def test_cost_aware_eviction_keeps_what_is_dear():
    """Tokens far back in a text cost more to compute again than those of a short one."""
    freed: list[int] = []
    tree = RadixTree(freed.extend, eviction="cost")
    tree.insert(list(range(10_000)), list(range(10_000)))
    tree.insert([-1] * 10, list(range(10_000, 10_010)))  # newer, but cheap
    assert tree.evict(5) == 10
    assert min(freed) == 10_000


def test_a_long_leaf_loses_only_its_end():
    freed: list[int] = []
    tree = RadixTree(freed.extend)
    tree.insert(list(range(1000)), list(range(1000)))
    assert tree.evict(100) == 100
    assert freed == list(range(900, 1000))
    assert tree.peek(list(range(1000))).length == 900
    tree.check()


def test_namespaces_share_nothing():
    tree = RadixTree(lambda slots: None)
    tree.insert([1, 2], [0, 1])
    assert tree.insert([1, 2], [2, 3], extra_key="lora") == 0
    assert tree.find([1, 2]).slots == [0, 1]
    assert tree.find([1, 2], extra_key="lora").slots == [2, 3]
    assert tree.peek([1, 2], "other").length == 0


def test_eviction_cost_does_not_grow_with_the_tree():
    """The heap is touched once or twice for each eviction, however many leaves there are."""
    tree = RadixTree(lambda slots: None)
    for i in range(5000):
        tree.insert([i, 1, 2], [3 * i, 3 * i + 1, 3 * i + 2])
    counted = Counter()
    order = tree._order

    def count(node, floor):
        counted["keys"] += 1
        return order(node, floor)

    tree._order = count
    assert tree.evict(300) == 300
    assert counted["keys"] <= 200


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
    assert (match.slots, match.node.depth, tree.count) == ([10, 11], 2, 2)


def test_common_prefix():
    for n in range(20):
        key, ids = list(range(20)), list(range(100, 103)) + list(range(20))
        ids[3 + n] = -1
        assert common_prefix(key, ids, 3) == n
    assert common_prefix([1, 2, 3], [1, 2], 0) == 2
