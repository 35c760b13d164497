"""Branches: where they start, what comes back, what they cost."""

from __future__ import annotations

import threading
import time

import pytest

import sglnb.language as sgl
from sglnb.language import BranchError, GenerationError
from sglnb.testing import ScriptedBackend


def named(prompt, call):
    if call.name == "bad":
        return RuntimeError("CUDA OOM")
    return f"<{call.name}>"


@pytest.fixture(params=["inline", "thread"])
def s(request):
    state = sgl.start_state(ScriptedBackend(named, mode=request.param))
    yield state
    sgl.finish_run(state)


def test_branches_start_from_the_state_and_are_independent(s):
    s += sgl.user("u") + "a" + sgl.gen("x")
    group = s.fork(3)
    group += "b"
    group += lambda i: f"{i}" + sgl.gen("y")
    group += ["c", "d", "e"]
    group[1] += "!"
    texts = [b.text()[len(s.text()) :] for b in group]
    assert texts == ["b0<y>c", "b1<y>d!", "b2<y>e"]
    assert len(group) == 3
    assert [b["x"] for b in group] == ["<x>"] * 3
    assert "y" not in s
    assert group[0].messages() == s.messages()


def test_join_can_keep_errors_to_itself(s):
    group = s.fork(2)
    group[0] += sgl.gen("bad")
    group[1] += sgl.gen("y")
    group.join(on_error="keep")
    assert s["y"] == [None, "<y>"]
    assert isinstance(group.errors[0], GenerationError)
    with pytest.raises(GenerationError, match="CUDA OOM"):
        group[0]["bad"]


def test_concatenate_and_append(s):
    s += "p"
    group = s.fork(3)
    group += lambda i: f"[{i}" + sgl.gen("bad" if i == 1 else "y") + "]"
    with pytest.raises(BranchError):
        group.join("concate_and_append")
    assert s.text() == "p[0<y>][2<y>]"


def test_copy_is_a_branch_for_a_block(s):
    s += "a"
    with s.copy() as c:
        c += "b" + sgl.gen("x")
        assert c.text() == "ab<x>"
    assert s["x"] == ["<x>"]
    assert s.text() == "a"
    with pytest.raises(ZeroDivisionError), s.copy():
        raise ZeroDivisionError


def test_branches_live_on_after_join(s):
    group = s.fork(2)
    group += sgl.gen("y")
    group.join()
    group[0] += "more" + sgl.gen("z")
    assert group[0]["z"] == "<z>"
    assert "z" not in s


def test_nested_forks(s):
    outer = s.fork(2)
    for i, branch in enumerate(outer):
        inner = branch.fork(2)
        inner += lambda j, i=i: f"{i}{j}" + sgl.gen("y")
        inner.join()
    outer.join()
    assert s["y"] == [["<y>", "<y>"], ["<y>", "<y>"]]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda s: s.fork(0), ValueError, "size: must be"),
        (lambda s: s.fork("2"), ValueError, "size: must be"),
        (lambda s: s.fork(2).join("sum"), ValueError, "mode: must be one of gather_variable"),
        (lambda s: s.fork(2).join(on_error="skip"), ValueError, "on_error: must be"),
        (lambda s: s.fork(2).__iadd__(["a"]), ValueError, "2 branches must have as many"),
        (lambda s: s.fork(2).__iadd__(3), TypeError, "append a string"),
        (lambda s: s.fork(2).__setitem__(0, s), TypeError, "cannot be replaced"),
    ],
)
def test_mistakes(s, call, error, text):
    with pytest.raises(error, match=text):
        call(s)


# -- forks of a state that is not there yet ------------------------------------------------


def test_fork_does_not_wait(held):
    s = sgl.start_state(held)
    s += "a" + sgl.gen("x")
    group = s.fork(2)
    group += "b" + sgl.gen("y")
    s += "parent goes on"
    assert len(held.held) == 1
    got = []
    reader = threading.Thread(target=lambda: got.append(group[0]["x"]))
    reader.start()
    held.release()
    reader.join(5)
    assert got == ["<x>"]  # the branch knew that its parent was going to have it
    while len(held.held) < 2:
        time.sleep(0.01)
    assert [r.prompt for r in held.held] == ["a<x>b"] * 2
    held.release(2)
    group.join()
    assert s["y"] == ["<y>", "<y>"]
    assert s.text() == "a<x>parent goes on"
    sgl.finish_run(s)


def test_a_branch_knows_its_parents_variables_before_it_starts(held):
    s = sgl.start_state(held)
    s["old"] = 1
    s += sgl.gen("x")
    (branch,) = s.fork(1)
    assert branch["old"] == 1
    held.release()
    assert branch["x"] == "<x>"
    sgl.finish_run(s)


