"""States that live on: at, before, undo."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from test_random_programs import answer, do, programs

import sglnb.language as sgl
from sglnb import Engine
from sglnb.language import GenerationError, UnknownVariable
from sglnb.testing import ScriptedBackend


def state(backend):
    """A state as a program leaves it behind."""
    s = sgl.start_state(backend)
    sgl.finish_run(s)
    return s


def look(s):
    """All that a reader sees of a state."""
    return s.text(), s.messages(), s.variables, {n: s.get_meta_info(n) for n in s.variables}


def numbered():
    """Answers 1, 2, 3, ... in angle brackets."""
    count = iter(range(1, 1000))
    return ScriptedBackend(lambda prompt, call: f"<{next(count)}>")


def test_a_conversation_branched_at_each_answer():
    s = state(numbered())
    for word in ("one", "two"):
        s += sgl.user(word)
        s += sgl.assistant(sgl.gen(word))
    whole = look(s)
    t = s.at("one")
    assert t.text() == s.text()[: s.text().index("<1>") + 3]
    assert t.variables == {"one": "<1>"}
    assert [m["content"] for m in t.messages()] == ["one"]  # the answer's message is open
    t += sgl.user("other")  # ends it
    t += sgl.assistant(sgl.gen("two"))
    assert [m["content"] for m in t.messages()] == ["one", "<1>", "other", "<3>"]
    assert t.text().startswith(s.text()[: s.text().index("two")])
    before = s.before("two")
    before += "Yes: " + sgl.gen("two") + sgl.assistant_end()
    assert before.messages()[-1]["content"] == "Yes: <4>"
    assert look(s) == whole


def test_what_goes_on_inside_the_open_message(backend):
    s = state(backend)
    s += sgl.assistant("A: " + sgl.gen("a") + ", B: " + sgl.gen("b"))
    t = s.at("a")
    with pytest.raises(ValueError, match="cannot end a user message"):
        t += sgl.user_end()
    t += "!" + sgl.assistant_end() + sgl.user("next")
    assert [m["content"] for m in t.messages()] == ["A: ok!", "next"]
    with pytest.raises(ValueError, match="cannot begin inside a user"):
        t += sgl.user_begin() + sgl.user_begin()  # only an inherited role is ended for you


def test_the_last_time_counts_and_one_can_go_on_back():
    s = state(numbered())
    for _ in range(3):
        s += "." + sgl.gen("x")
    assert s.at("x").text() == s.text()
    assert s.before("x")["x"] == "<2>"
    assert s.before("x").before("x").text() == ".<1>."
    assert "x" not in s.before("x").before("x").before("x")


def test_set_variables_and_scopes_and_meta_info(backend):
    s = state(backend)
    s["k"] = [1]
    with s.var_scope("v"):
        s += "in" + sgl.gen("g")
        inside = s.at("g")
    s["k"] = 2
    assert s.before("k")["k"] == [1]
    assert "k" not in s.before("k").before("k")
    assert (s.at("v").text(), s.at("v")["v"]) == ("inok", "inok")
    assert (s.before("v").text(), s.before("v").variables) == ("", {"k": [1]})
    assert s.at("g").get_meta_info("g") == s.get_meta_info("g")
    assert s.at("k").get_meta_info("k") is None
    # Inside, the scope is open and can be ended there.
    inside += "more" + sgl.SglVarScopeEnd("v")
    assert inside["v"] == "inokmore"
    assert inside.before("v").text() == ""


def test_nothing_is_shared_with_the_old_state(backend):
    s = state(backend)
    s += sgl.user("hi") + sgl.gen("x")
    t = s.at("x")
    t += sgl.user("more")
    t["x"] = "new"
    assert s["x"] == "ok"
    assert len(s.messages()) == 1


def test_branches_and_joined_states():
    s = state(numbered())
    s += "start "
    group = s.fork(2)
    group += lambda i: f"{i}:" + sgl.gen("x")
    group[1] += sgl.gen("y")
    group.join()
    assert s.at("x")["x"] == ["<1>", "<2>"]
    assert "x" not in s.before("x")
    assert s.at("y").text() == "start "
    t = group[1].at("x")
    assert t.text() == "start 1:<2>"
    t += sgl.gen("z")
    assert t["z"] == "<4>"
    assert group[1].before("x").text() == "start 1:"
    s += sgl.gen("z")
    again = s.before("z").fork(2)
    again += sgl.gen("w")
    again.join()
    assert again.src_state["w"] == ["<6>", "<7>"]
    assert again.src_state.before("w").variables == s.before("z").variables


def test_join_of_texts_from_a_branched_state(backend):
    s = state(backend)
    s += "a" + sgl.gen("x") + "b"
    t = s.at("x")
    group = t.fork(2)
    group += ["1", "2"]
    group.join("concate_and_append")
    assert t.text() == "aok12"


def test_in_flight(held):
    s = state(held)
    s += "a" + sgl.gen("x") + "b" + sgl.gen("y")
    t = s.before("x")  # does not wait for x
    assert t.text() == "a"
    t += sgl.gen("x")
    assert [call.prompt for call in held.of("gen")] == ["a", "a"]
    held.release(2)
    assert s.before("y").text() == "a<x>b"
    assert s.at("x").text() == "a<x>"
    with s.var_scope("v"):
        s += sgl.gen("z")
    held.release()
    assert s.at("y").text() == "a<x>b<y>"
    assert s.before("v").text() == "a<x>b<y>"  # z and with it v are in flight
    while not held.held:
        time.sleep(0.01)
    held.release()
    assert s["v"] == "<z>"
    assert t["x"] == "<x>"


def test_a_branch_that_has_not_begun_is_waited_for(held):
    s = state(held)
    s += sgl.gen("x")
    child = s.fork(1)[0]
    child += "c" + sgl.gen("y")
    held.release()
    assert child.before("y").text() == "<x>c"
    held.release()


# -- after failures ------------------------------------------------------------------------


def failing(times=1):
    error, left = RuntimeError("CUDA OOM"), [times]

    def reply(prompt, call):
        if call.name == "bad" and left[0]:
            left[0] -= 1
            return error
        return f"<{call.name}>"

    return ScriptedBackend(reply, mode="thread", delay=lambda call: 0.02)


def test_trying_again_in_plain_python():
    @sgl.function
    def undoing(s):
        s += sgl.user("hi")
        while True:
            s += sgl.assistant("Well, " + sgl.gen("bad"))
            try:
                return s["bad"]
            except GenerationError:
                s.undo()

    done = undoing.run(backend=failing(2))
    assert done.ret_value == "<bad>"
    assert [m["content"] for m in done.messages()] == ["hi", "Well, <bad>"]
    assert done.error() is None


def test_fallback_to_a_set_value():
    @sgl.function
    def careful(s):
        s += "Q" + sgl.gen("bad")
        try:
            s["bad"]
        except GenerationError:
            s.undo()
            s["bad"] = "unknown"
        s += sgl.gen("next")

    done = careful.run(backend=failing(9))
    assert (done["bad"], done["next"], done.text()) == ("unknown", "<next>", "<next>")


def test_a_failed_state_can_be_branched_before_the_failure():
    backend = failing()
    s = state(backend)
    s += "a" + sgl.gen("x") + "b" + sgl.gen("bad") + "c" + sgl.gen("y")
    with pytest.raises(GenerationError, match="CUDA OOM") as caught:
        s["bad"]
    with pytest.raises(GenerationError):
        s += "more"
    t = s.before("bad")
    t += sgl.gen("bad")
    assert t.text() == "a<x>b<bad>"
    assert s.at("x").text() == "a<x>"
    with pytest.raises(GenerationError, match="CUDA OOM"):
        s.at("bad")
    with pytest.raises(GenerationError, match="'y' was never made"):
        s.before("y")
    # The error brings its state with it.
    assert caught.value.state.before(caught.value.name).text() == "a<x>b"


def test_from_an_error_of_run():
    @sgl.function
    def program(s):
        s += "a" + sgl.gen("bad")
        s["bad"]

    with pytest.raises(GenerationError) as caught:
        program.run(backend=failing())
    s = caught.value.state.before("bad")
    s += sgl.gen("bad")
    assert s["bad"] == "<bad>"


def test_stopped_states(held):
    s = state(held)
    s += "a" + sgl.gen("x") + "b" + sgl.gen("y")
    held.held[0].say("half")
    s.abort()
    assert s.at("x").text() == "ahalf"
    t = s.before("x")
    t += sgl.gen("x")
    held.release(len(held.held))
    assert t.text() == "a<x>"
    with pytest.raises(GenerationError, match="never made"):
        s.before("y")


def test_unknown_variables(backend):
    s = state(backend)
    s += sgl.gen("x")
    for back in (s.at, s.before):
        with pytest.raises(UnknownVariable, match=r"'nope'.*it has: x"):
            back("nope")


# -- undo ----------------------------------------------------------------------------------


def test_undo(backend):
    s = state(backend)
    seen = [look(s)]

    def done():
        seen.append(look(s))

    s += "a" + sgl.gen("x")
    done()
    s.user("hi")
    done()
    s += sgl.user("one") + sgl.assistant(sgl.gen("x"))
    done()
    with s.assistant(), s.var_scope("v"):
        s += "b"
        s += sgl.gen("y")
    done()
    s["k"] = 1
    done()
    group = s.fork(2)
    group += sgl.gen("many") + sgl.gen("more")
    group.join()
    done()
    s += ""
    done()
    for expected in reversed(seen[:-1]):
        s.undo()
        assert look(s) == expected
    with pytest.raises(ValueError, match="only 0 steps"):
        s.undo()
    s += sgl.user("on") + sgl.gen("z")
    assert s["z"] == "ok"
    s += "a"
    s += "b"
    s.undo(2)
    assert s.at("z").text() == s.text()
    with pytest.raises(ValueError, match="only 1 steps to take back, got 2"):
        s.undo(2)
    for wrong in (0, -1, True, "1"):
        with pytest.raises(ValueError, match="n: must be a whole number"):
            s.undo(wrong)


def test_undo_inside_a_block(backend):
    s = state(backend)
    s += "a"
    with s.user():
        s += "b"
        s += "c"
        s.undo()
        with pytest.raises(ValueError, match="there are 1; leave the block first"):
            s.undo(2)
        child = s.fork(1)[0]
    assert s.messages() == [{"role": "user", "content": "b"}]
    child.undo()  # to a branch the block so far is one step
    assert child.text() == "a"
    child += sgl.user("x")
    assert s.text() != child.text()


def test_undo_of_a_failed_step():
    s = state(failing())
    s += sgl.user("hi")
    s += sgl.assistant(sgl.gen("bad"))
    s += sgl.user("dropped")
    assert s.error() is not None
    s.undo()
    assert s.error() is None
    assert [m["content"] for m in s.messages()] == ["hi"]
    s += sgl.assistant(sgl.gen("bad"))
    assert s["bad"] == "<bad>"


def test_undo_waits_for_what_is_going_on():
    backend = ScriptedBackend(lambda p, c: "slow", mode="thread", delay=lambda c: 0.05)
    s = state(backend)
    s += "a"
    s += sgl.gen("x")
    s.undo()
    assert s.text() == "a"
    assert "x" not in s


def test_undo_leaves_branches_alone(backend):
    s = state(backend)
    s += sgl.user("hi")
    s += sgl.gen("x")
    t = s.at("x")
    group = s.fork(2)
    group += sgl.gen("y")
    group[1].undo(2)
    s.undo(2)
    assert s.text() == ""
    assert t["x"] == group[0]["x"] == "ok"
    assert group[1].variables == {}
    group.join()
    assert s["y"] == ["ok", None]


@pytest.mark.parametrize("mode", ["inline", "thread"])
@settings(max_examples=60, deadline=None)
@given(first=programs(2), second=programs(1))
def test_undo_is_as_if_it_had_not_been(mode, first, second):
    """And at, before and the others agree with what the state was like there."""
    backend = ScriptedBackend(lambda prompt, call: answer(prompt), mode=mode)
    s = state(backend)
    do(s, first)
    before = look(s)
    t = state(backend)
    do(t, first)
    s["mark"] = 0
    do(s, second)
    there = s.at("mark")
    assert there.text() == before[0]
    assert there.variables == {**before[2], "mark": 0}
    back = s.before("mark")
    assert look(back)[:3] == before[:3]
    while "mark" in s:
        s.undo()
    assert look(s) == before
    do(s, second)
    do(t, second)
    do(back, second)
    assert s.text() == t.text() == back.text()
    assert s.variables == t.variables == back.variables


# -- on the engine -------------------------------------------------------------------------


def test_the_cache_has_what_is_shared():
    with Engine() as engine:
        s = state(engine)
        s += sgl.user("Name three colours of the rainbow, please. " * 5)
        s += sgl.assistant(sgl.gen("x", max_tokens=16, temperature=0, ignore_eos=True))
        s += sgl.user("And three more?")
        s += sgl.assistant(sgl.gen("y", max_tokens=4, temperature=0))
        t = s.before("y")
        t += sgl.gen("z", max_tokens=4, temperature=0)
        again = t.get_meta_info("z")
        assert again["cached_tokens"] == again["prompt_tokens"] - 1
        assert t["z"] == s["y"]
        t = s.at("x")
        t += sgl.user("Thanks!") + sgl.assistant(sgl.gen("z", max_tokens=4))
        shared = len(engine.tokenizer.encode(s.at("x").text()))
        assert t.get_meta_info("z")["cached_tokens"] >= shared - 2
        s.undo()
        s += sgl.assistant(sgl.gen("y", max_tokens=4, temperature=0))
        again = s.get_meta_info("y")
        assert again["cached_tokens"] == again["prompt_tokens"] - 1
        engine.check()


def test_a_state_in_a_cells_run_belongs_to_it(backend):
    s = state(backend)
    s += sgl.gen("x")
    cell = sgl.start_state(backend)
    t = s.at("x")
    assert t.run_id == cell.run_id != s.run_id
    t += sgl.gen("y")
    sgl.finish_run(cell)
    assert sgl.wait_run(cell, 5)
    assert backend.kinds().count("state_started") == backend.kinds().count("state_ended")


def test_a_seed_of_the_run_becomes_another_one(backend):
    @sgl.function
    def program(s):
        s += sgl.gen("x")

    s = program.run(seed=7, backend=backend)
    for t in (s.before("x"), s.before("x")):
        t += sgl.gen("x")
    seeds = [call.params["seed"] for call in backend.of("gen")]
    assert len(set(seeds)) == 3


def test_checkpoints_cost_next_to_nothing(backend):
    """Appending costs a long state what it costs a short one."""
    s = state(backend)

    def append(n):
        start = time.thread_time()
        for _ in range(n):
            s.set_var("k", "v")
        return time.thread_time() - start

    first = min(append(1000) for _ in range(3))
    append(5000)
    assert min(append(1000) for _ in range(3)) < 2 * first
    assert s.at("k")["k"] == "v"
