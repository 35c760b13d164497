"""Programs that let a model write calls and expressions, and run them when asked to."""

from __future__ import annotations

import asyncio
import enum
import json
from dataclasses import dataclass
from typing import Literal

import pytest

import sglnb.language as sgl
from sglnb.errors import ConstraintError
from sglnb.language import GenerationError
from sglnb.testing import ScriptedBackend


class Unit(enum.Enum):
    KM = "km"
    MI = "mi"


@dataclass
class Point:
    lat: float
    lon: float


ran: list[str] = []


def geocode(place: str) -> Point:
    """Find a place.

    Args:
        place: its name, in any
            language
    """
    ran.append(place)
    return Point(float(len(place)), 2.0)


def distance(start: Point, end: Point, unit: Unit = Unit.KM) -> float:
    """How far it is.

    :param unit: of the result
    """
    return abs(start.lat - end.lat)


def fail(n: Literal[1, 2]) -> int:
    raise KeyError(f"no {n}")


async def later(n: int) -> int:
    return n


TOOLS = [geocode, distance, fail, later]


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()


def say(text, **arguments):
    @sgl.function
    def program(s):
        s += "-> " + sgl.gen("call", **arguments)

    return program.run(backend=ScriptedBackend(text))


def test_a_call_is_a_value_and_runs_when_asked():
    state = say('{"name": "geocode", "arguments": {"place": "Rome"}}', tools=TOOLS)
    call = state.value("call")
    assert isinstance(call, sgl.Call)
    assert (call.name, call.function, call.arguments) == ("geocode", geocode, {"place": "Rome"})
    assert repr(call) == "geocode(place='Rome')"
    assert call == state.value("call")
    assert ran == []
    assert state.call("call") == Point(4.0, 2.0)
    assert call() == Point(4.0, 2.0)
    assert ran == ["Rome", "Rome"]
    assert state["call"].startswith('{"name"')


def test_arguments_are_objects():
    text = {"start": {"lat": 1, "lon": 2}, "end": {"lat": 3, "lon": 2.5}, "unit": "mi"}
    state = say(json.dumps({"name": "distance", "arguments": text}), tools=TOOLS)
    call = state.value("call")
    assert call.arguments == {"start": Point(1, 2), "end": Point(3, 2.5), "unit": Unit.MI}
    assert repr(call).endswith("end=Point(lat=3.0, lon=2.5), unit=Unit.MI)")
    assert state.call("call") == 2.0


def test_calls_inside_calls_run_from_the_inside():
    text = 'distance(geocode("Rome"), Point(1, 2), Unit.MI)'
    state = say(text, tools=TOOLS, tool_style="python")
    call = state.value("call")
    assert repr(call) == (
        "distance(start=geocode(place='Rome'), end=Point(lat=1.0, lon=2.0), unit=Unit.MI)"
    )
    assert isinstance(call.arguments["start"], sgl.Call)
    assert ran == []
    assert state.call("call") == 3.0
    assert ran == ["Rome"]


def test_what_a_tool_raises_is_the_users_to_see():
    state = say("fail(1)", tools=TOOLS, tool_style="python")
    with pytest.raises(KeyError, match="no 1") as caught:
        state.call("call")
    assert caught.value.__notes__ == ["in the call fail(n=1)"]


def test_a_result_of_another_type_is_told():
    def bad(x: int) -> Point:
        return "nowhere"

    text = "distance(bad(1), Point(1, 2))"
    state = say(text, tools=[bad, distance], tool_style="python")
    with pytest.raises(ConstraintError, match=r"argument 'start' of distance.*'nowhere' is no Poi"):
        state.call("call")


def test_async_tools():
    state = say("later(3)", tools=TOOLS, tool_style="python")
    assert asyncio.run(state.call("call")) == 3
    state = say("wrap(later(3))", tools={"later": later, "wrap": abs_}, tool_style="python")
    with pytest.raises(ConstraintError, match=r"later\(n=3\) is async"):
        state.call("call")


