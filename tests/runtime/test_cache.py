"""``engine.cache``: looking in, why a prefix missed, pins; the pool's size and its release."""

from __future__ import annotations

import pytest

from sglnb.errors import EngineError
from sglnb.runtime import Engine

GREEDY = {"temperature": 0, "max_new_tokens": 16}
ITALY = "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n<|im_start|>assistant\n"
STORY = "Once upon a time there was a girl named Lily. She had a red ball and a small dog."


@pytest.fixture
def cache(engine):
    engine.cache.flush()
    engine.call(engine._core.memory.tree.evictions.clear)
    engine.generate(ITALY, GREEDY)
    yield engine.cache
    engine.cache.flush()


@pytest.fixture(scope="module")
def small():
    with Engine(kv_tokens=128) as engine:
        yield engine
        engine.check()


@pytest.fixture(scope="module")
def paged():
    with Engine(kv_tokens=512, page_size=16) as engine:
        yield engine
        engine.check()


def test_looking_changes_nothing(engine, cache):
    before = cache.snapshot()
    match = cache.match(ITALY.replace("Italy", "France"))
    assert match.text.endswith("capital of")
    assert match.rest.startswith(" France")
    cache.why_miss(ITALY.replace("Italy", "France"))
    cache.cost_of_edit(ITALY, ITALY.replace("What", "Where"))
    assert cache.snapshot() == before
    assert sum(len(n["ids"]) for n in before) == engine.metrics()["kv_cached"]


# -- why a prefix missed ---------------------------------------------------------------------


def test_nothing_missed(cache):
    miss = cache.why_miss(ITALY)
    assert (miss.reason, miss.cached) == ("cached", miss.tokens)


def test_another_word(cache):
    miss = cache.why_miss(ITALY.replace("Italy", "France"))
    assert (miss.reason, miss.token, miss.instead) == ("never stored", " France", [" Italy"])
    assert str(miss).startswith("8 of 15 tokens are cached; the first missing one is ' France'")


def test_evicted_by_a_flush(engine, cache):
    cache.flush()
    miss = cache.why_miss(ITALY)
    assert (miss.reason, miss.cached, miss.by) == ("evicted", 0, "")
    assert "by a flush" in miss.detail
    assert 0 <= engine.events.now() - miss.evicted < 60


def test_evicted_for_another_request(small):
    small.cache.flush()
    small.generate(ITALY, GREEDY)
    other = small.submit(STORY * 6, {"max_new_tokens": 1}).result()
    miss = small.cache.why_miss(ITALY)
    assert miss.reason == "evicted"
    assert miss.by == other.rid
    assert f"to make room for {other.rid}" in str(miss)


def test_the_other_namespace(engine, cache):
    miss = cache.why_miss(ITALY, extra_key="adapter")
    assert miss.reason == "other namespace"
    assert "15 are cached in another namespace (the plain one)" in miss.detail
    engine.submit(STORY, {"max_new_tokens": 0}, extra_key="adapter").result()
    assert "namespace ('adapter')" in cache.why_miss(STORY).detail
    assert cache.match(STORY).cached == 0
    assert cache.match(STORY, extra_key="adapter").cached > 0


def test_tokenized_differently(engine, cache):
    tokenizer = engine.tokenizer
    ids = tokenizer.encode(STORY)
    at = next(i for i, t in enumerate(ids) if len(tokenizer.to_bytes([t])) > 3)
    letters = [tokenizer.encode_plain(c)[0] for c in tokenizer.decode([ids[at]])]
    engine.submit(ids[:at] + letters + ids[at + 1 :], {"max_new_tokens": 0}).result()
    miss = cache.why_miss(STORY)
    assert (miss.reason, miss.cached) == ("tokenized differently", at)


def test_a_prompt_that_ends_within_a_token(engine, cache):
    engine.submit("The cat sat", {"max_new_tokens": 0}).result()
    assert cache.why_miss("The cat sa").reason == "tokenized differently"


def test_page_rounding(paged):
    paged.cache.flush()
    ids = paged.tokenizer.encode(STORY)
    paged.submit(ids, {"max_new_tokens": 0}).result()
    stored = len(ids) - len(ids) % 16
    assert paged.cache.match(ids).cached == stored
    miss = paged.cache.why_miss(ids[: stored - 2])
    assert (miss.reason, miss.cached) == ("page rounding", stored - 16)
    assert "The other 14 are there" in miss.detail
    miss = paged.cache.why_miss([*ids[: stored - 2], 5, 5])
    assert (miss.reason, miss.cached) == ("never stored", stored - 16)


