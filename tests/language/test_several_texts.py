"""gen(n=k): what the variable, the text and the metadata are, and when it goes wrong."""

from __future__ import annotations

import threading
import time

import pytest

import sglnb as sgl
from sglnb.language import GenerationAborted, GenerationError
from sglnb.testing import Failure, ScriptedBackend


@pytest.fixture(params=["inline", "thread"])
def s(request):
    replies = {"x": [" a", " bb", " ccc"], "y": ["1", "2", "3", "4"], "z": "end"}
    state = sgl.start_state(ScriptedBackend(replies, request.param))
    yield state
    sgl.finish_run(state)


def test_the_variable_is_a_list_and_the_text_goes_on_with_the_first(s):
    s += "Q:" + sgl.gen("x", n=3, max_tokens=9) + "." + sgl.gen("z")
    assert s["x"] == [" a", " bb", " ccc"]
    assert s.text() == "Q: a.end"
    infos = s.get_meta_info("x")
    assert [info["completion_tokens"] for info in infos] == [1, 1, 1]
    assert len({info["id"] for info in infos}) == 3
    calls = s.stream_executor.run.backend.of("gen")
    assert [c.prompt for c in calls] == ["Q:"] * 3 + ["Q: a."]
    assert "n" not in calls[0].params


@pytest.mark.parametrize(
    ("pick", "text"),
    [(None, " a"), (2, " ccc"), (lambda texts: texts.index(max(texts, key=len)), " ccc")],
)
def test_which_one_the_text_goes_on_with_can_be_told(s, pick, text):
    s += "Q:" + sgl.gen("x", n=3, pick=pick) + "."
    assert s.text() == f"Q:{text}."
    assert len(s["x"]) == 3


def test_a_users_function_never_runs_on_the_engines_thread():
    backend, ran_on = ScriptedBackend(["a", "b"], "manual"), []

    def pick(texts):
        ran_on.append(threading.current_thread())
        texts.clear()
        return 1

    s = sgl.start_state(backend)
    s += sgl.gen("x", n=2, pick=pick)
    engine = threading.Thread(target=lambda: backend.release(2))
    engine.start()
    assert s["x"] == ["a", "b"]
    assert s.text() == "b"
    assert ran_on[0] not in (engine, threading.current_thread())
    sgl.finish_run(s)


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        (lambda texts: 1 / 0, "ZeroDivisionError"),
        (lambda texts: 3, r"must return 0 to 2, got 3"),
        (lambda texts: texts[0], r"must return 0 to 2, got ' a'"),
    ],
)
def test_a_function_that_fails_is_the_variables_error(s, pick, message):
    s += sgl.gen("x", n=3, pick=pick)
    with pytest.raises(GenerationError, match=message):
        s["x"]


def test_n_of_the_run_holds_for_every_gen():
    @sgl.function
    def program(s):
        s += "Q:" + sgl.gen("x") + sgl.gen("y", n=1) + sgl.select("c", [" u", " v"])

    state = program.run(n=2, backend=ScriptedBackend())
    assert (state["x"], state["y"], state["c"]) == (["ok", "ok"], "ok", " u")
    bad = sgl.gen("x", pick=1)  # good where run() says n=2

    @sgl.function
    def picky(s):
        s += bad

    assert picky.run(n=2, backend=ScriptedBackend(["a", "b"])).text() == "b"
    with pytest.raises(GenerationError, match="pick: must be 0 to 0, or a function, with n=1"):
        picky.run(backend=ScriptedBackend())["x"]


def test_in_forks_and_batches(s):
    group = s.fork(2)
    group += sgl.gen("y", n=2)
    group.join()
    assert sorted(map(sorted, s["y"])) == [["1", "2"], ["3", "4"]]

    @sgl.function
    def program(s, q):
        s += q + sgl.gen("x", n=2)

    states = program.run_batch([{"q": "a"}, {"q": "b"}], backend=ScriptedBackend())
    assert [state["x"] for state in states] == [["ok", "ok"]] * 2


def test_seeds_differ_by_sibling_and_repeat():
    def seeds(**params):
        backend = ScriptedBackend()
        s = sgl.start_state(backend, defaults=params)
        s += sgl.gen("x", n=4)
        group = s.fork(2)
        group += sgl.gen("y", n=2)
        group.join()
        sgl.finish_run(s)
        return [call.params.get("seed") for call in backend.of("gen")]

    first = seeds(seed=7)
    assert first[0] == 7
    assert len(set(first)) == 8
    assert seeds(seed=7) == first
    assert set(seeds()) == {None}