def test_in_an_async_program():
    @sgl.function
    async def program(s):
        s += sgl.gen("call", tools=TOOLS, tool_style="python", max_calls=2)
        assert [c.name for c in await s.value("call")] == ["later", "geocode"]
        return await s.call("call")

    backend = ScriptedBackend(lambda prompt, call: '[later(4), geocode("ab")]')
    assert program.run(backend=backend).ret_value == [4, Point(2, 2)]


def abs_(n: int) -> int:
    return abs(n)


def test_calls_in_a_text_are_a_list():
    text = (
        'So <tool_call>\n{"name": "geocode", "arguments": {"place": "a"}}\n</tool_call> and '
        '<tool_call>{"name": "geocode", "arguments": {"place": "</tool_call>"}}</tool_call>.'
    )
    state = say(text, tools=TOOLS, when="<tool_call>", max_calls=2)
    assert [c.arguments["place"] for c in state.value("call")] == ["a", "</tool_call>"]
    assert state.call("call") == [Point(1, 2), Point(12, 2)]
    assert state.text() == "-> " + text
    assert say("no call", tools=TOOLS, when="<tool_call>").call("call") == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"tools": TOOLS}, '{"name": "geocode", "arguments": {"place": 3}}'),
        ({"tools": TOOLS}, '{"name": "geocode", "argum'),
        ({"tools": TOOLS, "tool_style": "python"}, "fail(3)"),
        ({"tools": TOOLS, "tool_style": "python"}, "__import__('os')"),
        ({"tools": TOOLS, "when": "<t>"}, "<t>"),
        ({"expression": float, "scope": {"x": float}}, "x +"),
        ({"expression": float, "scope": {"x": float}}, "y"),
    ],
)
def test_what_is_no_call(arguments, text):
    with pytest.raises(ConstraintError, match=r"value of 'call': no (call|expression) of"):
        say(text, **arguments).value("call")
    assert ran == []


def test_a_cut_text_says_so():
    backend = ScriptedBackend(mode="manual")
    state = sgl.start_state(backend)
    state += sgl.gen("call", tools=TOOLS)
    backend.calls[0].say('{"name": "geo')
    backend.calls[0].finish({"type": "length"})
    with pytest.raises(ConstraintError, match="cut at max_tokens, raise it"):
        state.value("call")
    sgl.finish_run(state)


def test_call_of_what_is_none():
    with pytest.raises(TypeError, match="no call of a tool but str 'x'"):
        say("x").call("call")


def test_mistakes_are_told_where_gen_is_written():
    for arguments, message in [
        ({"tools": [lambda x: x]}, "tools: '<lambda>' is no name"),
        ({"tools": TOOLS, "regex": "a"}, "regex and tools: give only one"),
        ({"tools": TOOLS, "expression": int}, "tools and expression: give only one"),
        ({"when": "<t>"}, "when: goes with a list of tools"),
        ({"expression": Point, "scope": {"x": int}}, "expression: nothing in scope makes a Point"),
    ]:
        with pytest.raises(ConstraintError, match=message):
            sgl.gen("call", **arguments)


def test_an_expression_is_a_value():
    scope = {"price": float, "user": Point, "distance": distance}
    state = say("price * user.lat + 1", expression=float, scope=scope)
    value = state.value("call")
    assert isinstance(value, sgl.Expression)
    assert value.names == ("price", "user")
    assert value.evaluate(price=2.0, user=Point(3, 4)) == 7.0


# -- for the prompt -------------------------------------------------------------------------


def test_tool_schema():
    assert sgl.tool_schema(geocode) == {
        "type": "function",
        "function": {
            "name": "geocode",
            "description": "Find a place.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "its name, in any language"}
                },
                "required": ["place"],
                "additionalProperties": False,
            },
        },
    }
    unit = sgl.tool_schema(distance, "far")["function"]["parameters"]["properties"]["unit"]
    assert unit["description"] == "of the result"


