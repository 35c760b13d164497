"""Simulation against the engine itself, and the optimum against all orders there are."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sglnb as sgl
from sglnb.runtime.policy import POLICIES
from sglnb.runtime.replay import Cost
from sglnb.runtime.trace import TraceRequest, as_trace, from_events, optimal_hit_rate
from sglnb.viz.frame import token_rows
from sglnb.viz.reduce import fold

GREEDY = {"temperature": 0, "ignore_eos": True}
TEXT = st.lists(st.integers(0, 1), min_size=1, max_size=5)
SMALL = st.lists(
    st.builds(
        TraceRequest, TEXT, st.integers(0, 4) | st.lists(st.integers(0, 1), max_size=4),
        extra_key=st.sampled_from(["", "", "b"]),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


def one_by_one(trace, **options):
    """Served in the given order, one at a time."""
    return sgl.simulate(trace, "fcfs", **{"kv_tokens": 4096, "max_running": 1} | options)


@settings(deadline=None, max_examples=60)
@given(SMALL)
def test_the_optimum_is_that_of_the_best_order(trace):
    best = max(one_by_one(list(order)).hit_rate for order in permutations(trace))
    assert optimal_hit_rate(trace) == pytest.approx(best)


@settings(deadline=None, max_examples=30)
@given(SMALL)
def test_the_optimum_in_pages(trace):
    wide = [
        TraceRequest(
            [16 * i + j for i in r.prompt for j in range(16)][: 16 * len(r.prompt) - at],
            r.output if isinstance(r.output, int) else [0] * len(r.output),
            extra_key=r.extra_key,
        )
        for at, r in enumerate(trace)
    ]
    best = max(one_by_one(list(order), page_size=16).hit_rate for order in permutations(wide))
    assert optimal_hit_rate(wide, page_size=16) == pytest.approx(best)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(TEXT, st.integers(0, 4)), min_size=1, max_size=10))
def test_depth_first_order_is_optimal_if_the_cache_holds_the_longest_request(texts):
    """Theorem 3.1 of the paper, by running it: the sorted prompts are a depth-first order."""
    trace = [TraceRequest(prompt, output) for prompt, output in sorted(texts)]
    longest = max(len(r.prompt) + r.output_length for r in trace)
    result = one_by_one(trace, kv_tokens=longest + 1)  # 1: beside its cached copy, the last token
    assert result.hit_rate == pytest.approx(result.optimal_hit_rate)


@settings(deadline=None, max_examples=60)
@given(
    SMALL, st.sampled_from(sorted(POLICIES)), st.integers(1, 4), st.integers(10, 60),
    st.sampled_from([2, 16]),
)  # fmt: skip
def test_no_schedule_beats_the_optimum(trace, policy, running, kv_tokens, chunk):
    result = sgl.simulate(
        trace, policy, kv_tokens=kv_tokens, max_running=running, chunk_tokens=chunk
    )
    assert result.hit_rate <= result.optimal_hit_rate + 1e-9


def test_a_simulation_counts_everything():
    head = list(range(40))
    trace = [TraceRequest([*head, i], 5, name=f"q{i}", state=f"s{i}") for i in (50, 51, 52)]
    result = sgl.simulate(trace, kv_tokens=100, cost=Cost(step=1, token=0.1))
    assert result.cached_tokens == 80
    assert result.hit_rate == pytest.approx(80 / 123) == result.optimal_hit_rate
    assert result.computed_tokens == 41 + 1 + 1 + 3 * 4
    assert result.steps == 6
    assert result.seconds == pytest.approx(6 + 0.1 * result.computed_tokens)
    assert (result.retractions, result.evicted_tokens) == (0, 0)
    frame = result.to_frame()
    assert list(frame["request"]) == ["t0", "t1", "t2"]
    assert list(frame["cached_tokens"]) == [0, 40, 40]
    assert list(frame["wait"]) == pytest.approx([0, 5.1, 5.1])
    assert list(frame["rounds_waited"]) == [1, 2, 2]
    assert "hit rate 65.0% of at most 65.0%" in repr(result)


def test_turns_of_a_chat_come_after_one_another():
    first = list(range(30))
    answer = [90, 91, 92]
    trace = [
        TraceRequest(first, answer),
        TraceRequest([*first, *answer, 7, 8], 3, arrival=2.0, after=0),
    ]
    result = sgl.simulate(trace, cost=Cost(1, 0))
    frame = result.to_frame()
    assert frame["arrived"][1] == frame["finished"][0] + 2
    assert frame["cached_tokens"][1] == 32, "all but the answer's last token"
    assert result.hit_rate == result.optimal_hit_rate


def test_the_same_seed_gives_the_same_run():
    trace = [TraceRequest([i % 7] * (5 + i % 11), 3) for i in range(60)]
    runs = [sgl.simulate(trace, "random", kv_tokens=64, seed=s) for s in (1, 1, 2)]
    told = [[(e.kind, e.t) for e in run.events] for run in runs]
    assert told[0] == told[1] != told[2]


def test_the_views_take_a_simulation():
    trace = [TraceRequest([1, 2, 3, i], 4, state=f"s{i}", run="r") for i in range(3)]
    result = sgl.simulate(trace, kv_tokens=16)
    view = fold(result.events)
    assert view["header"]["status"] == "done"
    assert len(view["branches"]["bars"]) == 3
    rows = token_rows(result.events, "r")
    assert len(rows) == 3 * 8
    assert sgl.simulate([]).to_frame().empty


def test_a_recording_can_be_replayed(engine):
    """Requests one after another: the simulation finds what the engine found, step by step."""
    engine.cache.flush()
    seen = engine.events.next_seq
    first = engine.generate("One, two, three, four, five, six", GREEDY | {"max_new_tokens": 6})
    text = "One, two, three, four, five, six" + first["text"] + " and so on"
    outs = [first, engine.generate(text, GREEDY | {"max_new_tokens": 3}, return_logprob=False)]
    outs.append(engine.generate("Say yes or no: ", GREEDY | {"choices": ["yes it is", "no"]}))
    engine.check()  # between two steps: all events are out
    events = engine.events.since(seen)
    result = sgl.simulate(events, kv_tokens=500)
    assert [r.prompt for r in result.trace] == [
        e.ids for e in events if e.kind == "request_arrived"
    ]
    assert [list(r.output) for r in result.trace] == [out["output_ids"] for out in outs]
    frame = result.to_frame()
    assert list(frame["cached_tokens"]) == [out["meta_info"]["cached_tokens"] for out in outs]
    assert result.steps == sum(e.kind == "step" for e in events)
    assert result.seconds > 0
    pieces = {e.ids[0]: e.pieces[0] for e in result.events if e.kind == "tokens"}
    real = {e.ids[0]: e.pieces[0] for e in events if e.kind == "tokens"}
    assert pieces == {i: real[i] for i in pieces}


def test_a_recorded_program_keeps_its_order(engine):
    """A fork's children come after what their parent was waiting for."""

    @sgl.function
    def program(s):
        s += "Count: " + sgl.gen("a", max_tokens=4, temperature=0)
        for child in s.fork(3):
            child += " then " + sgl.gen("b", max_tokens=3, temperature=0)

    seen = engine.events.next_seq
    program.run(backend=engine).sync()
    engine.check()
    trace = from_events(engine.events.since(seen))
    by_name = {}
    for at, request in enumerate(trace):
        by_name.setdefault(request.name, []).append(at)
    (first,) = by_name["a"]
    children = by_name["b"]
    assert len(children) == 3
    for at in children:
        ancestor = trace[at].after
        while trace[ancestor].after is not None:
            ancestor = trace[ancestor].after
        assert ancestor == first
    for policy in POLICIES:
        result = sgl.simulate(trace, policy, tokenizer=engine.tokenizer)
        assert result.to_frame()["finished"].notna().all()


