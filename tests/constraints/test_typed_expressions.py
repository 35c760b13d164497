"""Expressions as constraints: a type checker agrees with every one that is written."""

from __future__ import annotations

import json
import random
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pydantic
import pytest
import typed_scope as scope
from typed_scope import FUNCTIONS, TYPES, Level, User
from typed_tools import mypy, walks

from sglnb.errors import ConstraintError
from sglnb.language.typed_expression import ExpressionForm
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.expressions import ExpressionGrammar, ExpressionSpec, read_scope
from sglnb.runtime.constraints.rules import Repeat, Symbol

SCOPE = {**TYPES, **FUNCTIONS}
GOALS = {
    "float": float,
    "int": int,
    "bool": bool,
    "str": str,
    "list[str]": list[str],
    "User | None": User | None,
    "Level": Level,
    "dict[str, float]": dict[str, float],
    "int | str": int | str,
    "date": date,
    'Literal["km", "mi"]': Literal["km", "mi"],
    "tuple[float, bool]": tuple[float, bool],
    "set[int]": set[int],
}

FLOATS = [
    ("price", True),
    ("price * qty", True),
    ("-price ** 2 + 1.5", True),
    ("qty / 2 - (price + 1) // 3", True),
    ("price if qty > 3 and not flag else 0.5", True),
    ("maybe if maybe is not None else rate(user, 2)", True),
    ("price if maybe is None or user.friend is None else 1", False),
    ('rate(users[0], kind="b") * user.share', True),
    ("round(price, 2)", True),
    ("sqrt(len(user.tags)) + max(price, 1)", True),
    ('stock[item["sku"]] * pair[0]', True),
    ("price if user.level == Level.HIGH else 2", True),
    ('price if unit == "km" and "a" in stock and user in users else 2', True),
    ('user.name.upper().count("A")', True),
    ("1 if user.span.start < user.span.end else 2", True),
    ("maybe", False),
    ("maybe + 1", False),
    ("user", False),
    ("user.name", False),
    ("flag", False),
    ("price + flag", False),
    ('price * "a"', False),
    ("price < 3", False),
    ("price and qty", False),
    ("not price", False),
    ("price if qty else 1", False),
    ("user.friend.age", False),
    ("user.missing", False),
    ("users[price]", False),
    ("stock[1]", False),
    ("pair[2]", False),
    ("pair[1]", False),
    ('item["size"]', False),
    ("rate(price)", False),
    ("rate()", False),
    ('rate(user, kind="c")', False),
    ("rate(user, 1, 'a')", False),
    ("find(user.name)", False),
    ("price ** qty", False),
    ("1 < price < 3", False),
    ("__import__", False),
    ("user.__class__", False),
    ("price  * qty", False),
    ("price;", False),
    ("", False),
]


@pytest.mark.parametrize(("text", "fits"), FLOATS)
def test_what_is_a_float(tiny, text, fits):
    constraint = compile_constraint(expression=float, scope=SCOPE, tokenizer=tiny)
    assert constraint.accepts(text) is fits


def test_in_five_vocabularies(tokenizer):
    constraint = compile_constraint(expression=float, scope=SCOPE, tokenizer=tokenizer)
    assert (constraint.kind, constraint.source[:21]) == ("expression", "float of price, qty, ")
    for text, fits in FLOATS:
        assert constraint.accepts(text) is fits, text
        if fits:
            assert constraint.accepts(text + "\n")


def judged(tokenizer, count: int, folder: Path) -> int:
    """How many walks through the masks there were; mypy must find nothing in any."""
    lines = Path(scope.__file__).read_text().splitlines()
    first = len(lines)
    for name, kind in GOALS.items():
        constraint = compile_constraint(expression=kind, scope=SCOPE, tokenizer=tokenizer)
        for text in walks(constraint, tokenizer, count):
            lines.append(f"v{len(lines)}: {name} = {text.rstrip()}")
    # Proof that mypy looks: one line that is wrong.
    lines.append("wrong: int = price")
    found = mypy("\n".join(lines) + "\n", folder)
    assert found.pop(len(lines)).startswith("Incompatible types")
    assert {lines[at - 1]: message for at, message in found.items()} == {}
    return len(lines) - first - 1


