"""Python types as constraints: their values can be written, and what is written is a value."""

from __future__ import annotations

import enum
import json
import pathlib
import random
import sys
import typing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union

import pydantic
import pytest
import typing_extensions
from schema_tools import write

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.types import read_json


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 12


@dataclass
class Point:
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


class Pair(NamedTuple):
    left: bool
    right: Colour


class Movie(typing.TypedDict):
    title: Annotated[str, pydantic.Field(max_length=8)]
    year: typing.NotRequired[int]


class Newer(typing_extensions.TypedDict, total=False):
    when: date


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=1, max_length=6)
    born: date
    at: Optional[Point] = None  # noqa: UP045
    friends: list[Person] = pydantic.Field(default_factory=list, max_length=1)
    kind: Literal["person"] = "person"


class Robot(pydantic.BaseModel):
    kind: Literal["robot"] = "robot"
    level: Level


Being = Annotated[Union[Person, Robot], pydantic.Field(discriminator="kind")]  # noqa: UP007

VALUES: list[tuple[Any, list[Any]]] = [
    (int, [0, -12, 10**20]),
    (float, [0.5, -2.0, 1e-7]),
    (bool, [True, False]),
    (str, ["", 'say "é"\n', "日本"]),
    (type(None), [None]),
    (Decimal, [Decimal("2.50"), Decimal(-3)]),
    (Annotated[Decimal, pydantic.Field(ge=0, lt=2)], [Decimal("1.25")]),
    (pathlib.Path, [pathlib.Path("a/b")]),
    (date, [date(2024, 2, 29), date(1, 1, 1)]),
    (datetime, [datetime(2024, 2, 29, 23, 59, 58, 120, UTC)]),
    (list[int], [[], [1, 2]]),
    (dict[str, float], [{}, {"a": 1.5}]),
    (dict[Colour, bool], [{}, {Colour.RED: True}]),
    (tuple[int, Colour], [(3, Colour.BLUE)]),
    (tuple[int, ...], [(), (1, 2, 3)]),
    (int | str, [3, "3"]),
    (Optional[float], [None, 2.5]),  # noqa: UP045
    (Literal["a", 1, None], ["a", 1, None]),
    (Colour, list(Colour)),
    (Level, list(Level)),
    (Point, [Point(1), Point(1, -2, ["a", "b"])]),
    (Pair, [Pair(True, Colour.RED)]),
    (Movie, [{"title": "Heat"}, {"title": "Ran", "year": 1985}]),
    (list[Movie | None], [[None, {"title": "M"}]]),
    (dict[str, tuple[Movie, Level]], [{"k": ({"title": "M"}, Level.LOW)}]),
    (Newer, [{}, {"when": date(2000, 2, 29)}]),
    (Person, [Person(name="Ada", born=date(1815, 12, 10), at=Point(1, 2))]),
    (Being, [Robot(level=Level.HIGH), Person(name="B", born=date(2000, 1, 1))]),
    (Annotated[int, pydantic.Field(ge=3, le=5)], [3, 5]),
]
IDS = [str(kind).replace("typing.", "")[:40] for kind, _ in VALUES]


def as_text(kind, value) -> str:
    """As pydantic dumps it, laid out as ``json.dumps`` does."""
    adapter = pydantic.TypeAdapter(
        typing_extensions.TypedDict("T", {"v": Any}) if typing.is_typeddict(kind) else Any
    )
    if isinstance(value, Decimal):
        return str(value)
    dumped = json.loads(adapter.dump_json({"v": value} if typing.is_typeddict(kind) else value))
    dumped = dumped["v"] if typing.is_typeddict(kind) else dumped
    return json.dumps(dumped, ensure_ascii=False)


@pytest.mark.parametrize(("kind", "values"), VALUES, ids=IDS)
def test_values_make_the_round_trip(tiny, kind, values):
    constraint = compile_constraint(type=kind, tokenizer=tiny)
    assert constraint.kind == "type"
    for value in values:
        text = as_text(kind, value)
        assert constraint.accepts(text), text
        back = read_json(kind, text)
        assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize(("kind", "values"), VALUES, ids=IDS)
def test_what_is_written_is_a_value(tiny, kind, values):
    rng = random.Random(7)
    constraint = compile_constraint(type=kind, tokenizer=tiny)
    written = [write(constraint.start(), tiny, rng, 60) for _ in range(6)]
    for text in written:
        if text is not None:
            value = read_json(kind, text.strip())
            assert type(value) in {type(v) for v in values} | {Person, Robot, str, type(None)}


def test_objects_of_types_are_closed_and_defaults_optional(tiny):
    point = compile_constraint(type=Point, tokenizer=tiny)
    assert point.accepts('{"x": 1}')
    assert not point.accepts('{"x": 1, "z": 2}')
    assert not point.accepts('{"y": 1}')
    open_ = compile_constraint(json_schema={"properties": {"x": {}}}, tokenizer=tiny)
    assert open_.accepts('{"x": 1, "z": 2}')
    as_schema = compile_constraint(json_schema=Point, tokenizer=tiny)
    assert (as_schema.kind, as_schema.source) == ("json_schema", "Point")
    assert not as_schema.accepts('{"x": 1, "z": 2}')


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (3, "type: expected a type such as list"),
        ([int], "type: expected a type such as list"),
        ("int", "type: expected a type such as list"),
        (print, "type: .*print.* has no JSON"),
        (typing.Callable, "type: .*Callable.* has no JSON"),
        (set[int], r"type: uniqueItems at \$ cannot be enforced"),
        (bytes, r"type: format at \$ 'binary' is none of"),
        (list[typing.ForwardRef("Missing")], "type: .*Missing"),
    ],
)
def test_types_without_json_are_named(tiny, kind, message):
    with pytest.raises(ConstraintError, match=message) as caught:
        compile_constraint(type=kind, tokenizer=tiny)
    assert "\n" not in str(caught.value)


def test_what_is_no_value_is_told():
    for kind, text, message in [
        (Point, '{"x": "a"}', r"is no Point: .*integer.* at \.x"),
        (list[int], "[1, 2", r"'\[1, 2' is no list\[int\]: Invalid JSON"),
        (Colour, '"green"', "is no Colour: Input should be 'red' or 'blue'"),
    ]:
        with pytest.raises(ConstraintError, match=message):
            read_json(kind, text)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic takes typing's own from 3.12 on")
def test_a_typeddict_of_typing_inside_a_model_is_told_of(tiny):
    @dataclass
    class Holder:
        movie: Movie

    Holder.__annotations__["movie"] = Movie
    with pytest.raises(ConstraintError, match=r"typing_extensions.TypedDict"):
        compile_constraint(type=Holder, tokenizer=tiny)
