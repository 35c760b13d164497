"""The constraint pane and the schedule pane: what they are made of, the same on both sides."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from viz_logs import NAMES, load, load_dicts, run_of
from viz_node import run_node

import sglnb as sgl
from sglnb.events import EventLog, RequestArrived, RequestFinished, RunEnded, RunStarted, StepRan
from sglnb.runtime.constraints.compiler import regex_dfa
from sglnb.runtime.constraints.graph import draw, to_record
from sglnb.runtime.trace import TraceRequest
from sglnb.viz import fold, run_events, static_html
from sglnb.viz.columns import column_words, is_busy, schedule_words, step_columns, time_columns
from sglnb.viz.constraint_export import constraint_fsm, own_fsm_svg
from sglnb.viz.fsm import FSM, MAX_EDGES, MAX_STATES, draw_fsm, edge_path, focus_of, strip
from sglnb.viz.publisher import Publisher
from sglnb.viz.saved import MERGED, SavedLog, to_json
from sglnb.viz.static_schedule import schedule_html
from sglnb.viz.wire import Encoder

REGEXES = [
    "[0-9]{1,3}", r"\[([0-9]+(, [0-9]+)*)?\]", r"[a-z]+@[a-z]+\.(com|org|net)", "(ab|cd)*e?",
    "(Gryffindor|Slytherin|Ravenclaw|Hufflepuff|Ravenwood)!", "a?b?c?d?", "x",
    r'\{"n": "[\w ]{1,16}", "h": "(oak|yew)", "p": "[\w ]{1,16}", "q": "[\w ]{1,16}"\}',
    "a\nb\tc <b>&\"'", "(a|b|c|d)(a|b|c|d)(a|b|c|d)(a|b|c|d)", "💡+é",
]  # fmt: skip


def record(regex: str) -> dict:
    return to_record(draw(regex_dfa(regex)).compressed)


def as_json(value):
    return json.loads(json.dumps(value))


def test_automata_are_drawn_alike():
    graphs = [record(regex) for regex in REGEXES]
    code = """
        const { FSM, drawFsm } = await import(staticUrl + '/fsm.js');
        output(input.map((graph) => {
          const fsm = new FSM(graph);
          const layers = fsm.layers();
          const states = [...fsm.final.keys()];
          const places = [states[0], states.at(-1)].map((at) => [...fsm.around(at)]);
          const plans = places.map((shown) => drawFsm(fsm, new Set(shown), layers));
          return { layers, places, plans };
        }));"""
    for regex, graph, theirs in zip(REGEXES, graphs, run_node(code, graphs), strict=True):
        fsm = FSM(graph)
        layers, states = fsm.layers(), list(fsm.final)
        assert theirs["layers"] == layers, regex
        for at, shown, plan in zip(
            (states[0], states[-1]), theirs["places"], theirs["plans"], strict=True
        ):
            assert set(shown) == fsm.around(at)
            ours = draw_fsm(fsm, set(shown), layers)
            assert plan["width"] == pytest.approx(ours.width)
            assert plan["height"] == pytest.approx(ours.height)
            for a, b in zip(
                [*plan["states"], *plan["edges"]], ours.states + ours.edges, strict=True
            ):
                assert a == pytest.approx(b), regex


@pytest.mark.parametrize("regex", REGEXES)
def test_a_drawing_holds_all_it_should(regex):
    fsm = FSM(record(regex))
    for state in fsm.final:
        shown = fsm.around(state)
        assert state in shown
        assert len(shown) <= MAX_STATES
        plan = draw_fsm(fsm, shown, fsm.layers())
        assert len(plan.edges) <= MAX_EDGES
        places = {(each["x"], each["y"]) for each in plan.states}
        assert len(places) == len(plan.states)
        assert all(0 < x < plan.width and 0 < y < plan.height for x, y in places)
        for edge in plan.edges:
            numbers = map(float, re.findall(r"-?[\d.]+", edge_path(edge)))
            assert min(numbers) >= -1
    ET.fromstring(own_fsm_svg(fsm))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(REGEXES), st.randoms())
def test_the_way_of_a_text_is_the_one_it_took(regex, rng):
    """A random walk through the plain automaton, cut into pieces anywhere: the ways of the pieces
    join, and together they are the walk."""
    dfa = regex_dfa(regex)
    plain, fsm = draw(dfa).plain, FSM(record(regex))
    exits: dict[int, list] = {}
    for edge in plain.edges:
        exits.setdefault(edge.source, []).append(edge)
    state, walk = 0, []
    while exits.get(state) and len(walk) < 60 and not (state in dfa.final and rng.random() < 0.1):
        edge = rng.choice(exits[state])
        char = edge.text
        if char is None:
            classes = [c for c, target in dfa.rows[state].items() if target == edge.target]
            char = chr(dfa.alphabet.sets[rng.choice(classes)][0][0])
        walk.append((state, char, edge.target))
        state = edge.target
    truth = []
    for before, _, after in walk:
        taken = [
            i
            for i, (source, target, _, _, via) in enumerate(fsm.edges)
            if (before, after) in zip([source, *via], [*via, target], strict=True)
        ]
        assert len(taken) == 1
        if not truth or truth[-1] != taken[0] or before == fsm.edges[taken[0]][0]:
            truth.append(taken[0])
    found, at = [], 0
    while at < len(walk):
        n = rng.randint(1, 5)
        piece = walk[at : at + n]
        way = fsm.way(piece[0][0], piece[-1][2], "".join(char for _, char, _ in piece))
        assert way, piece
        joins = found and found[-1] == way[0] and piece[0][0] in fsm.edges[way[0]][4]
        found += way[1:] if joins else way
        at += n
    certain = all(fsm.edges[i][3] for i in truth)
    if certain or regex in ("[0-9]{1,3}", r"\[([0-9]+(, [0-9]+)*)?\]"):
        assert found == truth
    else:  # which set a character is in is not known: a way of the same length that fits
        assert fsm.edges[found[0]][0] == 0
        assert all(fsm.edges[a][1] == fsm.edges[b][0] for a, b in pairwise(found))


@pytest.mark.parametrize("name", NAMES)
def test_strips_and_ways_agree(name):
    code = """
        const { fold } = await import(staticUrl + '/reduce.js');
        const { FSM, focusOf, strip } = await import(staticUrl + '/fsm.js');
        const view = fold(input);
        const { requests, order, graphs } = view.constraint;
        const ways = (request, items) => {
          const graph = graphs[request.source]?.graph;
          const way = (item) => new FSM(graph).way(item.fsm, item.fsm_to, item.text);
          return graph ? items.map(way) : null;
        };
        output({ focus: focusOf(view.constraint)?.rid ?? null, all: order.map((rid) => {
          const items = strip(view.tokens, requests[rid]);
          return { items, ways: ways(requests[rid], items) };
        }) });"""
    theirs = run_node(code, load_dicts(name))
    view = fold(load(name))
    focus = focus_of(view["constraint"])
    assert theirs["focus"] == (focus and focus["rid"])
    for rid, each in zip(view["constraint"]["order"], theirs["all"], strict=True):
        request = view["constraint"]["requests"][rid]
        items = strip(view["tokens"], request)
        assert each["items"] == as_json(items)
        graph = (view["constraint"]["graphs"].get(request["source"]) or {}).get("graph")
        ways = graph and [FSM(graph).way(i["fsm"], i["fsm_to"], i["text"]) for i in items]
        assert each["ways"] == ways


@pytest.mark.parametrize("name", ["queue", "constrained", "hostile", "chat"])
@pytest.mark.parametrize("limit", [5, 20, 1000])
def test_columns_and_their_words_agree(name, limit):
    code = """
        const { fold } = await import(staticUrl + '/reduce.js');
        const { columnWords, isBusy, scheduleWords, stepColumns }
          = await import(staticUrl + '/columns.js');
        const view = fold(input.log);
        const columns = stepColumns(view.schedule, input.limit);
        output({ columns, words: columns.map(({ first, size }) => columnWords(view, first, size)),
          all: scheduleWords(view.schedule), busy: isBusy(view.schedule) ? true : false });"""
    theirs = run_node(code, {"log": load_dicts(name), "limit": limit})
    view = fold(load(name))
    columns = step_columns(view["schedule"], limit)
    assert len(columns) <= limit
    for ours, column in zip(columns, theirs["columns"], strict=True):
        bands, others = column.pop("bands"), ours.pop("bands")
        assert column == pytest.approx(ours)
        assert [band[0] for band in bands] == [band[0] for band in others]
        for a, b in zip(bands, others, strict=True):
            assert a[1:] == pytest.approx(b[1:])
        words = column_words(view, ours["first"], ours["size"])
        assert theirs["words"].pop(0) == words
    assert theirs["all"] == schedule_words(view["schedule"])
    assert theirs["busy"] == bool(is_busy(view["schedule"]))


# -- the schedule's books ------------------------------------------------------------------


def test_steps_account_for_every_token():
    for name in ("queue", "constrained"):
        events = load(name)
        schedule = fold(events)["schedule"]
        made = sum(len(e.ids) - e.replaced for e in events if e.kind == "tokens")
        assert sum(step["made"] for step in schedule["steps"]) + schedule["since"]["made"] == made
        read = sum(e.end - e.start for e in events if e.kind == "request_scheduled")
        parts = [part for step in schedule["steps"] for part in step["parts"]]
        assert sum(part[1] for part in parts) == read
        assert schedule["queue"] == 0
        finished = {e.rid: e for e in events if e.kind == "request_finished"}
        assert schedule["hits"] == sum(e.cached_tokens for e in finished.values())
        assert schedule["prompt"] == sum(e.prompt_tokens for e in finished.values())


@settings(max_examples=25, deadline=None)
@given(
    st.integers(40, 400), st.integers(4, 64), st.integers(1, 6), st.randoms(use_true_random=False)
)
def test_the_queue_of_any_simulation_is_counted(kv_tokens, chunk_tokens, max_running, rng):
    trace = [
        TraceRequest(
            [rng.randrange(3)] * rng.randrange(1, 30) + [i],
            rng.randrange(0, 9),
            arrival=rng.random() / 10,
            priority=rng.randrange(2),
        )
        for i in range(12)
    ]
    result = sgl.simulate(
        trace, kv_tokens=kv_tokens, chunk_tokens=chunk_tokens, max_running=max_running
    )
    schedule = fold(result.events)["schedule"]
    for step in schedule["steps"]:
        assert step["queue"] >= 0
        assert all(read > 0 or wrote > 0 for _, read, wrote, _ in step["parts"])
    assert sum(s["made"] for s in schedule["steps"]) + schedule["since"]["made"] == sum(
        request.output_length for request in trace
    )
    widths = time_columns(schedule, 0.0, result.seconds / 30 or 1.0, 30)
    assert len(widths) == 30
    assert not schedule["queue"]


def test_a_runs_log_has_its_steps_and_others_as_others():
    events = load("queue")
    mine = run_events(events, "queue")
    own = {e.rid for e in mine if e.kind == "request_arrived"}
    steps = [e for e in mine if e.kind == "step"]
    everywhere = [e for e in events if e.kind == "step"]
    involved = [e for e in everywhere if own & {*e.prefill, *e.decode}]
    assert {e.seq for e in involved} <= {e.seq for e in steps}
    schedule = fold(mine)["schedule"]
    assert set(schedule["requests"]) == own
    assert any(sum(step["others"]) for step in schedule["steps"])
    assert not any(sum(step["others"]) for step in fold(events)["schedule"]["steps"])


def test_steps_of_others_are_kept_only_while_the_run_has_a_request():
    def step(n, *rids):
        return StepRan(step=n, prefill=[], decode=list(rids), prefill_tokens=0, waiting=0,
                       used_slots=1, total_slots=9, seconds=0.1)  # fmt: skip

    def arrived(rid, run):
        return RequestArrived(rid=rid, run=run, state=rid, name="", purpose="gen", ids=[1],
                              pieces=["x"])  # fmt: skip

    log = EventLog()
    for event in [
        step(0, "b"), RunStarted(run="a"), step(1, "b"), arrived("a1", "a"), step(2, "b"),
        step(3, "a1", "b"), RequestFinished(rid="a1", reason="stop"), step(4, "a1", "b"),
        step(5, "b"), RunEnded(run="a"), step(6, "b"),
    ]:  # fmt: skip
        log.emit(event)
    kept = [e.step for e in run_events(log.since(), "a") if e.kind == "step"]
    assert kept == [2, 3, 4]  # 4 is told of after the end of the request that was in it


def test_the_wire_form_of_a_step_is_small():
    events = run_events(load("queue"), "queue")
    encode = Encoder()
    sizes = [len(to_json(encode(event))) for event in events]
    steps = [n for n, event in zip(sizes, events, strict=True) if event.kind == "step"]
    assert sum(steps) / len(steps) < 100


def test_a_condensed_copy_keeps_all_tokens_and_seconds_of_its_steps():
    trace = [TraceRequest([i] * 9, 300, arrival=i, run="r", state=str(i)) for i in range(2)]
    events = run_events(sgl.simulate(trace).events, "r")
    saved = SavedLog(budget=26_000)
    saved.add(events)
    assert saved.level == MERGED
    text = json.loads(saved.text())
    code = """
        const { fold } = await import(staticUrl + '/reduce.js');
        const { makeDecoder, unmerged } = await import(staticUrl + '/wire.js');
        const events = unmerged(input.events);
        output([fold(events.map(makeDecoder())), events.map((event) => event.t)]);"""
    (view, times), all_ours = run_node(code, text), fold(events)
    theirs, ours = view["schedule"], all_ours["schedule"]
    assert times == sorted(times)
    for state in ("0", "1"):
        kept, whole = (each["tokens"]["rows"][state]["tokens"] for each in (view, all_ours))
        assert [token["id"] for token in kept] == [token["id"] for token in whole]
        for key in ("t", "wait"):
            sides = ([token.get(key) for token in side] for side in (kept, whole))
            assert next(sides) == pytest.approx(next(sides), abs=3e-5)
    for name in ("made", "forced", "count", "seconds"):
        a, b = (sum(step[name] for step in view["steps"]) for view in (theirs, ours))
        assert a == pytest.approx(b, abs=1e-3), name
    assert len(theirs["steps"]) < len(ours["steps"])


# -- on the engine -------------------------------------------------------------------------


def test_a_run_is_told_once_what_its_constraint_looks_like(engine):
    seen = engine.events.next_seq
    regex = r"(left|right) [0-9]"
    for run in ("a", "a", "b", ""):
        engine.submit("x ", {"regex": regex, "max_new_tokens": 8}, run=run).result()
    long = ["a" * 3000, "a" * 3000 + "b"]
    for choices in (long, long[:1]):
        engine.submit(
            "x ", {"choices": choices, "max_new_tokens": 2, "on_budget": "cut"}, run="c"
        ).result()
    engine.check()
    events = engine.events.since(seen)
    used = [e for e in events if e.kind == "constraint_used"]
    assert [e.run for e in used] == ["a", "b", "c", "c"]
    assert used[0].graph == record(regex)
    assert used[0].source in {e.constraint for e in events if e.kind == "request_arrived"}
    assert used[2].source != used[3].source  # though both are cut at the same text
    assert len(used[2].source) == 2000
    arrived = [e.constraint for e in events if e.kind == "request_arrived"]
    assert arrived[-2:] == [used[2].source, used[3].source]


def test_the_states_of_a_request_are_those_of_its_constraint(engine):
    seen = engine.events.next_seq
    regex = r'\{"n": "[a-z]{2,5}", "house": "(oak|yew)"\}'
    engine.submit("As JSON: ", {"regex": regex, "max_new_tokens": 40}, run="s").result()
    engine.check()
    view = fold(run_events(engine.events.since(seen), "s"))
    request = focus_of(view["constraint"])
    fsm = FSM(view["constraint"]["graphs"][request["source"]]["graph"])
    items = strip(view["tokens"], request)
    ways = [fsm.way(item["fsm"], item["fsm_to"], item["text"]) for item in items]
    path = [i for way in ways for i in way]
    edges = [i for n, i in enumerate(path) if n == 0 or path[n - 1] != i]
    assert fsm.edges[edges[0]][0] == 0
    assert fsm.final[fsm.edges[edges[-1]][1]]
    for a, b in pairwise(edges):
        assert fsm.edges[a][1] == fsm.edges[b][0]
    spelled = "".join(fsm.edges[i][2] if fsm.edges[i][3] else "." for i in edges)
    text = "".join(item["text"] for item in items if item["fsm"] != item["fsm_to"])
    assert re.fullmatch(re.sub(r"\\\.|\.", ".", re.escape(spelled).replace(r"\.", ".")), text)
    jumps = [item for item in items if item["kind"] == "forced"]
    assert jumps
    assert all(item["removed"] is None for item in jumps)


# -- what leaves the notebook --------------------------------------------------------------


def test_a_constraint_shows_itself(engine, monkeypatch):
    import shutil

    constraint = sgl.compile_constraint(regex='<b>"(yes|no)\n[0-9]?', tokenizer=engine.tokenizer)
    bundle = constraint._repr_mimebundle_()
    assert "<script" not in bundle["text/html"]
    assert "&lt;b&gt;" in bundle["text/html"]
    assert "style>" not in bundle["text/html"]
    assert "◎" in bundle["text/plain"]
    assert repr(constraint).startswith("Constraint(regex:")
    ET.fromstring(constraint.to_svg())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert constraint.to_svg() == own_fsm_svg(constraint_fsm(constraint))
    page = constraint.to_html()
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "doublecircle" in constraint.to_dot()
    for line in constraint.to_dot().splitlines():
        assert len(re.findall(r'(?<!\\)"', line)) % 2 == 0


def test_a_constraint_without_an_automaton_shows_itself_too(engine):
    constraint = sgl.compile_constraint(json_schema={"type": "object"}, tokenizer=engine.tokenizer)
    assert "json_schema" in constraint._repr_mimebundle_()["text/html"]
    ET.fromstring(constraint.to_svg())
    assert "no automaton" in constraint.to_html()
    assert constraint.to_dot().startswith("digraph")


def test_saved_pictures_are_bounded():
    trace = [TraceRequest([i] * 20, 40, state=f"s{i}", run="r") for i in range(200)]
    html = schedule_html(fold(sgl.simulate(trace, max_running=64).events))
    assert len(html) < 120_000
    assert "constraint" in static_html(load("constrained"), run_of(load("constrained")))
    assert "schedule" not in static_html(load("chat"), "chat")


def test_two_policies_on_one_axis():
    trace = [
        TraceRequest([1 + i % 3] * 40 + [10 + i] * 4, 6, state=f"<b>{i}", name="<i>")
        for i in range(16)
    ]
    first = sgl.simulate(trace, "lpm", kv_tokens=120, max_running=2)
    other = sgl.simulate(trace, "fcfs", kv_tokens=120, max_running=2)
    both = first.compare(other)
    assert both.seconds == first.seconds - other.seconds < 0
    assert both.hit_rate == first.hit_rate - other.hit_rate > 0
    assert repr(both).startswith(f"lpm is {-both.seconds:.2f} s faster than fcfs: ")
    assert "tokens fewer" in repr(both)
    html = both.to_html()
    assert "<script" not in html
    assert "<b>0" not in html
    assert html.count("hit rate</span>") == 2
    assert "same" in repr(first.compare(first))
    with pytest.raises(ValueError, match="different traces"):
        first.compare(sgl.simulate(trace[:3], kv_tokens=120))
    assert first._repr_mimebundle_()["text/plain"] == repr(first)
    assert 'id="log"' in first.to_html()
    assert "div" in sgl.simulate([])._repr_mimebundle_()["text/html"]


def test_the_publisher_sends_steps_and_graphs():
    events = load("constrained")
    log, messages, saves = EventLog(), [], []
    for event in events:
        log.emit(event)
    Publisher(log, run_of(events), messages.append, saves.append).finish()
    kinds = {wire["k"] for message in messages for wire in json.loads(message["json"])}
    assert {"step", "constraint_used"} <= kinds


@pytest.mark.parametrize(
    "regex", [r"a(b|[^\s\S])c", r"(a[^\s\S]|b)+d", r"(x|y[^\s\S]z)(q|)|[^\s\S]"]
)
def test_no_state_is_drawn_from_which_there_is_no_end(regex, engine):
    graph = sgl.compile_constraint(regex=regex, tokenizer=engine.tokenizer).graph().plain
    alive = {node.id for node in graph.nodes if node.final}
    for _ in graph.nodes:
        alive |= {edge.source for edge in graph.edges if edge.target in alive}
    assert alive == {node.id for node in graph.nodes}