def test_mypy_agrees(tiny, tmp_path):
    assert judged(tiny, 25, tmp_path) > 50


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("tokenizer", "count"), [("sgl-tiny", 300), ("llama3", 120)], indirect=["tokenizer"]
)
def test_mypy_agrees_with_thousands(tokenizer, count, tmp_path):
    """Of the 13 types one has two texts only, and ``count`` different ones of each other are asked
    for in at most three times as many tries."""
    assert judged(tokenizer, count, tmp_path) > 9 * count


VALUES = {name: getattr(scope, name) for name in TYPES}


def test_values_are_those_of_python_and_of_the_type(tiny):
    """``eval`` is the oracle of the value, pydantic of its type."""
    checked = 0
    for kind in (float, int, bool, str, list[str], Optional[User], date, tuple[float, bool]):  # noqa: UP045
        constraint = compile_constraint(expression=kind, scope=SCOPE, tokenizer=tiny)
        form = ExpressionForm(ExpressionSpec(kind, SCOPE))
        for text in walks(constraint, tiny, 25, seed=1):
            expression = form.read(text, None)
            assert (str(expression), expression.type) == (text.rstrip("\n"), kind)
            values = {name: VALUES[name] for name in expression.names}
            problems = (ArithmeticError, IndexError, KeyError, ValueError)
            try:
                wanted = eval(text.strip(), dict(vars(scope)))
            except problems as problem:
                with pytest.raises(type(problem)):
                    expression.evaluate(**values)
                continue
            got = expression.evaluate(**values)
            assert (got, type(got)) == (wanted, type(wanted)) or got != got
            pydantic.TypeAdapter(Any if kind == Optional[User] else kind).validate_python(got)  # noqa: UP045
            checked += 1
    assert checked > 25


def test_every_rule_can_be_written(tiny):
    """Random derivations of the rules are texts of the compiled grammar: the lexer hides none."""
    rng = random.Random(3)
    variables, functions = read_scope(SCOPE)
    grammar = ExpressionGrammar(variables, functions)
    root = grammar.value(float, grammar.depth, "expression")
    alive = grammar.finish()
    constraint = compile_constraint(expression=float, scope=SCOPE, tokenizer=tiny)

    def derive(item, budget: int) -> str:
        if isinstance(item, Repeat):
            return "".join(derive(i, budget - 1) for i in item.items for _ in range(item.least))
        if isinstance(item, str):
            samples = {"/0": "7", "/(": "2.5", "%j": '"a\\n"'}
            return samples[item[:2]] if item[:2] in samples else json.loads(item)
        ways = [w for w in grammar.rules._of[item] if alive.issuperset(_symbols(w))]
        if budget < 0 or rng.random() < 0.5:
            ways = [w for w in ways if cost(w) == min(map(cost, ways))]
        return "".join(derive(part, budget - 1) for part in rng.choice(ways))

    heights: dict[Symbol, int] = {}

    def cost(way) -> int:
        return max((heights[s] for s in _symbols(way)), default=0)

    grown = True
    while grown:  # the height of the lowest tree of each symbol
        grown = False
        for symbol, ways in grammar.rules._of.items():
            known = [cost(w) for w in ways if heights.keys() >= set(_symbols(w))]
            if symbol not in heights and known:
                heights[symbol] = 1 + min(known)
                grown = True
    texts = {derive(root, rng.randint(8, 30)) for _ in range(300)}
    assert len(texts) > 150
    refused = [text for text in texts if not constraint.accepts(text)]
    assert refused == []


def _symbols(items) -> list[Symbol]:
    inner = [i for item in items if isinstance(item, Repeat) for i in item.items]
    return [item for item in (*items, *inner) if isinstance(item, Symbol)]


MUTATIONS = [
    (r"\bqty\b", "user"),
    (r"\bprice\b", "users"),
    (r"\buser\b", "price"),
    (r"\buser\.name\b", "user.age"),
    (r"\buser\.age\b", "user.level"),
    (r"\bflag\b", "qty"),
    (r" \* ", " and "),
    (r"\brate\(", "find("),
    (r"\blen\(", "sqrt("),
    (r" < ", " + "),
    (r"\.upper\(\)", ".count()"),
    (r"\bitem\[", '{"sku": "x", "count": 1}['),  # a TypedDict only where one is asked for
    (r"\bstock\[", "{}["),
]


