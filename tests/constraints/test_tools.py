"""Tool calls as constraints: what is written binds to its function and has its types."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import inspect
import json
import random
import typing
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from typed_tools import walk, walks

from sglnb.errors import ConstraintError
from sglnb.language.calls import Call, CallForm
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.tools import ToolSet


class Unit(enum.Enum):
    KM = "km"
    MI = "mi"


@dataclasses.dataclass
class Point:
    lat: float
    lon: float = 0
    tags: list[str] = dataclasses.field(default_factory=list)


class Pair(NamedTuple):
    left: int
    right: bool


PAIR = Pair(1, True)


class Movie(typing.TypedDict):
    title: str
    year: typing.NotRequired[int]


class Order(pydantic.BaseModel):
    item: Annotated[str, Field(min_length=1, max_length=4)]
    count: int = Field(1, ge=1, le=9)
    ship: Point | None = None


class Table:
    """Nothing that a text can hold."""


def convert(amount: float, unit: Literal["km", "mi"] = "km", /, to: int | None = None, *, u: Unit):
    """Positional-only, both, keyword-only."""
    return amount, unit, to, u


def geocode(place: str) -> Point:
    return Point(float(len(place)), 2.0)


def plan(stops: list[Point], day: datetime.date, order: Order | None = None) -> str:
    return f"{len(stops)} on {day}"


def level(value: Annotated[int, Field(ge=0, le=10)], pair: Pair = PAIR) -> int:
    return value + pair.left


def now() -> datetime.date:
    return datetime.date(2024, 2, 29)


def load(path: Path) -> Table:
    return Table()


def rows(table: Table) -> int:
    return 3


@pydantic.validate_call
def strict(x: int = Field(ge=3), *, names: dict[str, bool]) -> int:
    return x


TOOLS = [convert, geocode, plan, level, now, strict]

JSON = [
    ('{"name": "now", "arguments": {}}', True),
    ('{"name": "geocode", "arguments": {"place": "São \\"Paulo\\""}}', True),
    ('{"name": "convert", "arguments": {"amount": 1.5, "u": "km"}}', True),
    ('{"name": "convert", "arguments": {"amount": 1.5, "to": null, "u": "mi"}}', True),
    ('{"name": "level", "arguments": {"value": 10, "pair": [1, false]}}', True),
    ('{"name": "strict", "arguments": {"x": 3, "names": {"a": true}}}', True),
    ('{"name": "now"}', False),
    ('{"name": "later", "arguments": {}}', False),
    ('{"name": "now", "arguments": {"x": 1}}', False),
    ('{"name": "geocode", "arguments": {}}', False),
    ('{"name": "geocode", "arguments": {"place": 1}}', False),
    ('{"name": "convert", "arguments": {"amount": "1", "u": "km"}}', False),
    ('{"name": "convert", "arguments": {"amount": 1, "u": "kg"}}', False),
    ('{"name": "level", "arguments": {"value": 11}}', False),
    ('{"name": "strict", "arguments": {"x": 2, "names": {}}}', False),
]
PYTHON = [
    ("now()", True),
    ('geocode("São \\"Paulo\\"")', True),
    ('geocode(place="x")', True),
    ("convert(1.5, u=Unit.KM)", True),
    ('convert(-1, "mi", None, u=Unit.MI)', True),
    ('convert(1, "mi", to=3, u=Unit.MI)', True),
    ("convert(level(3), to=level(value=4), u=Unit.KM)", True),
    ('plan([geocode("a"), Point(1, 2.5), Point(lat=level(1))], now())', True),
    ('plan([], date.fromisoformat("2024-02-29"), Order(item="ab", count=9))', True),
    ("level(10, Pair(1, True))", True),
    ('strict(3, names={"a": True, "b": False})', True),
    ("strict(x=3, names={})", True),
    ("now", False),
    ("now(1)", False),
    ("now() ", False),
    ("geocode()", False),
    ("geocode('x')", False),
    ("geocode(name='x')", False),
    ("geocode(now())", False),
    ('geocode(place="x", place="y")', False),
    ("convert(1.5)", False),
    ('convert(1.5, unit="km", u=Unit.KM)', False),
    ('convert("km", u=Unit.KM)', False),
    ("convert(1.5, u=Unit.KG)", False),
    ('convert(1.5, u="km")', False),
    ("convert(1.5, u=Unit.KM, to=3)", False),
    ('plan([], "2024-02-29")', False),
    ('plan([], date.fromisoformat("2023-02-29"))', False),
    ("plan([now()], now())", False),
    ('plan([], now(), Order(item="abcde"))', False),
    ('plan([], now(), Order(item="a", count=10))', False),
    ("level(11)", False),
    ("level(level(3))", False),  # a result is not known to be within bounds
    ("level(True)", False),
]


@pytest.mark.parametrize(
    ("style", "text", "fits"),
    [("json", *row) for row in JSON] + [("python", *row) for row in PYTHON],
)
def test_what_is_a_call(tiny, style, text, fits):
    constraint = compile_constraint(tools=TOOLS, tool_style=style, tokenizer=tiny)
    assert constraint.accepts(text) is fits


@pytest.mark.parametrize("style", ["json", "python"])
def test_in_five_vocabularies(tokenizer, style):
    constraint = compile_constraint(tools=TOOLS, tool_style=style, tokenizer=tokenizer)
    assert constraint.kind == "tools"
    assert constraint.source.startswith("convert(amount, unit, to, u), geocode(place)")
    for text, fits in JSON if style == "json" else PYTHON:
        assert constraint.accepts(text) is fits, text
    form = CallForm(ToolSet(TOOLS, style))
    for text in walks(constraint, tokenizer, 12):
        binds(form.read(text, None))


def binds(call: Call) -> None:
    """The call fits its function, and pydantic finds nothing to change in its arguments."""
    assert isinstance(call, Call)
    given = {}
    signature = inspect.signature(call.function)
    for name, value in call.arguments.items():
        given[name] = value
        kind = typing.get_type_hints(
            getattr(call.function, "raw_function", call.function), include_extras=True
        )[name]
        if isinstance(signature.parameters[name].default, pydantic.fields.FieldInfo):
            kind = Annotated[kind, signature.parameters[name].default]
        if not inner(value):
            assert pydantic.TypeAdapter(kind).validate_python(value, strict=True) == value
    only = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_ONLY]
    args = [given.pop(name) for name in only if name in given]
    signature.bind(*args, **given)


def inner(value: Any) -> list[Call]:
    if isinstance(value, Call):
        return [value]
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        return [call for one in value for call in inner(one)]
    return []


@pytest.mark.parametrize("style", ["json", "python"])
def test_what_is_written_binds(tiny, style):
    constraint = compile_constraint(tools=TOOLS, tool_style=style, tokenizer=tiny)
    form = CallForm(ToolSet(TOOLS, style))
    texts = walks(constraint, tiny, 100)
    calls = [form.read(text, None) for text in texts]
    assert {call.name for call in calls} >= {"convert", "geocode", "plan", "level", "now"}
    for call in calls:
        binds(call)
        for value in call.arguments.values():
            for one in inner(value):
                binds(one)


# -- generated signatures -------------------------------------------------------------------

_scalar = st.sampled_from(
    [int, float, str, bool, Unit, Literal["a b", 'q"', 3, None], datetime.date, UUID, Decimal,
     Annotated[int, Field(ge=-3, le=40)], Annotated[str, Field(max_length=3)]]
)  # fmt: skip
_types = st.recursive(
    st.one_of(_scalar, st.sampled_from([Point, Pair, Movie, Order, type(None)])),
    lambda one: st.one_of(
        one.map(lambda t: list[t]),
        one.map(lambda t: dict[str, t]),
        st.tuples(one, one).map(lambda t: tuple[t]),
        one.map(lambda t: t | None if t is not None else t),
        one.map(lambda t: Annotated[list[t], Field(min_length=1, max_length=2)]),
    ),
    max_leaves=3,
)
_names = st.sampled_from(["x", "self", "größe", "данные", "name", "arguments", "match", "_x", "ａ"])


@st.composite
def functions(draw):
    """A function with any signature, as ``__signature__`` says it."""
    kinds = [inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD]
    kinds = sorted(
        draw(st.lists(st.sampled_from([*kinds, inspect.Parameter.KEYWORD_ONLY]), max_size=4))
    )
    names = draw(st.lists(_names.map(lambda n: "a" if n == "ａ" else n), min_size=len(kinds),
                          max_size=len(kinds), unique=True))  # fmt: skip
    parameters, may = [], False
    for name, kind in zip(names, kinds, strict=True):
        only = kind is inspect.Parameter.KEYWORD_ONLY
        default = (may and not only) or draw(st.booleans())
        may = may or (default and not only)
        parameters.append(
            inspect.Parameter(
                name, kind, annotation=draw(_types),
                default=None if default else inspect.Parameter.empty,
            )
        )  # fmt: skip

    def tool(*args, **kwargs):
        return args, kwargs

    tool.__signature__ = inspect.Signature(parameters)
    tool.__name__ = draw(st.sampled_from(["tool", "größe", "print", "name"]))
    return tool


@settings(max_examples=60, deadline=None)
@given(functions(), st.sampled_from(["json", "python"]), st.randoms(use_true_random=False))
def test_any_signature(tiny, tool, style, rng):
    constraint = compile_constraint(tools=[tool], tool_style=style, tokenizer=tiny)
    form = CallForm(ToolSet([tool], style))
    for _ in range(3):
        text = walk(constraint, tiny, random.Random(rng.random()))
        if text is None:
            continue
        call = form.read(text, None)
        assert constraint.accepts(text)
        args, kwargs = call()
        bound = inspect.signature(tool).bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in call.arguments:
                kind = inspect.signature(tool).parameters[name].annotation
                _adapter(kind).validate_python(value)
        if style == "json":
            sent = json.loads(text)["arguments"]
            assert list(sent) == list(call.arguments)


def _adapter(kind):
    from sglnb.runtime.constraints.types import for_pydantic

    return pydantic.TypeAdapter(for_pydantic(kind))


# -- several calls, free text around them ---------------------------------------------------

CALL = '{"name": "now", "arguments": {}}'


@pytest.mark.parametrize(
    ("options", "text", "count"),
    [
        ({"max_calls": 2}, f"[{CALL}]", 1),
        ({"max_calls": 2}, f"[{CALL}, {CALL}]", 2),
        ({"max_calls": 2}, f"[{CALL}, {CALL}, {CALL}]", None),
        ({"max_calls": 2}, "[]", None),
        ({"max_calls": 2, "tool_style": "python"}, '[now(), geocode("a), (")]', 2),
        ({"when": "<tool_call>"}, "No need.", 0),
        ({"when": "<tool_call>"}, "", 0),
        ({"when": "<tool_call>"}, f"Well: <tool_call>\n{CALL}\n</tool_call>", 1),
        ({"when": "<tool_call>"}, f"<tool_call>{CALL}</tool_call> done <tool", 1),
        ({"when": "<tool_call>"}, f"<tool_call>{CALL}", None),
        ({"when": "<tool_call>"}, "a <tool_call> b", None),
        ({"when": "<tool_call>"}, f"<tool_call>{CALL}</tool_call>" * 2, None),
        ({"when": "<tool_call>", "max_calls": 2}, f"<tool_call>{CALL}</tool_call>" * 2, 2),
        ({"when": "[CALL]", "max_calls": 2}, f"so [CALL]{CALL}, [CALL]\n{CALL}\n.", 2),
        ({"when": ("```\n", "```"), "tool_style": "python"}, "x\n```\nnow()\n```\n", 1),
        (
            {"when": "<c>", "tool_style": "python"},
            'a<c>geocode("</c> <c>now()</c> \\" )")</c>b',
            1,
        ),
    ],
)
def test_calls_in_a_text(tokenizer, options, text, count):
    tools = [now, geocode]
    constraint = compile_constraint(tools=tools, **options, tokenizer=tokenizer)
    assert constraint.accepts(text) is (count is not None)
    style = options.get("tool_style")
    form = CallForm(ToolSet(tools, style, options.get("when"), options.get("max_calls")))
    if count is None:
        with pytest.raises(ConstraintError, match="no call of now"):
            form.read(text, None)
    else:
        calls = form.read(text, None)
        assert [type(call) for call in calls] == [Call] * count


# -- what can be a tool ---------------------------------------------------------------------


class Shop:
    def __init__(self, name):
        self.name = name

    def price(self, item: str) -> str:
        return f"{item} at {self.name}"

    def __call__(self, n: int) -> int:
        return n


def test_kinds_of_callables(tiny):
    def local(x: here) -> here:  # noqa: F821
        return x

    local.__globals__["here"] = int
    shop = Shop("A")
    tools = {
        "price": shop.price,
        "buy": Shop("B").price,
        "shop": shop,
        "part": functools.partial(plan, day=datetime.date(2024, 1, 1)),
        "local": local,
        "Point": Point,
    }
    form = CallForm(ToolSet(tools, "python"))
    read = lambda text: form.read(text, None)()  # noqa: E731
    assert read('price("x")') == "x at A"
    assert read('buy("x")') == "x at B"
    assert read("shop(n=2)") == 2
    assert read("part([Point(1)])") == "1 on 2024-01-01"
    assert read("local(shop(local(1)))") == 1
    assert read("Point(shop(1), 2)") == Point(1.0, 2.0)


def test_results_that_no_text_can_hold(tiny):
    form = CallForm(ToolSet([load, rows], "python"))
    call = form.read('rows(load(Path("a/b")))', None)
    assert repr(call) == "rows(table=load(path=PosixPath('a/b')))"
    assert call() == 3
    with pytest.raises(
        ConstraintError, match=r"rows\(\): parameter 'table': nothing makes a Table"
    ):
        ToolSet([rows], "python")
    with pytest.raises(ConstraintError, match=r"rows\(\): parameter 'table': Table has no JSON"):
        ToolSet([load, rows])


def hostile(name: str, quote: Literal['"', "'", "\\", "\n", "</tool_call>", "é"] = '"') -> str:
    '''Say "hi" to {name}: """ \\ </tool_call> %s

    Args:
        name: a "name" {with} \\ things
    '''
    return name + quote


def test_hostile_docstrings_and_values(tokenizer):
    import sglnb as sgl

    form = CallForm(ToolSet([hostile], "python"))
    constraint = compile_constraint(tools=[hostile], tool_style="python", tokenizer=tokenizer)
    for value in ['"', "'", "\\", "\n", "</tool_call>", "é"]:
        text = f'hostile("a\\"b", {json.dumps(value, ensure_ascii=False)})'
        assert constraint.accepts(text), text
        assert form.read(text, None)() == 'a"b' + value
    schema = sgl.tool_schema(hostile)["function"]
    assert schema["description"].startswith('Say "hi" to {name}')
    assert schema["parameters"]["properties"]["name"]["description"] == 'a "name" {with} \\ things'
    compile(sgl.describe_tools([hostile], "python").splitlines()[1] + " ...", "x", "exec")
    assert '"hi\\"' in sgl.describe_tools([hostile])


def no_type(x, y: int = 1) -> int:
    return 1


def many(*numbers: int) -> int:
    return 1


def extra(x: int, **more: int) -> int:
    return 1


def lost(x: Missing) -> int:  # noqa: F821
    return 1


def unique(x: set[int]) -> int:
    return 1


def raw(x: bytes) -> int:
    return 1


def inward(x: typing.Callable[[], int]) -> int:
    return 1


def priced(x: Annotated[Decimal, Field(ge=0)]) -> int:
    return 1


def looks(x: Annotated[str, Field(pattern="(?=a)b")]) -> int:
    return 1


@pytest.mark.parametrize(
    ("tools", "options", "message"),
    [
        ([no_type], {}, r"tools: no_type\(\): parameter 'x' has no type; write x: int"),
        ([many], {}, r"tools: many\(\): parameter 'numbers' takes any number \(\*numbers\)"),
        ([extra], {}, r"tools: extra\(\): parameter 'more' takes any number \(\*\*more\)"),
        ([lost], {}, r"tools: lost\(\): parameter 'x': its type 'Missing' cannot be read"),
        ([unique], {}, r"tools: unique\(\): parameter 'x': uniqueItems at \$ cannot be enforced"),
        ([raw], {}, r"tools: raw\(\): parameter 'x': format at \$ 'binary'"),
        ([raw], {"tool_style": "python"}, r"tools: raw\(\): parameter 'x': bytes has no form"),
        ([inward], {}, r"tools: inward\(\): parameter 'x': .*Callable.* has no JSON"),
        ([inward], {"tool_style": "python"}, r"inward\(\): parameter 'x': .*Callable.* no form"),
        (
            [priced],
            {"tool_style": "python"},
            r"priced\(\): parameter 'x': bounds of a Decimal",
        ),
        ([looks], {}, r"tools: looks\(\): parameter 'x': .* has no JSON: .*look-around"),
        ([looks], {"tool_style": "python"}, r"tools: looks\(\): parameter 'x': .*look-around"),
        ([lambda x: x], {}, "tools: '<lambda>' is no name that a call can have"),
        ({"a b": now}, {}, "tools: 'a b' is no name"),
        ({"class": now}, {}, "tools: 'class' is no name"),
        ([now, now], {}, "tools: two are called now; give them names with a dict"),
        ([print], {}, r"tools: print\(\): parameter 'args' takes any number"),
        (["now"], {}, "tools: expected functions, got 'now'"),
        (now, {}, "tools: expected a list of functions"),
        ("now", {}, "tools: expected a list of functions"),
        ([], {}, "tools: there are none"),
        ([now], {"tool_style": "xml"}, "tool_style: must be one of json, python, got 'xml'"),
        ([now], {"max_calls": 0}, "max_calls: must be a whole number from 1 on, got 0"),
        ([now], {"max_calls": True}, "max_calls: must be"),
        ([now], {"when": ""}, "when: must be non-empty"),
        ([now], {"when": 3}, "when: expected a text or a pair"),
        ([now], {"regex": "a"}, "regex and tools: give only one"),
        (None, {"when": "<t>"}, "when: goes with a list of tools"),
        ([now], {"lenient": True}, "lenient: goes with json_schema or type only"),
        ([geocode, lambda: 1], {}, "'<lambda>' is no name"),
    ],
)
def test_what_cannot_be_a_tool(tiny, tools, options, message):
    with pytest.raises(ConstraintError, match=message) as caught:
        compile_constraint(tools=tools, **options, tokenizer=tiny)
    assert "\n" not in str(caught.value)


def test_nothing_of_the_users_is_changed(tiny):
    tools = [now, geocode]
    before = dict(vars(geocode))
    compile_constraint(tools=tools, tool_style="python", when=["<a>", "</a>"], tokenizer=tiny)
    assert tools == [now, geocode]
    assert dict(vars(geocode)) == before
