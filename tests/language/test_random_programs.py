"""Random programs give what a simple sequential interpreter gives, whatever the timing."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sglnb.language as sgl
from sglnb.errors import RequestAborted
from sglnb.language.backend import as_backend
from sglnb.testing import ScriptedBackend

NAMES = st.sampled_from("abc")


def programs(depth: int):
    steps = [
        st.tuples(st.just("text"), st.text("xy ", max_size=4)),
        st.tuples(st.just("gen"), NAMES),
        st.tuples(st.just("role"), st.sampled_from(["user", "assistant"]), NAMES),
        st.tuples(st.just("scope"), NAMES, NAMES),
        st.tuples(st.just("set"), NAMES, st.integers(0, 9)),
        st.tuples(st.just("read"), NAMES),
        st.tuples(st.just("sync")),
    ]
    if depth:
        inner = st.lists(programs(depth - 1), min_size=1, max_size=3)
        mode = st.sampled_from(["gather_variable", "concate_and_append", "none"])
        steps.append(st.tuples(st.just("fork"), inner, mode))
    return st.lists(st.one_of(steps), max_size=5)


def answer(prompt: str) -> str:
    return f"<{zlib.crc32(prompt.encode()) % 1000}>"


class Sequential:
    """The meaning of a program, one step after another."""

    def __init__(self, parent: Sequential | None = None):
        self.text = parent.text if parent else ""
        self.variables = dict(parent.variables) if parent else {}
        self.own: dict[str, None] = {}
        self.start = len(self.text)

    def put(self, name, value):
        self.variables[name] = value
        self.own[name] = None

    def gen(self, name):
        text = answer(self.text)
        self.text += text
        self.put(name, text)

    def run(self, program):
        for step in program:
            match step:
                case ("text", text):
                    self.text += text
                case ("gen", name):
                    self.gen(name)
                case ("role", role, name):
                    self.text += f"{role}:\n"
                    self.gen(name)
                    self.text += "\n\n"
                case ("scope", scope, name):
                    start = len(self.text)
                    self.text += "("
                    self.gen(name)
                    self.put(scope, self.text[start:])
                case ("set", name, value):
                    self.put(name, value)
                case ("read", name):
                    self.text += str(self.variables.get(name, "?"))
                case ("fork", inner, mode):
                    children = [Sequential(self) for _ in inner]
                    for child, branch in zip(children, inner, strict=True):
                        child.run(branch)
                    self.join(children, mode)

    def join(self, children, mode):
        if mode == "concate_and_append":
            self.text += "".join(c.text[c.start :] for c in children)
        elif mode == "gather_variable":
            for name in dict.fromkeys(n for c in children for n in c.own):
                self.put(name, [c.variables[name] if name in c.own else None for c in children])


def do(s, program):
    """The same program in the language."""
    for step in program:
        match step:
            case ("text", text):
                s += text
            case ("gen", name):
                s += sgl.gen(name)
            case ("role", role, name):
                with s.user() if role == "user" else s.assistant():
                    s += sgl.gen(name)
            case ("scope", scope, name):
                with s.var_scope(scope):
                    s += "(" + sgl.gen(name)
            case ("set", name, value):
                s[name] = value
            case ("read", name):
                try:
                    s += str(s[name])
                except KeyError:
                    s += "?"
            case ("sync",):
                s.sync()
            case ("fork", inner, mode):
                group = s.fork(len(inner))
                for child, branch in zip(group, inner, strict=True):
                    do(child, branch)
                if mode != "none":
                    group.join(mode)


class Blocking(sgl.BaseBackend):
    """Answers from several threads at once, after a while."""

    def __init__(self, seed):
        super().__init__()
        self.chat_template = sgl.RoleTemplate(
            "plain",
            role_prefix_and_suffix={r: (f"{r}:\n", "\n\n") for r in ("user", "assistant")},
        )
        self.rng = random.Random(seed)

    def generate(self, s, sampling_params):
        time.sleep(self.rng.random() * 0.004)
        return answer(s.text_), {}


def make_backend(mode, seed):
    if mode == "blocking":
        return Blocking(seed)
    rng = random.Random(seed)
    return ScriptedBackend(answer, mode=mode, delay=lambda request: rng.random() * 0.004)


@pytest.mark.parametrize("mode", ["inline", "thread", "blocking"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs(2), seed=st.integers(0, 99))
def test_a_program_means_what_it_says(mode, program, seed):
    backend = make_backend(mode, seed)
    expected = Sequential()
    expected.run(program)
    s = sgl.start_state(backend)
    do(s, program)
    sgl.finish_run(s)
    assert s.text() == expected.text
    assert s.variables == expected.variables
    assert s.error() is None
    assert sgl.wait_run(s, 10)
    kinds = [event.kind for event in as_backend(backend).events]
    assert kinds.count("state_started") == kinds.count("state_ended")
    assert kinds[-1] == "run_ended"
    assert kinds.count("run_ended") == 1


@pytest.mark.parametrize("mode", ["thread", "blocking"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs(2), after=st.floats(0, 0.02), seed=st.integers(0, 99))
def test_a_program_that_is_stopped_anywhere_comes_to_rest_and_goes_on(mode, program, after, seed):
    backend = make_backend(mode, seed)
    s = sgl.start_state(backend)
    stop = threading.Timer(after, s.abort)
    stop.start()
    error = None
    try:
        do(s, program)
    except (RequestAborted, sgl.BranchError) as stopped:
        error = stopped
    stop.join()
    sgl.finish_run(s, error)
    assert sgl.wait_run(s, 10)
    s.sync()
    before = s.text()
    s += sgl.user("go on") + sgl.assistant(sgl.gen("last"))
    assert s["last"] == answer(before + "user:\ngo on\n\nassistant:\n")
    assert s.error() is None
    group = s.fork(2)
    group += sgl.gen("last")
    with contextlib.suppress(KeyError):
        s["unknown"]
    group.join()
    assert len(s["last"]) == 2
