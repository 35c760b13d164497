"""States as JSON and back."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from test_living import failing, look, numbered, state
from test_random_programs import answer, do, programs

import sglnb.language as sgl
from sglnb import Engine, GenerationError, GenerationTimeout
from sglnb.testing import ScriptedBackend


def talk(backend):
    s = state(backend)
    s += sgl.user("Grüße ☕")
    s += sgl.assistant("A: " + sgl.gen("a"))
    s["k"] = {"n": [1, 2.5, None, True]}
    s["k"] = "later"
    with s.var_scope("v"):
        s += "x" + sgl.gen("a")
    return s


def test_a_loaded_state_goes_on(tmp_path):
    s = talk(numbered())
    path = tmp_path / "chat.json"
    assert s.save(path) == path.read_text("utf-8")
    for source in (path, str(path), s.save()):
        backend = numbered()
        t = sgl.load_state(source, backend)
        assert look(t) == look(s)
        assert t.before("k")["k"] == {"n": [1, 2.5, None, True]}
        assert t.before("v").text() == s.before("v").text()
        assert t.at("a").text() == s.at("a").text()
        assert t.save() == s.save()
        t += sgl.user("more") + sgl.gen("b")
        assert t["b"] == "<1>"
        assert backend.calls[0].prompt == s.text() + "user:\nmore\n\n"
        t.undo(2)
        assert "v" not in t
        kinds = backend.kinds()
        assert kinds.count("run_started") == kinds.count("run_ended") == 1


def test_the_file_can_be_read_by_people(backend):
    record = json.loads(talk(backend).save())
    assert record["sglnb_state"] == 1
    assert record["messages"][0] == {"role": "user", "content": "Grüße ☕"}
    assert record["variables"]["k"] == "later"
    assert record["meta_info"]["a"]["finish_reason"]["type"] == "stop"


def test_options_of_the_run_go_along(backend):
    @sgl.function
    def program(s):
        s += sgl.gen("x")

    text = program.run(temperature=0.5, stop=["!"], backend=backend).save()
    t = sgl.ProgramState.load(text, backend)
    t += sgl.gen("y")
    assert backend.calls[-1].params == {"temperature": 0.5, "stop": ["!"]}


def test_an_open_message(backend):
    s = state(backend)
    s += sgl.assistant_begin() + "Well" + sgl.gen("a")
    t = sgl.load_state(s.save(), backend)
    t += ", yes" + sgl.assistant_end()
    assert t.messages() == [{"role": "assistant", "content": "Wellok, yes"}]
    t = sgl.load_state(s.save(), backend)
    t += sgl.user("next")
    assert [m["content"] for m in t.messages()] == ["Wellok", "next"]


def test_failed_and_stopped_states(held):
    s = state(failing(99))
    s += "a" + sgl.gen("x") + sgl.gen("bad")
    backend = failing(0)
    t = sgl.load_state(s.save(), backend)
    with pytest.raises(GenerationError, match=r"gen\('bad'\) at .*CUDA OOM") as caught:
        t["bad"]
    assert caught.value.name == "bad"
    assert caught.value.where == s.error().where
    t = t.before("bad")
    t += sgl.gen("bad")
    assert t.text() == "a<x><bad>"
    s = state(held)
    s += "a" + sgl.gen("x", timeout=0.01) + sgl.gen("y")
    held.held[0].say("half")
    assert s.text() == "ahalf"
    t = sgl.load_state(s.save(), held)
    assert isinstance(t.error(), GenerationTimeout)
    with pytest.raises(GenerationTimeout, match="'y' was never made"):
        t["y"]
    t += "b"
    assert t.error() is None


@settings(max_examples=60, deadline=None)
@given(first=programs(2), second=programs(1))
def test_round_trip(first, second):
    def backend():
        return ScriptedBackend(lambda prompt, call: answer(prompt))

    s = state(backend())
    do(s, first)
    t = sgl.load_state(s.save(), backend())
    assert look(t) == look(s)
    assert json.loads(t.save()) == json.loads(s.save())
    for name in s.variables:
        assert look(t.at(name)) == look(s.at(name))
        assert look(t.before(name)) == look(s.before(name))
    do(s, second)
    do(t, second)
    assert look(t)[:3] == look(s)[:3]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "variable 'odd' holds object"),
        ([1, {"a": {3, 4}}], "variable 'odd' holds set"),
        ({1: 2}, "variable 'odd' has the key 1"),
        (b"x", "variable 'odd' holds bytes"),
    ],
)
def test_what_json_cannot_hold(backend, tmp_path, value, message):
    s = state(backend)
    s["odd"] = value
    with pytest.raises(ValueError, match=message):
        s.save(tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()
    s["odd"] = (1, float("inf"), "\ud800")
    with pytest.raises(ValueError, match="an earlier value of variable 'odd'"):
        s.save()
    t = state(backend)
    t["odd"] = (1, float("inf"), "\ud800")
    t.save(tmp_path / "x.json")
    assert sgl.load_state(tmp_path / "x.json", backend)["odd"] == [1, float("inf"), "\ud800"]


def test_damaged_files(backend, tmp_path):
    whole = talk(backend).save()
    with pytest.raises(FileNotFoundError):
        sgl.load_state(tmp_path / "none.json", backend)
    with pytest.raises(TypeError, match="source: must be a path"):
        sgl.load_state(3, backend)

    def refused(text, message):
        with pytest.raises(ValueError, match=message):
            sgl.load_state(text, backend)

    refused(whole[:200], "no JSON, or cut off")
    refused('{"a": 1}', "not a state saved by sglnb")
    record = json.loads(whole)
    refused(json.dumps({**record, "sglnb_state": 99}), "is of version 99, this sglnb reads")
    for field in ("text", "messages", "variables", "checkpoints", "images", "options", "error"):
        missing = {k: v for k, v in record.items() if k != field}
        refused(json.dumps(missing), f"damaged: .*{field}")
        refused(json.dumps({**record, field: 3}), "damaged")
    refused(json.dumps({**record, "text": record["text"][:-1]}), "last checkpoint")
    refused(json.dumps({**record, "variables": {}}), "damaged")
    refused(json.dumps({**record, "checkpoints": record["checkpoints"][::-1]}), "damaged")
    assert sgl.load_state(whole, backend).text() == talk(backend).text()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_file_with_one_changed_place_loads_or_is_refused(data):
    backend = ScriptedBackend()
    record = json.loads(talk(backend).save())

    def spoil(value):
        junk = st.sampled_from([None, -1, 10**9, "x", [], {}, [None], True])
        if isinstance(value, dict) and value:
            key = data.draw(st.sampled_from(sorted(value)))
            return {**value, key: spoil(value[key])}
        if isinstance(value, list) and value:
            i = data.draw(st.integers(0, len(value) - 1))
            return [*value[:i], spoil(value[i]), *value[i + 1 :]]
        return data.draw(junk)

    try:
        t = sgl.load_state(json.dumps(spoil(record)), backend)
    except ValueError:
        return
    t.text()
    for name in t.variables:
        t.before(name).text()


def test_on_the_engine(tmp_path):
    with Engine() as engine:
        s = state(engine)
        s += sgl.user("Name three colours of the rainbow, please.")
        s += sgl.assistant(
            sgl.gen("x", max_tokens=8, temperature=0, return_logprob=True, top_logprobs_num=2)
        )
        s.save(tmp_path / "s.json")
        t = sgl.load_state(tmp_path / "s.json", engine)
        assert t["x"] == s["x"]
        t += sgl.user("And?") + sgl.assistant(sgl.gen("y", max_tokens=4))
        shared = len(engine.tokenizer.encode(s.text()))
        assert t.get_meta_info("y")["cached_tokens"] >= shared - 3
        engine.check()
