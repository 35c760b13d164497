"""Random programs that a trace can follow to the end, and some that it cannot."""

from __future__ import annotations

import zlib
from typing import Any

from hypothesis import strategies as st

import sglnb.language as sgl
from sglnb.testing import CharTokenizer, ScriptedBackend

NAMES = st.sampled_from("abc")


def programs(depth: int = 2, *, conditions: bool = False):
    """Lists of steps; with ``conditions`` some look at what the model wrote."""
    steps = [
        st.tuples(st.just("text"), st.text("xy ", max_size=4)),
        st.tuples(st.just("gen"), NAMES),
        st.tuples(st.just("select"), NAMES),
        st.tuples(st.just("argument")),
        st.tuples(st.just("role"), st.sampled_from(["user", "assistant"]), NAMES),
        st.tuples(st.just("scope"), NAMES, NAMES),
        st.tuples(st.just("set"), NAMES, st.integers(0, 9)),
        st.tuples(st.just("move"), NAMES, NAMES),
        st.tuples(st.just("use"), NAMES),
        st.tuples(st.just("quote")),
    ]
    if conditions:
        steps.append(st.tuples(st.just("if"), NAMES))
    if depth:
        inner = programs(depth - 1, conditions=conditions)
        branches = st.lists(inner, min_size=1, max_size=3)
        mode = st.sampled_from(["gather_variable", "concate_and_append", "none"])
        steps.append(st.tuples(st.just("fork"), branches, mode))
        steps.append(st.tuples(st.just("copy"), inner))
        steps.append(st.tuples(st.just("nested"), inner, NAMES))
        steps.append(st.tuples(st.just("call"), inner))
    return st.lists(st.one_of(steps), max_size=5)


def by_character(*args: Any, **options: Any) -> ScriptedBackend:
    """A backend with a token for each character."""
    return ScriptedBackend(*args, tokenizer=CharTokenizer(), **options)


def answer(prompt: str) -> str:
    """What the model writes after ``prompt``."""
    return f"<{zlib.crc32(prompt.encode()) % 1000}>"


def score(token: int) -> float:
    """Log-probability of a token, for ``select``."""
    return -(token % 7) / 3


@sgl.function
def nested(s, program, argument):
    s += "nested "
    do(s, program, argument)
    return "done"


def text_of(s: Any, name: str) -> Any:
    """A variable as something that can be appended, "?" if it is none or a number."""
    try:
        value = s[name]
    except KeyError:
        return "?"
    while isinstance(value, list):  # gathered: the last that is there
        value = next((v for v in reversed(value) if v is not None), "?")
    return value if isinstance(value, str) else str(value)


def do(s: Any, program: list[Any], argument: Any) -> None:
    """Do the steps on ``s``."""
    for step in program:
        match step:
            case ("text", text):
                s += text
            case ("gen", name):
                s += sgl.gen(name)
            case ("select", name):
                s += sgl.select(name, choices=["one", "two", "three"])
            case ("argument",):
                s += argument
            case ("role", role, name):
                with s.user() if role == "user" else s.assistant():
                    s += sgl.gen(name)
            case ("scope", scope, name):
                with s.var_scope(scope):
                    s += "(" + sgl.gen(name)
            case ("set", name, value):
                s[name] = value
            case ("move", name, source):
                s[name] = [text_of(s, source) + "!", {"n": 1}]
            case ("use", name):
                s += "[" + text_of(s, name) + "]"
            case ("quote",):
                s += "{" + s.text() + "}" if isinstance(s.text(), str) else "never"
            case ("if", name):
                s += "long" if len(text_of(s, name)) > 4 else "short"
            case ("fork", branches, mode):
                group = s.fork(len(branches))
                for child, branch in zip(group, branches, strict=True):
                    do(child, branch, argument)
                if mode != "none":
                    group.join(mode)
            case ("copy", inner):
                with s.copy() as branch:
                    do(branch, inner, argument)
            case ("nested", inner, name):
                other = nested.run(inner, text_of(s, name))
                s += other.text() + (other.ret_value)
            case ("call", inner):
                s += nested(s, inner, argument)


@sgl.function
def main(s, program, argument):
    do(s, program, argument)
    return text_of(s, "a")
