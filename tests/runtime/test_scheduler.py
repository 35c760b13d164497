"""The scheduler over random traces with tiny pools: nobody is lost, nobody starves."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglnb.runtime import policy, scheduler
from sglnb.runtime.memory import MemoryManager
from sglnb.runtime.policy import POLICIES
from sglnb.runtime.pool import SlotPool
from sglnb.runtime.radix import RadixTree
from sglnb.runtime.replay import Cost, Replay
from sglnb.runtime.request import Request
from sglnb.runtime.sampling_params import SamplingParams
from sglnb.runtime.scheduler import Scheduler
from sglnb.runtime.trace import TraceRequest

ROUNDS = Cost(step=1, token=0)
"""Time counts steps."""


def replay(trace, policy="lpm", eviction="lru", **options) -> Replay:
    defaults = {"kv_tokens": 64, "page_size": 1, "max_running": 4, "chunk_tokens": 8, "seed": 0}
    return Replay(
        trace, policy, eviction, **defaults | options,
        cost=ROUNDS, pieces=lambda ids: [str(i) for i in ids],
    )  # fmt: skip


HEADS = [[], [1] * 9, [1] * 9 + [2] * 12, [3] * 20]
REQUESTS = st.builds(
    TraceRequest,
    prompt=st.builds(
        lambda head, tail: head + tail,
        st.sampled_from(HEADS), st.lists(st.integers(0, 1), min_size=1, max_size=20),
    ),
    output=st.integers(0, 30) | st.lists(st.integers(0, 2), max_size=12),
    arrival=st.integers(0, 40).map(float),
    max_new_tokens=st.just(30),
    priority=st.sampled_from([0, 0, 0, 1, 5]),
    extra_key=st.sampled_from(["", "", "b"]),
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(
    trace=st.lists(REQUESTS, min_size=1, max_size=12),
    name=st.sampled_from(sorted(POLICIES)),
    eviction=st.sampled_from(["lru", "lfu", "mru", "cost"]),
    page=st.sampled_from([1, 16]),
    pages=st.integers(48, 120),
    chunk=st.sampled_from([3, 8, 100]),
    running=st.integers(1, 6),
    aborted=st.dictionaries(st.integers(1, 60), st.integers(0, 11), max_size=4),
)
def test_each_request_is_finished_once(trace, name, eviction, page, pages, chunk, running, aborted):
    """Random traces with priorities, namespaces and aborts over pools that hold little more
    than the longest prompt. The books are right after each step, and there is progress: between
    two output tokens there are at most so many steps as it takes each request to go through its
    prefill once for each request that is better placed (see ``Scheduler``)."""
    run = replay(
        trace, name, eviction, kv_tokens=pages + -pages % page, page_size=page,
        chunk_tokens=chunk, max_running=running,
    )  # fmt: skip
    longest = max(len(r.prompt) + r.output_length for r in trace)
    patience = len(trace) ** 2 * (-(-longest // chunk) + 1)
    done, quiet = 0, 0
    for step in count(1):
        going = run.step()
        if step in aborted:
            for request in [r for r, at in run.live.items() if at == aborted[step]]:
                run.finish(request, "abort")
        run.memory.check(run.scheduler.running)
        assert set(run.live) == {*run.scheduler.running, *run.scheduler.waiting}
        assert len(run.live) == len(run.scheduler.running) + len(run.scheduler.waiting)
        assert len(run.scheduler.running) <= running
        assert run.computed <= step * (chunk + running)
        progress = sum(f.get("output_tokens", 0) + bool(f.get("reason")) for f in run.facts)
        quiet = 0 if progress > done else quiet + 1
        done = progress
        assert quiet <= patience + 40, "nothing gets on (40: until the next one arrives)"
        if not going:
            break
    ended = [e.rid for e in run.events if e.kind == "request_finished"]
    assert sorted(ended) == sorted(f"t{at}" for at in range(len(trace)))
    for asked, facts in zip(trace, run.facts, strict=True):
        if facts["reason"] not in ("abort", "length"):
            assert facts["output_tokens"] == asked.output_length
        short = facts["reason"] == "length" and facts["output_tokens"] < asked.output_length
        if short:  # ended early for want of room, and only then
            assert len(asked.prompt) + facts["output_tokens"] >= run.memory.pool.total - page
    assert run.memory.available == run.memory.pool.total


@settings(deadline=None, max_examples=60)
@given(
    trace=st.lists(REQUESTS, min_size=5, max_size=40),
    name=st.sampled_from(sorted(POLICIES)),
    age=st.sampled_from([1, 3, 64]),
)
def test_admissions_keep_to_the_levels(trace, name, age):
    """Whoever is admitted, no one of a better level waits, but for those who step aside for a
    prefill that is under way. This is what the bounds in ``policy.level`` follow from."""
    run = replay(trace, name, max_running=3)
    plan = run.scheduler.next_step

    def watched():
        step = plan()
        aside = {*run.scheduler._waits_for, *step.retracted}
        for waiting in run.scheduler.waiting:
            if waiting not in aside:
                assert all(r.level <= waiting.level for r in step.admitted)
        return step

    run.scheduler.next_step = watched
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "AGE_ROUNDS", age)
        while run.step():
            pass


def stream(n: int, salt: int = 0, **options) -> list[TraceRequest]:
    """One request a step, all with one long prefix; each takes one step of chunk 8."""
    head = list(range(100, 140))
    return [
        TraceRequest([*head, salt, *range(1000 + 8 * i, 1008 + 8 * i)], 1, float(i), **options)
        for i in range(n)
    ]


BACKLOG = 30


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_short_request_does_not_starve_behind_a_stream_of_long_prefixes(name, monkeypatch):
    """Each step brings a request with the cached prefix, there is room for one in a step, and
    a backlog sees to it that there always is one: the short one is served by age, within
    AGE_ROUNDS and one round for each that waits before it."""
    monkeypatch.setattr(policy, "AGE_ROUNDS", 16)
    long = [*stream(BACKLOG, 1), *stream(400)]
    trace = [*long, TraceRequest([7, 8, 9], 1, 50.0)]
    run = replay(trace, name, kv_tokens=200)
    while run.step():
        pass
    short = run.facts[-1]
    waited_at_once = sum(f["arrived"] <= short["arrived"] < f["admitted"] for f in run.facts[:-1])
    assert short["rounds_waited"] <= 16 + waited_at_once
    if name == "lpm":  # and without ageing it would have waited for the stream's end
        monkeypatch.setattr(policy, "AGE_ROUNDS", 10**6)
        run = replay(trace, name, kv_tokens=200)
        while run.step():
            pass
        assert run.facts[-1]["rounds_waited"] > 300


def test_a_low_priority_does_not_starve(monkeypatch):
    monkeypatch.setattr(policy, "AGE_ROUNDS", 4)
    monkeypatch.setattr(policy, "PRIORITY_AGES", 3)
    trace = [*stream(BACKLOG, 1, priority=2), *stream(400, priority=2)]
    trace.append(TraceRequest([7, 8, 9], 1, 50.0))
    run = replay(trace, kv_tokens=200)
    while run.step():
        pass
    short = run.facts[-1]
    before = sum(f["arrived"] <= short["arrived"] < f["admitted"] for f in run.facts[:-1])
    assert before > 10
    assert 2 * 3 * 4 < short["rounds_waited"] <= (2 * 3 + 1) * 4 + before


def test_larger_priorities_first_and_the_policy_within():
    trace = [
        TraceRequest([1] * 8, 1),
        TraceRequest([2] * 8, 1, priority=1),
        TraceRequest([3] * 8, 1, priority=-1),
        TraceRequest([4] * 8, 3, priority=1),
    ]
    run = replay(trace, "lof")
    while run.step():
        pass
    order = [e.rid for e in run.events if e.kind == "request_matched"]
    assert order == ["t3", "t1", "t0", "t2"]


def test_a_larger_priority_takes_the_place_of_a_lower_one():
    low = [TraceRequest([i] * 8, 50) for i in (1, 2)]
    run = replay([*low, TraceRequest([3] * 8, 4, 10.0, priority=1)], max_running=2, kv_tokens=200)
    while run.step():
        pass
    assert run.facts[2]["admitted"] == run.facts[2]["arrived"]
    assert [f["retractions"] for f in run.facts] == [0, 1, 0], "the younger one steps back"
    assert run.computed == 2 * (8 + 49) + 8 + 3, "and finds all of its work in the cache"


def make(total: int = 400, chunk: int = 64, running: int = 8, page: int = 1) -> Scheduler:
    pool = SlotPool(total, page)
    memory = MemoryManager(pool, RadixTree(pool.free, page_size=page))
    return Scheduler(memory, "lpm", chunk, running)


def ask(ids, new: int = 4, **options) -> Request:
    return Request(list(ids), SamplingParams(max_new_tokens=new), **options)


def compute(plan, memory: MemoryManager) -> None:
    """What the engine does of a step, without the model: every token sampled is a 0."""
    for request, n in plan.work:
        request.computed += n
        if request.computed - n < request.prompt_len:
            memory.share(request)
        if request.pending == 0:
            request.ids.append(0)


@pytest.mark.parametrize("length", [2, 5, 40])
@pytest.mark.parametrize("page", [1, 16])
def test_siblings_compute_their_prompt_once(length, page):
    """n texts of one prompt: the first computes it, the others wait a step and find all of it
    but the last token, however short it is (in whole pages)."""
    queues = make(page=page)
    siblings = [ask(range(length)) for _ in range(4)]
    for request in siblings:
        queues.add(request)
    first = queues.next_step()
    reusable = (length - 1) // page * page
    assert len(first.admitted) == (1 if reusable else 4)
    compute(first, queues.memory)
    second = queues.next_step()
    assert len(second.work) == 4
    for request, n in second.work:
        assert n == (1 if request in first.admitted else length - reusable)


def test_nobody_waits_for_the_part_of_a_prefill_that_is_not_shared():
    queues = make(chunk=64)
    long, short = ask(range(300)), ask([*range(50), 999])
    queues.add(long)
    compute(queues.next_step(), queues.memory)
    queues.add(short)
    plan = queues.next_step()
    assert plan.work[0].request is long
    queues.chunk_tokens = 200
    compute(plan, queues.memory)
    plan = queues.next_step()
    assert short in plan.admitted
    assert long.in_prompt


def test_namespaces_share_nothing():
    queues = make()
    for key in ("", "b"):
        queues.add(ask(range(30), extra_key=key))
    assert len(queues.next_step().admitted) == 2


def test_what_can_never_fit_ends_instead_of_waiting_for_ever():
    queues = make(total=50)
    memory = queues.memory
    pinned = ask(range(30))
    queues.add(pinned)
    compute(queues.next_step(), memory)
    node = pinned.node
    memory.tree.lock(node)
    queues.remove(pinned)
    large, small = ask(range(100, 130)), ask([7, 8])
    for request in (large, small):
        queues.add(request)
    plan = queues.next_step()
    assert plan.starved == [large]
    assert plan.admitted == [small]


@pytest.mark.parametrize("page", [1, 16])
def test_a_prompt_as_large_as_the_pool_runs_twice(page):
    """The second time all of the pool is its own cached prefix, but for its last token."""
    queues = make(total=32, page=page)
    for _ in range(2):
        request = ask(range(32), new=0)
        queues.add(request)
        plan = queues.next_step()
        assert plan.admitted == [request]
        compute(plan, queues.memory)
        queues.remove(request)
        queues.memory.check([])


def test_admission_counts_on_the_rest_of_prompts_that_are_being_computed():
    queues = make(total=200, chunk=40)
    queues.add(ask(range(150)))
    compute(queues.next_step(), queues.memory)
    queues.add(ask(range(500, 560)))
    for _ in range(6):
        plan = queues.next_step()
        assert not plan.admitted
        assert not plan.retracted
        compute(plan, queues.memory)


def test_steps_that_can_admit_no_one_do_not_look_at_the_queue(monkeypatch):
    """Thousands may wait: a full batch, or a pool in which the first in line does not fit,
    decodes on without them."""
    queues = make(total=300, running=3)
    for at in range(2000):
        queues.add(ask(range(100 * at, 100 * at + 60), new=40))
    for _ in range(6):
        compute(queues.next_step(), queues.memory)
    assert len(queues.running) == 3
    monkeypatch.setattr(queues, "_queue", lambda: pytest.fail("sorted the queue"))
    for _ in range(10):
        compute(queues.next_step(), queues.memory)
    monkeypatch.undo()
    queues.remove(queues.running[0])
    assert queues.next_step().admitted


def test_sharing_saves_are_worth_a_step(monkeypatch):
    """Two different prompts with a short common beginning do not wait for each other."""
    queues = make()
    common = list(range(scheduler.SHARE_MIN - 1))
    queues.add(ask([*common, 100]))
    queues.add(ask([*common, 200, 201]))
    assert len(queues.next_step().admitted) == 2
    queues = make()
    common.append(50)
    queues.add(ask([*common, 100]))
    queues.add(ask([*common, 200, 201]))
    assert len(queues.next_step().admitted) == 1