def test_what_an_edit_costs(cache):
    cost = cache.cost_of_edit(ITALY, ITALY.replace("Italy", "France"))
    assert (cost.cached, cost.kept, cost.lost, cost.compute) == (15, 8, 7, 7)
    assert cost.same.endswith("capital of")
    assert "throws away 7 of 15" in str(cost)
    late = cache.cost_of_edit(ITALY, ITALY + "It is")
    assert late.lost == 0


# -- pins ------------------------------------------------------------------------------------


def test_pins_survive_a_flush(engine, cache):
    handle = cache.pin(ITALY)
    cache.flush()
    engine.check()
    assert cache.match(ITALY).cached == 15
    assert [node["pins"] for node in cache.snapshot()] == [1]
    cache.unpin(handle)
    with pytest.raises(ValueError, match="not pinned"):
        cache.unpin(handle)
    cache.flush()
    assert cache.match(ITALY).cached == 0


def test_a_pin_computes_what_is_missing(engine, cache):
    handle = cache.pin(STORY)
    assert cache.match(STORY).rest == ""
    cache.unpin(handle)


def test_pins_have_a_budget(small):
    small.cache.flush()
    assert small.cache.pin_budget == 64
    handle = small.cache.pin(STORY)
    again = small.cache.pin(STORY[:-1] + "!")  # all but the last is pinned already
    used = len(small.tokenizer.encode(STORY)) + 1
    with pytest.raises(ValueError, match=rf"tokens do not fit in the pin budget \({used} of 64"):
        small.cache.pin("Some other text. " * 12)
    small.cache.pin_budget = 128
    with pytest.raises(ValueError, match="pin_budget: must be a whole number"):
        small.cache.pin_budget = 500
    for one in (handle, again):
        small.cache.unpin(one)
    small.cache.flush()
    assert small.metrics()["kv_used"] == 0


def test_less_than_a_page_cannot_be_pinned(paged):
    with pytest.raises(ValueError, match="less than a page of 16"):
        paged.cache.pin("Hello")


# -- the pool's size, release and resume -------------------------------------------------------


def test_the_pool_shrinks_and_grows_and_keeps_what_fits():
    with Engine(kv_tokens=1000) as engine:
        want = engine.generate(ITALY, GREEDY)["output_ids"]
        engine.generate(STORY, GREEDY | {"ignore_eos": True})
        handle = engine.cache.pin(ITALY)
        before = engine.metrics()["kv_cached"]
        engine.resize(4000)
        engine.check()
        assert engine.metrics()["kv_tokens"] == 4000
        assert engine.metrics()["kv_cached"] == before
        with pytest.raises(ValueError, match="15 tokens are pinned"):
            engine.resize(10)
        engine.resize(40)
        engine.check()
        assert engine.cache.match(ITALY).cached == 15
        again = engine.generate(ITALY, GREEDY)
        assert again["output_ids"] == want
        assert again["meta_info"]["cached_tokens"] == 14
        with pytest.raises(ValueError, match="KV pool of 40"):
            engine.generate(STORY * 2, GREEDY)
        engine.cache.unpin(handle)
        request = engine.submit(ITALY, GREEDY | {"ignore_eos": True})
        with pytest.raises(EngineError, match="1 requests are in progress"):
            engine.resize(100)
        request.result()
        engine.check()


@pytest.mark.parametrize("page_size", [1, 16])
def test_release_and_resume(page_size):
    with Engine(kv_tokens=320, page_size=page_size) as engine:
        want = engine.generate(ITALY, GREEDY)["output_ids"]
        engine.cache.pin(STORY)
        engine.release(weights=False)
        assert engine._core.runner.kv is None
        engine.resume()
        engine.release()
        assert engine.status()["state"] == "released"
        assert (engine.metrics()["kv_used"], engine._core.runner.model) == (0, None)
        with pytest.raises(EngineError, match=r"released; call engine.resume\(\)"):
            engine.generate(ITALY, GREEDY)
        with pytest.raises(EngineError, match=r"released; call engine.resume\(\)"):
            engine.resize(100)
        engine.resume()
        engine.resume()
        result = engine.generate(ITALY, GREEDY)
        assert (result["output_ids"], result["meta_info"]["cached_tokens"]) == (want, 0)
        engine.check()