def test_costs_are_fitted_to_a_recording():
    result = sgl.simulate([TraceRequest([i] * n, 4) for i, n in enumerate((9, 30, 70))],
                          cost=Cost(0.25, 0.125))  # fmt: skip
    assert Cost.fit(result.events) == pytest.approx((0.25, 0.125))
    assert Cost.fit([]) == Cost()


@pytest.mark.parametrize(
    ("trace", "options", "message"),
    [
        (["text"], {}, r"trace\[0\]: its prompt is text; give tokenizer="),
        ([[]], {}, r"trace\[0\]: prompt must be text or token ids"),
        ([{"promt": [1]}], {}, r"trace\[0\]: unknown field 'promt'; known: after, arrival"),
        ([{"prompt": [1], "after": 0}], {}, r"trace\[0\]: after must be .* an earlier request"),
        ([{"prompt": [1], "output": -1}], {}, r"trace\[0\]: output and arrival must not"),
        ([[1] * 9], {"kv_tokens": 8}, r"kv_tokens: 8 is too small for trace\[0\]"),
        ([[1]], {"policy": "best"}, "policy: must be 'lpm'"),
        ([[1]], {"eviction": "best"}, "eviction: must be 'lru'"),
        ([[1]], {"page_size": 3}, "page_size: must be 1 or 16"),
        ([[1]], {"max_running": 0}, "max_running: must be a whole number at least 1"),
    ],
)
def test_mistakes_are_named(trace, options, message):
    with pytest.raises(ValueError, match=message):
        sgl.simulate(trace, **options)


def test_text_needs_a_tokenizer(engine):
    ids = engine.tokenizer.encode("Hello there")
    assert as_trace(["Hello there"], engine.tokenizer)[0].prompt == ids
    assert sgl.optimal_hit_rate(["Hello there"] * 2, tokenizer=engine.tokenizer) == pytest.approx(
        (len(ids) - 1) / len(ids) / 2
    )