def test_reading_piece_by_piece_says_that_it_cannot_be():
    backend = ScriptedBackend(["a", "b"], "manual")
    s = sgl.start_state(backend)
    s += "Q: " + sgl.gen("x", n=2)
    with pytest.raises(TypeError, match=r"text_iter: variable 'x' is a list.*s\['x'\]"):
        next(s.text_iter("x"))
    pieces = s.text_iter()
    assert next(pieces) == "Q: "
    backend.held[1].say("unseen")
    backend.held[0].say("seen")
    assert next(pieces) == "seen"  # the state's text can: the first is what it goes on with
    backend.held[0].answer = "seen and done"
    backend.release(2)
    assert "".join(pieces) == " and done"
    with pytest.raises(TypeError, match="is a list"):
        next(s.text_iter("x"))
    sgl.finish_run(s)


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_one_that_fails_fails_the_variable_and_stops_the_others(mode):
    replies = ["a", Failure(RuntimeError("CUDA OOM"), after="par"), "c " * 50]
    backend = ScriptedBackend(replies, mode, pace=0.01)
    s = sgl.start_state(backend)
    s += "Q: " + sgl.gen("x", n=3) + sgl.gen("y")
    with pytest.raises(GenerationError, match=r"gen\('x'\) at .*CUDA OOM"):
        s["x"]
    assert all(call.done for call in backend.calls)
    assert s.text().startswith("Q: a")
    with pytest.raises(GenerationError, match="'y' was never made"):
        s["y"]
    sgl.finish_run(s)
    assert sgl.wait_run(s, 5)


def test_one_that_cannot_be_sent_stops_the_others():
    backend = ScriptedBackend(["a", ValueError("prompt: too long")], "manual")
    s = sgl.start_state(backend)
    s += sgl.gen("x", n=2)
    with pytest.raises(GenerationError, match="too long"):
        s["x"]
    assert backend.calls[0].aborted
    sgl.finish_run(s)


def test_a_stop_keeps_what_all_have_so_far():
    backend = ScriptedBackend("text", "manual")
    s = sgl.start_state(backend)
    s += "Q: " + sgl.gen("x", n=2, pick=1)
    backend.held[0].say("one")
    backend.held[1].say("two")
    s.abort()
    assert isinstance(s.error(), GenerationAborted)
    assert s["x"] == ["one", "two"]
    assert s.text() == "Q: two"
    assert [i["finish_reason"]["type"] for i in s.get_meta_info("x")] == ["abort"] * 2
    sgl.finish_run(s)


def test_on_a_blocking_backend():
    class Numbers(sgl.BaseBackend):
        lock, said = threading.Lock(), 0

        def generate(self, s, sampling_params):
            assert sampling_params.n == 1
            with self.lock:
                self.said += 1
                mine = self.said
            time.sleep(0.01)
            return f"{mine}", {}

    s = sgl.start_state(Numbers())
    s += sgl.gen("x", n=5, pick=3)
    assert sorted(s["x"]) == ["1", "2", "3", "4", "5"]
    assert s.text() == s["x"][3]
    sgl.finish_run(s)


def test_on_the_engine_siblings_share_the_prompt(engine):
    engine.cache.flush()
    s = sgl.start_state(engine, defaults={"seed": 3, "temperature": 1.5, "max_new_tokens": 12})
    s += sgl.user("Tell me about the sea, the wind and the old harbour of the town.")
    s += sgl.assistant(sgl.gen("x", n=4, pick=2, return_logprob=True))
    s += sgl.user("Go on.")
    assert len(set(s["x"])) > 1
    infos = s.get_meta_info("x")
    prompt = infos[0]["prompt_tokens"]
    assert sum(info["cached_tokens"] >= prompt - 1 for info in infos) == 3
    assert all(len(i["output_token_logprobs"]) == i["completion_tokens"] for i in infos)
    assert s.messages()[1]["content"] == s["x"][2].lstrip()
    start = s.text().index(s["x"][2])
    params = {"seed": 3, "temperature": 1.5, "max_new_tokens": 12, "n": 4}
    stop_ids = s.stream_executor.run.template.stop_token_ids
    together = engine.generate(s.text()[:start], params | {"stop_token_ids": stop_ids})
    assert [r["text"] for r in together] == s["x"]
    sgl.finish_run(s)
    engine.check()