def test_branches_of_a_state_that_fails_before_the_fork():
    backend = ScriptedBackend(named, mode="manual")
    s = sgl.start_state(backend)
    s += sgl.gen("bad")
    group = s.fork(2)
    group += sgl.gen("y")
    backend.release()
    with pytest.raises(BranchError):
        group.join()
    for branch in group:
        with pytest.raises(GenerationError, match="CUDA OOM"):
            branch["y"]
        with pytest.raises(GenerationError, match="CUDA OOM"):
            branch["bad"]
    sgl.finish_run(s)
    assert sgl.wait_run(s, 5)


# -- the hint ------------------------------------------------------------------------------


def test_no_hint_where_it_tells_nothing_new(s):
    backend = s.stream_executor.run.backend
    s += "a" + sgl.gen("x")
    s.sync()
    s.fork(2)  # the generation has left its text in the cache
    s += "b"
    s.fork(1)
    s.sync()
    assert backend.of("prefill") == []
    s.fork(2)
    s.fork(2)
    assert [c.prompt for c in backend.of("prefill")] == ["a<x>b"]


def test_a_hint_that_is_refused_does_no_harm():
    class Refusing(ScriptedBackend):
        def submit(self, prompt, params, **options):
            if options["purpose"] == "prefill":
                raise ValueError("prompt: too long")
            return super().submit(prompt, params, **options)

    s = sgl.start_state(Refusing(named))
    s += "a"
    group = s.fork(2)
    group += sgl.gen("y")
    group.join()
    assert s["y"] == ["<y>", "<y>"]
    sgl.finish_run(s)


# -- cost ----------------------------------------------------------------------------------


def test_a_hundred_waiting_branches_take_no_threads(held):
    before = threading.active_count()
    s = sgl.start_state(held)
    s += "text"
    group = s.fork(100)
    group += sgl.gen("y")
    assert len(held.held) == 100
    assert threading.active_count() == before
    held.release(100)
    group.join()
    sgl.finish_run(s)


# -- events --------------------------------------------------------------------------------


def test_events_of_a_fork():
    backend = ScriptedBackend(named)

    @sgl.function
    def tree(s):
        s += "a"
        group = s.fork(2)
        group += sgl.gen("y")
        group.join()

    tree.run(backend=backend, run_id="r")
    events = list(backend.events)
    assert {e.run for e in events} == {"r"}
    assert backend.kinds() == [
        "run_started",
        "program_read",
        "state_started",
        "state_started",
        "state_started",
        "program_reached",
        "state_forked",
        "program_reached",
        "variable_set",
        "program_reached",
        "variable_set",
        "variable_set",
        "state_joined",
        "state_ended",
        "state_ended",
        "state_ended",
        "run_ended",
    ]
    root, first, second = (e for e in events if e.kind == "state_started")
    assert (root.parent, first.parent, second.parent) == (None, root.state, root.state)
    assert (root.label, first.index, second.index) == ("tree", 0, 1)
    (forked,) = [e for e in events if e.kind == "state_forked"]
    assert (forked.parent, forked.children) == (root.state, [first.state, second.state])
    (joined,) = [e for e in events if e.kind == "state_joined"]
    assert (joined.children, joined.mode) == (forked.children, "gather_variable")
    assert events[0].title == "tree"
    assert events[-1].error == ""
    assert [c.state for c in backend.of("gen")] == forked.children


def test_branches_that_nobody_joins_end_with_the_run(backend):
    @sgl.function
    def program(s):
        s.fork(2)

    s = program.run(backend=backend)
    assert sgl.wait_run(s, 5)
    assert backend.kinds().count("state_ended") == 3
    s.fork(2)  # afterwards
    assert backend.kinds().count("run_ended") == 1


def test_the_runs_end_tells_the_first_error():
    backend = ScriptedBackend(named)

    @sgl.function
    def program(s):
        s += sgl.gen("bad")

    program.run(backend=backend)
    ended = [e for e in backend.events if e.kind in ("state_ended", "run_ended")]
    assert all("CUDA OOM" in e.error and "\n" not in e.error for e in ended)


def test_a_failure_that_was_dealt_with_is_not_the_runs():
    backend = ScriptedBackend(named)

    @sgl.function
    def program(s):
        group = s.fork(2)
        group += lambda i: sgl.gen("bad" if i else "y")
        group.join(on_error="keep")

    program.run(backend=backend)
    errors = [e.error for e in backend.events if e.kind == "run_ended"]
    assert errors == [""]
