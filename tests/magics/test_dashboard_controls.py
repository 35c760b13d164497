"""The dashboard's controls without a browser: what they do to the engine and what they say."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

import sglnb as sgl
from sglnb.magics.dashboard import Dashboard
from sglnb.magics.engines import named_engine
from sglnb.viz.meter import Rates


def wait(until, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def button(board, name):
    return next(b for row in board.children[1:4] for b in row.children
                if getattr(b, "description", "") == name)  # fmt: skip


@pytest.fixture
def board():
    with sgl.Engine(kv_tokens=600) as engine:
        board = sgl.dashboard(engine)
        yield board
        board.close()
        engine.check()


def test_controls_act_and_refusals_are_told(board):
    engine = board._engine
    board._policy.value = "fcfs"
    wait(lambda: engine.configure()["policy"] == "fcfs")
    wait(lambda: "policy is 'fcfs'" in board._said.value)
    board._jump.value = False
    board._temperature.value = 0.5
    wait(lambda: engine.configure()["temperature"] == 0.5)
    assert engine.configure()["jump_forward"] is False
    request = engine.submit("Once", {"max_new_tokens": 500, "ignore_eos": True})
    board._pool.value = 300
    button(board, "Resize").click()
    wait(lambda: board._said.value.startswith("not now: resize: 1 requests"))
    assert board._pool.value == 300, "what was typed is not lost"
    button(board, "Stop").click()
    wait(lambda: request.done)
    wait(lambda: board._said.value == "1 request stopped")
    assert request.text
    button(board, "Resize").click()
    wait(lambda: engine.metrics()["kv_tokens"] == 300)
    button(board, "Flush").click()
    wait(lambda: "forgotten" in board._said.value)
    button(board, "Release").click()
    wait(lambda: engine.status()["state"] == "released")
    wait(lambda: board._life.description == "Resume")
    button(board, "Resume").click()
    wait(lambda: engine.status()["state"] == "ready", 30)


def test_a_setting_changed_elsewhere_is_shown_with_the_next_change(board):
    board._engine.configure(eviction="mru")
    button(board, "Flush").click()
    wait(lambda: board._eviction.value == "mru")


def test_the_engine_is_chosen_among_those_loaded(board):
    first = board._engine
    with sgl.Engine(kv_tokens=700) as second:
        try:
            wait(lambda: second._number in dict(board._model.options).values())
            labels = [label for label, _ in board._model.options]
            assert len(set(labels)) == len(labels)
            board._policy.value = "fcfs"
            wait(lambda: "policy is" in board._said.value)
            board._model.value = second._number
            wait(lambda: board._engine is second)
            wait(lambda: board._policy.value == "lpm")
            assert board._pool.value == 700
            board._eviction.value = "mru"
            wait(lambda: second.configure()["eviction"] == "mru")
            assert first.configure()["eviction"] == "lru"
            button(board, "Make default").click()
            wait(lambda: sgl.get_default_backend() is second)
            wait(lambda: any(label.endswith("· default") for label, _ in board._model.options))
            board._model.value = first._number
            wait(lambda: board._engine is first)
        finally:
            sgl.set_default_backend(None)
    wait(lambda: second._number not in dict(board._model.options).values())
    assert board._model.value == first._number


def test_a_model_is_loaded_beside_the_others(board, tmp_path):
    first = board._engine
    button(board, "Load").click()
    wait(lambda: board._said.value.startswith("type the folder"))
    board._path.value = str(tmp_path / "nothing")
    button(board, "Load").click()
    wait(lambda: "was not loaded" in board._said.value)
    assert board._engine is first
    assert board._path.value, "what was typed can be mended"
    assert not board._load.disabled
    copy = shutil.copytree(Path(sgl.__file__).parent / "assets" / "sgl-tiny", tmp_path / "copy")
    board._path.value = str(copy)
    button(board, "Load").click()
    wait(lambda: board._engine is not first, 30)
    loaded = board._engine
    assert loaded.model_name == str(copy)
    wait(lambda: board._model.value == loaded._number)
    assert named_engine(str(copy)) is loaded, "--model finds it"
    assert loaded.generate("Once", {"max_new_tokens": 2})["text"]
    board._model.value = first._number
    wait(lambda: board._engine is first)
    loaded.check()
    loaded.shutdown()


def test_few_numbers_and_only_while_in_sight(board):
    sent = []
    board._meter.send = sent.append
    board._meter._on_custom(None, {"kind": "sight", "seen": False}, [])
    time.sleep(0.1)
    sent.clear()
    board._engine.generate("Once", {"max_new_tokens": 3})
    time.sleep(1.2)
    assert sent == []
    board._meter._on_custom(None, {"kind": "sight", "seen": True}, [])
    request = board._engine.submit("Once", {"max_new_tokens": 400, "ignore_eos": True})
    time.sleep(1.6)
    request.abort()
    assert 2 <= len(sent) <= 5
    assert any(message["numbers"]["rate"] > 0 for message in sent)


def test_the_thread_ends_with_the_engine_or_the_dashboard():
    with sgl.Engine(kv_tokens=600) as engine:
        first, second = sgl.dashboard(engine), sgl.dashboard(engine)
        first.close()
        first._thread.join(5)
        assert not first._thread.is_alive()
    second._thread.join(5)
    assert not second._thread.is_alive()
    with pytest.raises(ValueError, match="engine: must be an sglnb Engine"):
        sgl.dashboard("engine")
    assert isinstance(second, Dashboard)


def test_rates_are_of_the_time_between_two_looks():
    now = [0.0]
    rates = Rates(lambda: now[0])
    with sgl.Engine(kv_tokens=600) as engine:
        assert rates(engine.status())["rate"] == 0
        engine.generate("Once", {"max_new_tokens": 10, "ignore_eos": True})
        now[0] = 2.0
        assert rates(engine.status())["rate"] == 5
    assert rates({**engine.status()})["state"] == "closed"
