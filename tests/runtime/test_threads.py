"""The governor on scripted readings, and the interval of Python's lock."""

from __future__ import annotations

import sys

import pytest
import torch

from sglnb.runtime import threads
from sglnb.runtime.threads import SWITCH, ThreadGovernor, short_switches


@pytest.mark.parametrize(
    ("busy", "own", "at", "wanted"),
    [
        (4.0, 1.0, 4, 4),  # we alone on all cores
        (1.0, 1.0, 1, 4),  # we alone on one: all the others are free
        (2.0, 1.0, 1, 3),  # one neighbour
        (4.0, 0.7, 4, 3),  # a neighbour squeezes us: 1.2 cores are not ours
        (4.0, 0.0, 4, 1),  # others have everything
        (4.2, 1.0, 4, 4),  # a little noise is overlooked
    ],
)
def test_threads_follow_what_is_free(monkeypatch, busy, own, at, wanted):
    """Over one second: cores busy in all, and this thread's own share."""
    readings = iter([(0.0, 0.0, 0.0), (1.0, busy, own)])
    monkeypatch.setattr(threads, "_cores", lambda: 4)
    monkeypatch.setattr(ThreadGovernor, "_measure", lambda self: next(readings))
    monkeypatch.setattr(threads.time, "monotonic", lambda: 1.0)
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    governor = ThreadGovernor(4)
    governor.threads = at
    governor.adjust()
    assert governor.threads == wanted
    assert asked == ([] if wanted == at else [wanted])


def test_real_readings_only_grow():
    governor = ThreadGovernor(2)
    first, second = governor._measure(), governor._measure()
    assert all(b >= a for a, b in zip(first, second, strict=True))


def test_the_interval_is_restored_when_the_last_engine_rests():
    before = sys.getswitchinterval()
    with short_switches():
        assert sys.getswitchinterval() == pytest.approx(SWITCH)
        with short_switches():
            pass
        assert sys.getswitchinterval() == pytest.approx(SWITCH)
    assert sys.getswitchinterval() == before
