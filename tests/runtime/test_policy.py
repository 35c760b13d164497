"""The order of the waiting requests, and the prefix lookups it rests on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglnb.runtime.policy import AGE_ROUNDS, POLICIES, PRIORITY_AGES, level
from sglnb.runtime.prefixes import Prefixes
from sglnb.runtime.radix import RadixTree
from sglnb.runtime.request import Request
from sglnb.runtime.sampling_params import SamplingParams

TEXT = st.lists(st.integers(0, 2), min_size=1, max_size=10)


def ask(ids, new=8, ticket=0, **options) -> Request:
    request = Request(list(ids), SamplingParams(max_new_tokens=new), **options)
    request.ticket = ticket
    return request


def tree_of(*texts, **options) -> RadixTree:
    tree = RadixTree(lambda slots: None, **options)
    for text in texts:
        tree.insert(list(text), list(range(len(text))))
    return tree


def order(policy, requests, tree=None, seed=0):
    return POLICIES[policy](requests, Prefixes(tree or tree_of()), seed)


def test_each_policy_orders_by_its_own_key():
    tree = tree_of([1, 2, 3, 4], [5])
    a, b, c = ask([5, 9], 3, 1), ask([1, 2, 3, 9], 5, 2), ask([1, 8], 9, 3)
    assert order("fcfs", [a, b, c]) == [a, b, c]
    assert order("lpm", [a, b, c], tree) == [b, a, c]
    assert order("lof", [a, b, c]) == [c, b, a]
    assert order("dfs-weight", [a, c, b], tree) == [c, b, a], "4 tokens on the edge of 1, one of 5"


def test_random_follows_its_seed():
    requests = [ask([i], ticket=i) for i in range(40)]
    assert order("random", requests, seed=3) == order("random", requests[::-1], seed=3)
    assert order("random", requests, seed=3) != order("random", requests, seed=4)
    assert order("random", requests) != requests


@given(
    st.lists(TEXT, max_size=8),
    st.lists(st.tuples(TEXT, st.integers(1, 20)), max_size=12),
    st.sampled_from(sorted(POLICIES)),
)
def test_a_policy_neither_loses_nor_doubles_a_request(stored, asked, policy):
    requests = [ask(ids, new, at) for at, (ids, new) in enumerate(asked)]
    before = list(requests)
    out = order(policy, requests, tree_of(*stored))
    assert requests == before
    assert sorted(r.ticket for r in out) == list(range(len(asked)))


@given(st.lists(TEXT, max_size=8), st.lists(TEXT, max_size=12))
def test_dfs_weight_is_a_depth_first_walk(stored, asked):
    """Against the walk written as a recursion."""
    tree = tree_of(*stored)
    requests = [ask(ids, ticket=at) for at, ids in enumerate(asked)]
    at = {request: tree.peek(request.keys).node for request in requests}

    def weight(node):
        return sum(tree.peek(r.keys).length for r in below(node))

    def below(node):
        return [r for r in requests if at[r] is node or node in at[r].path()]

    def walk(node):
        children = [child for child in node.children.values() if below(child)]
        children.sort(key=lambda child: (-weight(child), first_asked(child)))
        out = [r for child in children for r in walk(child)]
        return out + [r for r in requests if at[r] is node]

    def first_asked(node):
        return min(r.ticket for r in below(node))

    top = tree.roots.get("")
    want = walk(top) if top else requests
    assert order("dfs-weight", requests, tree) == want


def test_dfs_weight_walks_deep_trees():
    text = list(range(5000))
    tree = tree_of(*[text[:n] for n in range(1, 5001)])
    requests = [ask([*text[:n], -1]) for n in (10, 5000, 2500)]
    assert order("dfs-weight", requests, tree) == [requests[1], requests[2], requests[0]]


@given(st.data(), st.sampled_from([1, 2]))
def test_remembered_prefixes_are_right_whatever_the_tree_does(data, page):
    tree = tree_of(page_size=page)
    requests = [ask(ids, extra_key=key) for ids in data.draw(st.lists(TEXT, max_size=6))
                for key in ("", "b")]  # fmt: skip
    prefixes = Prefixes(tree)
    for _ in range(data.draw(st.integers(1, 10))):
        what = data.draw(st.sampled_from(["insert", "find", "evict"]))
        ids = data.draw(TEXT)
        ids = ids[: len(ids) - len(ids) % page]
        key = data.draw(st.sampled_from(["", "b"]))
        if what == "insert":
            tree.insert(ids, list(range(len(ids))), extra_key=key)
        elif what == "find":
            tree.find(ids, extra_key=key)
        else:
            tree.evict(len(ids))
        for request in requests:
            known, want = prefixes(request), tree.peek(request.keys, request.extra_key)
            assert known[1:] == want[1:]
            assert known.node is want.node or known.length == 0
    for request in requests:
        prefixes.forget(request)


def test_unchanged_prefixes_are_not_walked_again(monkeypatch):
    tree = tree_of(range(1000))
    requests = [ask([*range(n), -1]) for n in range(100, 900)]
    prefixes = Prefixes(tree)
    for request in requests:
        prefixes(request)
    for text in ([7, 7], [*range(1000), 3]):  # elsewhere in the tree, and further down
        tree.insert(text, list(text))
    monkeypatch.setattr(tree, "peek", lambda *_: pytest.fail("walked"))
    assert [prefixes(request).length for request in requests] == list(range(100, 900))


def test_levels():
    assert level(0, 0) == level(AGE_ROUNDS - 1, 0)
    assert level(0, 0) < level(AGE_ROUNDS, 0), "the earlier age first"
    assert level(0, 1) < level(0, 0), "the larger priority first"
    late = PRIORITY_AGES * AGE_ROUNDS
    assert level(late, 1) < level(0, 0) < level(late + AGE_ROUNDS, 1), "but not for ever"
