"""``s.value(name)``: the text of a variable as what its ``gen`` was asked for."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

import pydantic
import pytest

import sglnb.language as sgl
from sglnb.errors import ConstraintError
from sglnb.language import GenerationError
from sglnb.testing import ScriptedBackend


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    colour: Colour


class Person(pydantic.BaseModel):
    name: str
    born: date


UNIQUE = {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}


def say(text, **arguments):
    """A finished state whose variable x is ``text``, as ``gen`` with ``arguments`` makes it."""

    @sgl.function
    def program(s):
        s += "-> " + sgl.gen("x", **arguments)

    return program.run(backend=ScriptedBackend(text))


def cut(text, **arguments):
    """The same, when ``text`` was cut at max_tokens."""
    backend = ScriptedBackend(mode="manual")

    @sgl.function
    def program(s):
        s += "-> " + sgl.gen("x", **arguments)

    state = program.run(backend=backend)
    backend.calls[0].say(text)
    backend.calls[0].finish({"type": "length"})
    return state


@pytest.mark.parametrize(
    ("arguments", "text", "value"),
    [
        ({}, "plain", "plain"),
        ({"regex": "[0-9]+"}, "12", "12"),
        ({"grammar": 'start: "a"'}, "a", "a"),
        ({"dtype": int}, "-12", -12),
        ({"dtype": float}, "2.5", 2.5),
        ({"dtype": bool}, "False", False),
        ({"dtype": str}, '"a b"', "a b"),
        ({"type": int}, "12", 12),
        ({"type": Decimal}, "1.50", Decimal("1.50")),
        ({"type": date}, '"2024-02-29"', date(2024, 2, 29)),
        ({"type": Colour}, '"red"', Colour.RED),
        ({"type": tuple[int, Literal["a"]]}, '[1, "a"]', (1, "a")),
        ({"type": Point}, '{"x": 1, "colour": "blue"}', Point(1, Colour.BLUE)),
        (
            {"json_schema": Person},
            '{"name": "Ada", "born": "1815-12-10"}',
            Person(name="Ada", born=date(1815, 12, 10)),
        ),
        ({"json_schema": {"type": "object"}}, '{"a": [1, null]}', {"a": [1, None]}),
        ({"json_schema": '{"type": "array"}'}, "[2]", [2]),
    ],
)
def test_value_of_each_kind(arguments, text, value):
    state = say(text, **arguments)
    assert state["x"] == text
    got = state.value("x")
    assert (got, type(got)) == (value, type(value))


def test_values_of_other_variables():
    state = say("plain")
    state["set"] = {"any": "thing"}
    assert state.value("set") == {"any": "thing"}
    with pytest.raises(sgl.UnknownVariable):
        state.value("missing")


def test_each_read_is_a_new_object():
    state = say("[1]", type=list[int])
    state.value("x").append(2)
    assert state.value("x") == [1]


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        ({"type": list[int]}, "[1, ", r"value of 'x': '\[1, ' is no list\[int\]: Invalid JSON"),
        ({"json_schema": {}}, '{"a', "value of 'x': no JSON: Unterminated string"),
        ({"dtype": int}, "", "value of 'x': '' is no int"),
        ({"dtype": bool}, "Fal", "value of 'x': 'Fal' is no bool"),
        ({"dtype": str}, '"a', "value of 'x': '\"a' is no str"),
    ],
)
def test_what_is_no_value(arguments, text, message):
    state = cut(text, **arguments)
    with pytest.raises(ConstraintError, match=message):
        state.value("x")
    assert state["x"] == text


def test_a_name_given_again_has_the_last_form():
    texts = iter(["1", "one", '"red"'])
    backend = ScriptedBackend(lambda prompt, call: next(texts))
    state = sgl.start_state(backend)
    state += sgl.gen("x", dtype=int)
    assert state.value("x") == 1
    state += sgl.gen("x")
    assert state.value("x") == "one"
    state += sgl.gen("x", type=Colour)
    assert state.value("x") is Colour.RED
    state["x"] = "red"
    assert state.value("x") == "red"
    sgl.finish_run(state)


def test_on_branches_and_after_join(backend):
    colours = iter(["red", "blue", "red"])
    backend = ScriptedBackend(lambda prompt, call: f'"{next(colours)}"')

    @sgl.function
    def program(s):
        s += sgl.gen("first", type=Colour)
        assert s.value("first") is Colour.RED
        branches = s.fork(2)
        assert [b.value("first") for b in branches] == [Colour.RED] * 2
        branches[0] += sgl.gen("own", type=Colour)
        assert branches[0].value("own") is Colour.BLUE
        branches[1]["own"] = 3
        branches[1] += sgl.gen("other", type=Colour)
        branches.join()

    state = program.run(backend=backend)
    assert state["own"] == ['"blue"', 3]
    assert state.value("own") == [Colour.BLUE, 3]
    assert state.value("other") == [None, Colour.RED]
    assert state.value("first") is Colour.RED


# -- lenient: what could not be enforced ----------------------------------------------------


def test_a_text_that_breaks_its_schema_is_an_error_at_its_variable():
    state = say("[1, 1]", json_schema=UNIQUE, lenient=True)
    with pytest.raises(GenerationError, match=r"gen\('x'\).*non-unique.*uniqueItems") as caught:
        state["x"]
    assert isinstance(caught.value.cause, ConstraintError)
    assert state.text() == "-> [1, 1]"
    with pytest.raises(GenerationError):
        state.value("x")
    assert say("[1, 2]", json_schema=UNIQUE, lenient=True).value("x") == [1, 2]


def test_a_text_that_was_cut_is_not_checked():
    backend = ScriptedBackend(mode="manual")
    state = sgl.start_state(backend)
    state += sgl.gen("x", json_schema=UNIQUE, lenient=True)
    backend.calls[0].say("[1, ")
    backend.calls[0].finish({"type": "length"})
    assert state["x"] == "[1, "
    with pytest.raises(ConstraintError, match="cut at max_tokens, raise it"):
        state.value("x")
    sgl.finish_run(state)


def test_what_the_backend_gets():
    state = say("3", type=int, max_tokens=9, stop="x")
    params = state.stream_executor.run.backend.calls[0].params
    assert params == {
        "json_schema": '{"type": "integer"}',
        "max_new_tokens": 9,
        "stop": params["stop"],
    }
    assert params["stop"] == ["x", " ", "\n"]
    params = (
        say("{}", json_schema={}, whitespace="free").stream_executor.run.backend.calls[0].params
    )
    assert params == {"json_schema": "{}", "whitespace": "free"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"type": int, "regex": "a"}, "regex and type: give only one of them"),
        ({"dtype": int, "type": int}, "dtype and type: give only one"),
        ({"choices": ["a"], "grammar": "x"}, "choices and grammar: give only one"),
        ({"json_schema": {"type": "x"}}, r"json_schema: no JSON Schema at \$.type"),
        ({"json_schema": UNIQUE}, r"json_schema: uniqueItems at \$ cannot be enforced"),
        ({"type": print}, "type: .*has no JSON"),
        ({"grammar": "foo"}, "grammar: Expected token"),
        ({"lenient": True}, "lenient: goes with json_schema or type"),
        ({"type": int, "whitespace": "wide"}, "whitespace: must be one of default"),
    ],
)
def test_mistakes_are_told_where_gen_is_written(arguments, message):
    with pytest.raises(ConstraintError, match=message):
        sgl.gen("x", **arguments)


# -- on the engine --------------------------------------------------------------------------


def test_a_program_of_values(engine):
    @sgl.function
    def program(s):
        s += "A number: " + sgl.gen("n", type=int, max_tokens=8) + "\n"
        s += "A point: " + sgl.gen("p", type=Point, max_tokens=40) + "\n"
        s += "A colour: "
        branches = s.fork(3)
        branches += sgl.gen("c", type=Colour, temperature=1, max_tokens=8)
        branches.join()

    state = program.run(backend=engine, temperature=0)
    assert isinstance(state.value("n"), int)
    assert not state["n"].endswith((" ", "\n"))
    assert isinstance(state.value("p"), Point)
    assert all(isinstance(c, Colour) for c in state.value("c"))
    assert state.text().startswith(f"A number: {state['n']}\nA point: {state['p']}\n")
    engine.check()


def test_lenient_on_the_engine(engine):
    twice = UNIQUE | {"items": {"const": 1}, "minItems": 2, "maxItems": 2}

    @sgl.function
    def program(s):
        s += "x" + sgl.gen("x", json_schema=twice, lenient=True, max_tokens=20)

    state = program.run(backend=engine)
    with pytest.raises(GenerationError, match="non-unique"):
        state["x"]
    assert state.text() == "x[1, 1]"
    engine.check()