def test_mutants_are_refused_as_mypy_refuses_them(tiny, tmp_path):
    source = Path(scope.__file__).read_text().splitlines()
    constraint = compile_constraint(expression=float, scope=SCOPE, tokenizer=tiny)
    mutants = {
        re.sub(pattern, other, text, count=1)
        for text, fits in FLOATS
        for pattern, other in MUTATIONS
        if fits and re.search(pattern, text)
    }
    lines = [*source, *(f"v{i}: float = {text}" for i, text in enumerate(mutants))]
    wrong = {lines[at - 1].partition(" = ")[2] for at in mypy("\n".join(lines) + "\n", tmp_path)}
    assert len(wrong) > 20
    assert [text for text in wrong if constraint.accepts(text)] == []


# -- scopes ---------------------------------------------------------------------------------


def untyped(x):
    return x


def no_result(x: int):
    return x


def needs(n: int, table: TestTable) -> User:
    return scope.user


class TestTable:
    __test__ = False


@pytest.mark.parametrize(
    ("kind", "names", "message"),
    [
        (User, {"price": float}, r"expression: nothing in scope makes a User; there is price "),
        (User, {}, "expression: nothing in scope makes a User; add a name or a function"),
        (User, {"needs": needs}, r"needs\(\): parameter 'table': nothing makes a TestTable; add"),
        (float, {"x": 3.5}, r"scope: 'x' is 3.5; give its type \(float\) here and the value to"),
        (float, {"class": int}, "scope: 'class' is no name"),
        (float, {"a b": int}, "scope: 'a b' is no name"),
        (float, {"f": untyped}, r"scope: f\(\): parameter 'x' has no type"),
        (float, {"f": no_result}, r"scope: the result of f\(\) has no type; write -> int"),
        (float, {"f": print}, r"scope: f\(\): parameter 'args' takes any number"),
        (float, ["x"], "scope: expected a dict of names"),
        (None, {"x": int}, "scope: goes with expression"),
        (Annotated[int, pydantic.Field(ge=0)], {}, "expression: the bounds of .* cannot be"),
        (bytes, {}, "expression: bytes has no form in Python source"),
    ],
)
def test_what_cannot_be_made(tiny, kind, names, message):
    with pytest.raises(ConstraintError, match=message) as caught:
        compile_constraint(expression=kind, scope=names, tokenizer=tiny)
    assert "\n" not in str(caught.value)


def test_a_class_that_only_names_make(tiny):
    constraint = compile_constraint(
        expression=TestTable, scope={"a": TestTable, "ab": TestTable, "n": int}, tokenizer=tiny
    )
    for text, fits in [("a", True), ("ab", True), ("a if n > 1 else ab", True), ("n", False)]:
        assert constraint.accepts(text) is fits


def test_two_functions_that_call_themselves_equal(tiny):
    class Equal:
        def __init__(self, value: int):
            self.value = value

        def __call__(self) -> int:
            return self.value

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        def __hash__(self) -> int:
            return 1

    from sglnb.runtime.constraints.expressions import expression_spec

    for value in (1, 2):
        spec = expression_spec(int, {"f": Equal(value)})
        assert ExpressionForm(spec).read("f()", None).evaluate() == value
    assert expression_spec(int, {"f": len}) is expression_spec(int, {"f": len})


def test_evaluate():
    form = ExpressionForm(ExpressionSpec(float, SCOPE))
    total = form.read("price * qty\n", None)
    assert (total.source, total.names, total.type) == ("price * qty", ("price", "qty"), float)
    assert repr(total) == "Expression('price * qty', float)"
    assert total.evaluate(price=2.5, qty=4, flag=True) == 10
    with pytest.raises(
        ValueError, match=r"evaluate: qty is missing; 'price \* qty' uses price, qty"
    ):
        total.evaluate(price=2.5)
    with pytest.raises(ValueError, match="evaluate: there is no variable prize"):
        total.evaluate(price=2.5, qty=1, prize=3)
    with pytest.raises(ZeroDivisionError):
        form.read("price / qty", None).evaluate(price=1.0, qty=0)
    for text in ("price *", "os.system('x')", "price.__class__", "maybe", "f" * 9):
        with pytest.raises(ConstraintError, match="no expression of float of price, qty"):
            form.read(text, None)
