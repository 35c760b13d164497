"""A log as a Chrome trace: what the format asks for, and that the picture is true."""

from __future__ import annotations

import json
import re

import pytest

import sglnb.language as sgl
from sglnb.events import EventLog, RequestArrived, StateStarted
from sglnb.runtime import Engine, scheduler


@sgl.function
def poem(s):
    s += "Once upon a time"
    branches = s.fork(3)
    for i, branch in enumerate(branches):
        branch += f" {i}:" + sgl.gen("line", max_tokens=12, ignore_eos=True)
    branches.join()
    s += sgl.select("end", ["good", "bad", "so so"]) + sgl.gen("rest", max_tokens=4)


@pytest.fixture(scope="module")
def engine():
    with Engine(kv_tokens=90, seed=0) as engine:
        yield engine


def trace_of(log, tmp_path) -> list[dict]:
    record = json.loads(log.to_perfetto(tmp_path / "trace.json").read_text("utf-8"))
    assert set(record) == {"traceEvents", "displayTimeUnit"}
    return record["traceEvents"]


def check(events: list[dict]) -> None:
    """The rules of the format that viewers rely on."""
    named = {(e["pid"], e.get("tid")) for e in events if e["ph"] == "M"}
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    flows: dict[int, list[str]] = {}
    for event in events:
        assert {"ph", "name", "pid"} <= set(event)
        if event["ph"] == "M":
            continue
        assert isinstance(event["ts"], int)
        assert event["ts"] >= 0
        assert (event["pid"], event.get("tid")) in named or event["ph"] == "C"
        if event["ph"] == "X":
            assert event["dur"] >= 0
            span = event["ts"], event["ts"] + event["dur"]
            tracks.setdefault((event["pid"], event["tid"]), []).append(span)
        elif event["ph"] in "sf":
            flows.setdefault(event["id"], []).append(event["ph"])
        elif event["ph"] == "C":
            assert all(isinstance(value, int) for value in event["args"].values())
        else:
            assert event["ph"] == "i"
    assert all(pair == ["s", "f"] for pair in flows.values())
    for spans in tracks.values():  # slices of one track lie beside or inside one another
        open_ends: list[int] = []
        for begin, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while open_ends and open_ends[-1] <= begin:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1]
            open_ends.append(end)


def test_a_run_with_forks_choices_and_retractions(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "RESERVE", 1)
    poem.run(backend=engine, temperature=1.0).sync()
    engine.metrics()
    events = trace_of(engine.events, tmp_path)
    check(events)
    names = [e["name"] for e in events if e["ph"] == "X"]
    assert names.count("line") == 3
    assert {"prefill", "decode", "waiting", "rest", "poem"} <= set(names)
    assert [e["ph"] for e in events if e["name"] == "fork"] == ["s", "f"] * 3
    (rest,) = (e for e in events if e["name"] == "rest" and e["ph"] == "X")
    assert rest["args"]["completion_tokens"] == 4
    assert rest["args"]["finish_reason"] == "length"
    lines = [e for e in events if e["name"] == "line" and e["ph"] == "X"]
    assert len({e["tid"] for e in lines}) == 3, "each branch has its own track"
    steps = sum(name.startswith("step ") for name in names)
    assert steps == engine.metrics()["steps"]
    assert sum(e["ph"] == "C" for e in events) == 2 * steps


def test_what_has_not_ended_and_hostile_names(tmp_path):
    log = EventLog()
    name = '</script><img src=x onerror=alert(1)>"\\\u2028\x00'
    log.emit(StateStarted(state="s", run="r", label=name))
    log.emit(
        RequestArrived(rid="q", run="r", state="s", name=name, purpose="gen", ids=[1], pieces=["a"])
    )
    events = trace_of(log, tmp_path)
    check(events)
    shown = '</script><img src=x onerror=alert(1)>"⧵⟨U+2028⟩⟨U+0000⟩'
    assert sum(e["name"] == shown for e in events if e["ph"] == "X") == 2
    text = (tmp_path / "trace.json").read_text("utf-8")
    assert set(re.findall(r"\\.", text)) == {r"\""}, "viewers do not undo other escapes"
