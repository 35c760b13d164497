"""The dataflow graph of a program before it runs: never wrong, and no model is asked."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image as Pillow
from traced_programs import answer, by_character, main, programs, score
from traced_uses import USES

import sglnb.language as sgl
from sglnb.language import SglArgument, Trace


def kinds(trace: Trace, state: int = 0) -> list[str]:
    return [node.kind for node in trace.nodes if node.state == state]


def traced(body, backend=None, **kwargs) -> Trace:
    return sgl.function(body).trace(backend=backend or by_character(), **kwargs)


# -- the graph --------------------------------------------------------------------------------


@sgl.function
def expand(s, tip):
    s += "Expand: " + tip + "\n" + sgl.gen("detail")


@sgl.function
def tips(s, topic):
    s += "Two tips for " + topic + ".\n1." + sgl.gen("tip_1") + "\n2." + sgl.gen("tip_2")
    one, two = expand(tip=s["tip_1"]), expand.run(tip=s["tip_2"])
    s += "In short: " + one["detail"] + two["detail"] + sgl.gen("summary")


def test_programs_in_programs_and_who_uses_what(backend):
    trace = tips.trace(backend=backend)
    assert trace.complete
    assert trace.arguments == ["topic"]
    assert [state.label for state in trace.states] == ["tips", "expand", "expand"]
    assert kinds(trace) == [
        "text", "argument", "text", "gen", "text", "gen", "text", "use", "use", "gen"
    ]  # fmt: skip
    assert kinds(trace, 1) == kinds(trace, 2) == ["text", "use", "text", "gen"]
    by_id = {node.id: node for node in trace.nodes}
    data = [
        (by_id[a].name, by_id[b].kind, by_id[b].state) for a, b, k in trace.edges if k == "data"
    ]
    assert data == [
        ("tip_1", "use", 1),
        ("tip_2", "use", 2),
        ("detail", "use", 0),
        ("detail", "use", 0),
    ]
    order = [(a, b) for a, b, kind in trace.edges if kind == "order"]
    assert all(by_id[a].state == by_id[b].state for a, b in order)
    assert backend.calls == []
    assert len(backend.events) == 0
    where = {Path(node.where[0]).name for node in trace.nodes}
    assert where == {"test_trace.py"}
    lines = Path(__file__).read_text().splitlines()
    assert all(node.kind == "use" or "s +=" in lines[node.where[1] - 1] for node in trace.nodes)


def test_sglangs_names(backend):
    graph = tips.trace(backend=backend).last_node.print_graph_dfs()
    assert graph.splitlines()[0] == "%0 = Text('Two tips for ')"
    assert graph.splitlines()[1] == "%1 = %0 + Argument('topic')"
    assert len(graph.splitlines()) == len(tips.trace(backend=backend).nodes)
    with pytest.raises(TypeError, match="f-string"):
        f"I want to ask {SglArgument('question', None)}"


def test_everything_that_a_state_can_do(backend):
    def program(s, q):
        s += sgl.system("Be brief.")
        with s.user():
            s += q
        s.assistant(sgl.gen("a"))
        with s.var_scope("all"):
            s += "x" + sgl.gen("b")
        s["n"] = 3
        s["c"] = s["a"] + "!"
        assert s["n"] == 3
        branches = s.fork(2)
        branches += sgl.select("pick", choices=["1", "2"])
        branches[1] += sgl.gen("only")
        branches.join()
        assert len(s["pick"]) == 2
        assert s["only"][0] is None
        s += s["pick"][1] + s["all"]
        with s.copy() as branch:
            branch += sgl.gen("d")
        more = s.fork(2)
        more += lambda i: str(i)
        more.join("concate_and_append")
        s.sync()
        s["t"] = s.text()
        s["m"] = [s.messages(), s.get_meta_info("a")]
        assert s.get_meta_info("n") is None
        for i in range(2):
            s += f"{i}" + sgl.gen(f"loop{i}")
        return s["t"]

    trace = traced(program, backend)
    assert trace.stopped is None
    assert kinds(trace) == [
        "role_begin", "text", "role_end", "role_begin", "argument", "role_end",
        "role_begin", "gen", "role_end", "scope_begin", "text", "gen", "scope_end", "set", "set",
        "fork", "set", "set", "join", "use", "use", "fork", "set", "join", "fork", "join",
        "read", "set", "read", "set", "text", "gen", "text", "gen",
    ]  # fmt: skip
    assert [s.parent for s in trace.states] == [None, 0, 0, 0, 0, 0]
    assert trace.ret_value._node.kind == "read"
    assert backend.calls == []


def test_batches_inside_of_a_program(backend):
    def program(s):
        for state in expand.run_batch([{"tip": "a"}, {"tip": "b"}], max_new_tokens=3):
            s += state["detail"]

    trace = traced(program, backend)
    assert trace.complete
    assert kinds(trace) == ["use", "use"]
    assert [s.options for s in trace.states] == [{}] + [{"max_new_tokens": 3}] * 2


def test_given_arguments_and_defaults_are_constants(backend):
    def program(s, a, b="B", *, c):
        s += a + b + c + sgl.gen("x")

    trace = traced(program, backend, c="C")
    assert trace.arguments == ["a"]
    assert [n.text for n in trace.nodes] == ["", "B", "C", ""]
    with pytest.raises(
        TypeError, match=r"trace: program\(\) has no parameter 'd'; it has: a, b, c"
    ):
        traced(program, backend, d="D")
    bound = sgl.function(program).bind(a="A").trace(backend=backend, c="C")
    assert bound.prefix == "ABC"
    assert bound.arguments == []


def picture() -> str:
    file = io.BytesIO()
    Pillow.new("RGB", (4, 4), "red").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_programs_with_images(backend):
    def program(s, path):
        s += sgl.user(sgl.image(picture()) + "and" + sgl.image(path))
        s += sgl.assistant(sgl.gen("x"))

    trace = traced(program, backend)
    assert trace.complete
    assert kinds(trace)[:4] == ["role_begin", "image", "text", "argument"]
    assert "Image" in trace.last_node.print_graph_dfs()


def test_the_prefix_goes_through_the_chat_template(engine):
    def program(s, q):
        s += sgl.system("Be brief.")
        s += sgl.user("Question: " + q)
        s += sgl.assistant(sgl.gen("a", max_tokens=1))

    prefix = traced(program, engine).prefix
    assert prefix.endswith("Question: ")
    assert sgl.function(program).run("Why?", backend=engine).text().startswith(prefix + "Why?")


# -- where it cannot go on --------------------------------------------------------------------


@pytest.mark.parametrize("of", ["argument", "variable", "sum"])
@pytest.mark.parametrize("use", USES)
def test_what_needs_a_value_is_marked_and_the_rest_is_kept(use, of, backend):
    went_on = []

    def program(s, q):
        s += "before" + sgl.gen("x")
        value = {"argument": q, "variable": s["x"], "sum": "a" + s["x"] + q}[of]
        result = USES[use](value)  # here
        if isinstance(result, sgl.SglExpr):
            s += result
        went_on.append(result)

    trace = traced(program, backend)
    assert not trace.complete
    assert went_on == []
    assert [node.kind for node in trace.nodes] == ["text", "gen"]
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1)
                if text.endswith("# here"))  # fmt: skip
    if "parameter" not in use and use != "choices":
        assert (Path(trace.stopped.file).name, trace.stopped.line) == ("test_trace.py", line)
        assert trace.stopped.code.startswith("result = USES")
    name = "argument" if of == "argument" else "variable"
    if use != "bytes":  # whose own error does not say what it got
        assert name in trace.stopped.why
        assert trace.stopped.on == name
    assert f"test_trace.py:{trace.stopped.line}" in str(trace.stopped)


STATES = {
    "error": lambda s: s.error() is None,
    "variables": lambda s: s.variables,
    "contains": lambda s: "x" in s,
    "text": lambda s: s.text().strip(),
    "messages": lambda s: s.messages()[0],
    "meta": lambda s: s.get_meta_info("x")["id"],
    "appended meta": lambda s: s.__iadd__(s.get_meta_info("x")),
    "text_iter": lambda s: list(s.text_iter()),
    "run_id": lambda s: s.run_id,
    "abort": lambda s: s.abort(),
    "repr": repr,
    "executor": lambda s: s.stream_executor.text_,
    "join errors": lambda s: s.fork(2).errors,
    "another backend": lambda s: expand.run("a", backend=by_character()),
    "an object": lambda s: s.set_var("y", object()),
    "role": lambda s: s.__iadd__(sgl.user()).user("q"),
    "append": lambda s: s.__iadd__(3),
}


@pytest.mark.parametrize("use", STATES)
def test_what_a_state_cannot_tell_before_the_run(use, backend):
    went_on = []

    def program(s):
        s += "before" + sgl.gen("x")
        STATES[use](s)
        went_on.append(1)

    trace = traced(program, backend)
    assert not trace.complete
    assert went_on == []
    assert trace.stopped.line is not None
    assert [node.kind for node in trace.nodes][:2] == ["text", "gen"]
    assert backend.calls == []


def test_a_body_that_tries_again_is_not_caught_in_a_circle(backend):
    def stubborn(s, q):
        s += "a"
        while True:
            try:
                s += f"{q}" + sgl.gen("x")
                json.loads(s["x"])
                break
            except Exception:
                pass

    trace = traced(stubborn, backend)
    assert kinds(trace) == ["text"]
    assert "f-string" in trace.stopped.why


def test_a_body_that_swallows_everything_adds_nothing(backend):
    def program(s, q):
        s += "a"
        for _ in range(3):
            try:
                s += q.upper()
            except BaseException:
                continue
        s += "b"

    trace = traced(program, backend)
    assert kinds(trace) == ["text"]
    assert ".upper() of argument 'q'" in trace.stopped.why


def test_known_errors_are_those_of_the_run(backend):
    def program(s):
        try:
            s["nothing"]
        except KeyError as error:
            s += str(error)
        with pytest.raises(ValueError, match="size"):
            s.fork(0)
        with pytest.raises(ValueError, match="mode"):
            s.fork(1).join("both")

    assert traced(program, backend).stopped is None


def test_an_endless_body_is_ended(backend, monkeypatch):
    monkeypatch.setattr("sglnb.language.tracer.MOST_STEPS", 50)

    def program(s):
        while True:
            s += "a"

    trace = traced(program, backend)
    assert len(trace.nodes) == 50
    assert "more than 50 steps" in trace.stopped.why


def test_a_placeholder_that_outlives_its_trace(backend):
    kept = []

    def keep(s):
        s += sgl.gen("x")
        kept.append(s["x"])

    def use(s):
        s += "a" + kept[0]

    traced(keep, backend)
    assert "belongs to another trace" in traced(use, backend).stopped.why
    with pytest.raises(TypeError, match="variable 'x', which has no value"):
        bool(kept[0])
    with pytest.raises(TypeError, match=r"which has no value|not known"):
        f"{kept[0]}"
    assert repr(kept[0]) == "<variable 'x'>"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs(conditions=True))
def test_a_trace_never_says_what_the_run_does_not_do(program):
    """The steps of a trace, complete or not, are the first ones of the run."""
    backend = by_character(
        lambda prompt, call: answer(prompt),
        score=score,
    )
    trace = main.trace(backend=backend, program=program)
    assert trace.complete or any_condition(program)
    made = [n.name for n in trace.nodes if n.kind == "gen"]
    main.run(program, "ARG", backend=backend).sync()
    run = [call.name for call in backend.of("gen")]
    assert run[: len(made)] == made if not trace.complete else run == made
    assert main.run(program, "ARG", backend=backend).text().startswith(trace.prefix)


def any_condition(program) -> bool:
    return any("if" in str(step) for step in program)
