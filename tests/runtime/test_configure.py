"""Settings that change while the engine runs, and cache.evict: they take effect at once."""

from __future__ import annotations

import pytest

from sglnb.runtime import Engine

GREEDY = {"max_new_tokens": 1, "temperature": 0}


@pytest.fixture(scope="module")
def small():
    with Engine(kv_tokens=400, max_running=8) as engine:
        yield engine
        engine.check()


@pytest.fixture
def engine(small):
    small.configure(policy="lpm", eviction="lru", jump_forward=True, temperature=1.0)
    small.cache.flush()
    yield small
    small.check()


def numbers(start):
    return list(range(start, start + 100))


@pytest.mark.parametrize(("eviction", "kept"), [("lru", 300), ("fifo", 500), ("lfu", 300)])
def test_eviction_takes_effect_on_what_is_cached_already(engine, eviction, kept):
    """Three prompts fill the pool, the oldest is used again; a fourth needs room."""
    other = {"lru": "mru", "fifo": "lru", "lfu": "fifo"}[eviction]
    engine.configure(eviction=other)
    for start in (300, 500, 700, 300):
        engine.submit(numbers(start), GREEDY).result()
    assert engine.configure(eviction=eviction)["eviction"] == eviction
    engine.submit(list(range(900, 1080)), GREEDY).result()
    match = engine.cache.match(numbers(300)).cached
    assert (match > 90) == (kept == 300), f"{match} of 100 tokens of the oldest prompt are left"


def order_of(engine, policy):
    """Cached tokens of two requests, in the order of their admission; both waited."""
    engine.submit(numbers(300), GREEDY).result()
    engine.configure(max_running=1)
    busy = engine.submit([3, 4], {"max_new_tokens": 60, "ignore_eos": True})
    waiting = [engine.submit(ids, GREEDY) for ids in ([5, 6, 7], [*numbers(300)[:60], 9])]
    assert engine.metrics()["waiting"] == 2
    begun = engine.events.next_seq
    engine.configure(policy=policy)  # while they wait
    for request in (busy, *waiting):
        request.result()
    engine.configure(max_running=8)
    return [e.cached for e in engine.events.since(begun) if e.kind == "request_matched"]


def test_policy_takes_effect_on_those_who_wait(engine):
    assert order_of(engine, "fcfs") == [0, 60]
    engine.cache.flush()
    assert order_of(engine, "lpm") == [60, 0]


def test_jump_forward_and_temperature_are_for_the_requests_that_do_not_say(engine):
    ask = {"regex": '\\{"name": "[a-z]{2}"\\}', "max_new_tokens": 30, "seed": 1}
    jumped = engine.submit("x", ask).result()
    engine.configure(jump_forward=False)
    walked = engine.submit("x", ask).result()
    assert jumped.meta_info["forced_tokens"] > 0
    assert walked.meta_info["forced_tokens"] == 0
    engine.configure(temperature=0)
    texts = {
        engine.generate("Once upon", {"max_new_tokens": 12, "seed": s})["text"] for s in (1, 2)
    }
    assert len(texts) == 1
    engine.configure(temperature=1.5)
    texts = {
        engine.generate("Once upon", {"max_new_tokens": 12, "seed": s})["text"] for s in (1, 2)
    }
    assert len(texts) == 2


def test_a_change_that_is_not_possible_changes_nothing(engine):
    before = engine.configure()
    for changes in (
        {"policy": "best"},
        {"eviction": "lru", "temperature": -1},
        {"policy": "fcfs", "chunk_tokens": 0},
        {"kv_tokens": 3},
        {"jump_forward": "yes"},
    ):
        with pytest.raises(ValueError, match=list(changes)[-1]):
            engine.configure(**changes)
    assert engine.configure() == before


def test_evict_takes_a_text_and_what_continues_it(engine):
    for rest in ([], [7, 8], [9]):
        engine.submit(numbers(300) + rest, GREEDY).result()
    engine.submit(numbers(500), GREEDY).result()
    cache = engine.cache
    assert cache.evict([*numbers(300), 7, 7]) == 0
    handle = cache.pin(numbers(300))
    assert cache.evict(numbers(300)) > 0
    assert cache.match(numbers(300)).cached == 100
    cache.unpin(handle)
    assert cache.evict(numbers(300)) >= 99
    assert cache.match(numbers(300)).cached == 0
    assert "cache.evict" in cache.why_miss(numbers(300)).detail
    assert cache.match(numbers(500)).cached == 100
    node = cache.match(numbers(500)).nodes[-1]
    assert cache.node(node)["above"] + len(cache.node(node)["ids"]) == 100
    handle = cache.pin(node)
    assert cache.node(node)["handles"] == [handle]
    assert cache.evict(node) == 0 or cache.node(node)
    cache.unpin(handle)
    cache.evict(node)
    with pytest.raises(ValueError, match="holds no node"):
        cache.pin(node)


def test_tokens_so_far_count_while_a_request_runs(engine):
    before = engine.metrics()["tokens_so_far"]
    request = engine.submit("Once upon", {"max_new_tokens": 40, "ignore_eos": True})
    seen = set()
    while not request.done:
        metrics = engine.metrics()
        seen.add(metrics["tokens_so_far"] - before)
    assert len(seen - {0, 40}) > 2
    assert engine.metrics()["tokens_so_far"] - before == 40