def test_describe_tools():
    text = sgl.describe_tools([geocode, distance], "python", when="<tool_call>")
    assert "class Point(lat: float, lon: float)\n" in text
    assert "class Unit: Unit.KM, Unit.MI\n" in text
    assert "def distance(start: Point, end: Point, unit: Unit = Unit.KM) -> float:\n" in text
    assert '    """Find a place.\n' in text
    assert text.endswith("<tool_call>function(parameter=value)</tool_call>\n")
    lines = sgl.describe_tools([geocode, distance]).splitlines()
    assert [json.loads(line)["function"]["name"] for line in lines[1:3]] == ["geocode", "distance"]


# -- on the engine --------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["json", "python"])
def test_the_model_writes_calls(engine, style):
    @sgl.function
    def program(s):
        s += sgl.describe_tools([later, fail], style)
        branches = s.fork(3)
        branches += sgl.gen("call", tools=[later, fail], tool_style=style, max_tokens=60)
        branches.join()

    seen = engine.events.next_seq
    state = program.run(backend=engine, temperature=1, seed=3)
    calls = state.value("call")
    assert {call.name for call in calls} <= {"later", "fail"}
    assert all(isinstance(call.arguments["n"], (int, sgl.Call)) for call in calls)
    told = {e.constraint for e in engine.events.since(seen) if e.kind == "request_arrived"}
    assert told - {""} == {"tools: later(n), fail(n)"}
    engine.check()


def test_a_text_becomes_a_call_at_its_trigger(engine):
    """A model that is pushed to write the trigger goes on with a call that fits."""
    words = [engine.tokenizer.encode(t)[-1] for t in ("x",)] + engine.tokenizer.encode(
        "<tool_call>"
    )

    def push(ids, logits):
        written = ids.shape[1] - start
        if written < len(words):
            logits[:] = -1e9
            logits[:, words[written]] = 0
        return logits

    prompt = "Q: "
    start = len(engine.tokenizer.encode(prompt))
    params = {"tools": [fail], "when": "<tool_call>", "max_new_tokens": 60, "temperature": 1}
    result = engine.generate(prompt, {**params, "custom_logit_processor": push, "seed": 1})
    text = result["text"]
    assert "<tool_call>" in text
    body = text.partition("<tool_call>")[2].strip()
    assert body.startswith('{"name": "fail", "arguments": {"n": ')
    engine.check()


def test_an_expression_on_the_engine(engine):
    @sgl.function
    def program(s):
        s += "total = " + sgl.gen("e", expression=float, scope={"price": float, "qty": int},
                                  max_tokens=24) + "\n"  # fmt: skip

    state = program.run(backend=engine, temperature=0)
    if state.get_meta_info("e")["finish_reason"]["type"] == "stop":
        value = state.value("e").evaluate(price=2.5, qty=2)
        assert isinstance(value, (int, float))
    engine.check()


def test_sampling_params_of_the_engine(engine):
    params = {"tools": [fail], "tool_style": "python", "max_new_tokens": 12, "temperature": 0}
    given = dict(params)
    assert engine.generate("x", params)["text"] in ("fail(1)", "fail(2)", "fail(n=1)", "fail(n=2)")
    assert params == given
    params = {"expression": bool, "scope": {}, "max_new_tokens": 4, "stop": "\n"}
    assert engine.generate("x", params)["text"]
    with pytest.raises(ConstraintError, match=r"tools: every text .* at least .* tokens"):
        engine.generate("x", {"tools": [geocode], "max_new_tokens": 1})
    with pytest.raises(ConstraintError, match="max_calls: goes with a list of tools"):
        engine.generate("x", {"max_calls": 2})
    engine.check()


def test_a_failed_generation_is_told_by_call():
    held = ScriptedBackend(mode="manual")
    state = sgl.start_state(held)
    state += sgl.gen("call", tools=TOOLS)
    held.calls[0].finish(error=RuntimeError("gone"))
    with pytest.raises(GenerationError, match="gone"):
        state.call("call")
    sgl.finish_run(state)
