"""An event log as a Chrome trace, which https://ui.perfetto.dev opens.

The format is the "Trace Event Format" (JSON): a process for each run with a track for each state,
on it a slice for the state, in that one for each request, in that its phases; arrows from a fork
to its branches; and the engine as a process of its own, with its steps and counters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from .types import Event

ENGINE = 1
"""Process number of the engine; runs follow."""


def to_trace(events: Iterable[Event]) -> dict[str, Any]:
    """The trace of ``events``, which are in order; times in microseconds. What has not ended is
    drawn to the end of the log."""
    writer = _Writer()
    for event in events:
        writer.now = event.t
        handle = getattr(writer, event.kind, None)
        if handle is not None:
            handle(event)
    writer.close()
    return {"traceEvents": writer.out, "displayTimeUnit": "ms"}


_ESCAPED = re.compile("[\\\\\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]")
_SIGNS = {"\\": "⧵", "\n": "⏎", "\t": "⇥"}


def _plain(text: str) -> str:
    """``text`` without what JSON writes as an escape, but for quotes. Perfetto (52) shows escapes
    in names as they stand, and refuses a file with half a character, or with a backslash before
    the end of a string."""
    return _ESCAPED.sub(lambda m: _SIGNS.get(m[0]) or f"⟨U+{ord(m[0]):04X}⟩", text)


class _Track(NamedTuple):
    pid: int
    tid: int


class _Request:
    """A request that has not ended."""

    def __init__(self, event: Any, lanes: dict[int, str], lane: int, track: _Track):
        self.rid, self.lanes, self.lane, self.track = event.rid, lanes, lane, track
        self.name = event.name or event.purpose
        self.prompt_tokens = len(event.ids)
        self.began = event.t
        self.phases = [("waiting", event.t)]


class _Writer:
    """Folds events into ``out``. Each event kind that is drawn has a method of its name."""

    def __init__(self) -> None:
        self.out: list[dict[str, Any]] = []
        self.now = 0.0
        self._tracks = 0
        self._runs: dict[str, int] = {}
        self._states: dict[str, tuple[_Track, float, str]] = {}  # of those that are open
        self._homes: dict[str, _Track] = {}
        self._lanes: dict[str, dict[int, str]] = {}  # per state: lanes in use, by which request
        self._lane_tracks: dict[tuple[str, int], _Track] = {}
        self._requests: dict[str, _Request] = {}
        self._flows = 0
        self._process(ENGINE, "engine")
        self._steps = self._track(ENGINE, "steps")

    # -- runs and states -------------------------------------------------------------------

    def run_started(self, event: Any) -> None:
        self._run(event.run, event.title)

    def state_started(self, event: Any) -> None:
        track = self._home(event.state, event.run, event.label)
        self._states[event.state] = track, event.t, event.label or event.state

    def state_ended(self, event: Any) -> None:
        opened = self._states.pop(event.state, None)
        if opened is not None:
            track, began, name = opened
            self._slice(track, name, began, event.t, {"error": event.error} if event.error else {})

    def state_forked(self, event: Any) -> None:
        parent = self._home(event.parent, event.run)
        for child in event.children:
            self._flows += 1
            common = {"cat": "fork", "name": "fork", "id": self._flows, "ts": self._us(event.t)}
            track = self._home(child, event.run)
            self.out.append({"ph": "s", **common, **parent._asdict()})
            self.out.append({"ph": "f", "bp": "e", **common, **track._asdict()})

    def variable_set(self, event: Any) -> None:
        track = self._home(event.state, event.run)
        self._instant(track, f"{event.name} =", {"value": event.text[:200]})

    # -- requests --------------------------------------------------------------------------

    def request_arrived(self, event: Any) -> None:
        # Several requests of one state (choices, n texts) go side by side: a lane for each.
        lanes = self._lanes.setdefault(event.state, {})
        lane = next(n for n in range(len(lanes) + 1) if n not in lanes)
        lanes[lane] = event.rid
        track = self._lane(event.state, event.run, lane)
        self._requests[event.rid] = _Request(event, lanes, lane, track)

    def request_matched(self, event: Any) -> None:
        self._phase(event.rid, "prefill")

    def request_retracted(self, event: Any) -> None:
        request = self._phase(event.rid, "waiting")
        if request is not None:
            self._instant(request.track, "retracted", {})

    def tokens(self, event: Any) -> None:
        if event.how == "sampled":
            self._phase(event.rid, "decode")

    def request_finished(self, event: Any) -> None:
        request = self._requests.pop(event.rid, None)
        if request is None:
            return
        names = "prompt_tokens", "cached_tokens", "completion_tokens", "forced_tokens"
        told = {name: getattr(event, name) for name in names} | {"finish_reason": event.reason}
        self._end_request(request, told | ({"error": event.error} if event.error else {}))

    def _phase(self, rid: str, name: str) -> _Request | None:
        request = self._requests.get(rid)
        if request is not None and request.phases[-1][0] != name:
            request.phases.append((name, self.now))
        return request

    def _end_request(self, request: _Request, told: dict[str, Any]) -> None:
        request.lanes.pop(request.lane, None)
        self._slice(request.track, request.name, request.began, self.now, told)
        ends = [began for _, began in request.phases[1:]] + [self.now]
        for (name, began), end in zip(request.phases, ends, strict=True):
            self._slice(request.track, name, began, end, {})

    # -- the engine ------------------------------------------------------------------------

    def step(self, event: Any) -> None:
        told = {
            "prefill": len(event.prefill),
            "prefill_tokens": event.prefill_tokens,
            "decode": len(event.decode),
        }
        self._slice(self._steps, f"step {event.step}", event.t - event.seconds, event.t, told)
        running = {"prefill": len(event.prefill), "decode": len(event.decode)}
        self._counter("requests", {**running, "waiting": event.waiting})
        self._counter("KV slots in use", {"slots": event.used_slots})

    def preparing(self, event: Any) -> None:
        if event.seconds is not None:
            self._slice(self._steps, event.what, event.t - event.seconds, event.t, {})

    # -- what is written -------------------------------------------------------------------

    def close(self) -> None:
        """Draw what has not ended."""
        for request in self._requests.values():
            self._end_request(request, {"prompt_tokens": request.prompt_tokens})
        for track, began, name in self._states.values():
            self._slice(track, name, began, self.now, {})

    def _run(self, run: str, title: str = "") -> int:
        if run not in self._runs:
            self._runs[run] = ENGINE + 1 + len(self._runs)
            self._process(self._runs[run], title or run or "requests of no run")
        return self._runs[run]

    def _home(self, state: str, run: str, label: str = "") -> _Track:
        if state not in self._homes:
            self._homes[state] = self._track(self._run(run), label or state or "requests")
        return self._homes[state]

    def _lane(self, state: str, run: str, lane: int) -> _Track:
        home = self._home(state, run)
        if lane == 0:
            return home
        if (state, lane) not in self._lane_tracks:
            track = self._track(home.pid, f"{state} · {lane + 1}")
            self._lane_tracks[state, lane] = track
        return self._lane_tracks[state, lane]

    def _process(self, pid: int, name: str) -> None:
        told = {"name": _plain(name)}
        self.out.append({"ph": "M", "name": "process_name", "pid": pid, "args": told})

    def _track(self, pid: int, name: str) -> _Track:
        self._tracks += 1
        track = _Track(pid, self._tracks)
        for what, args in (
            ("thread_name", {"name": _plain(name)}),
            ("thread_sort_index", {"sort_index": track.tid}),
        ):
            self.out.append({"ph": "M", "name": what, **track._asdict(), "args": args})
        return track

    def _slice(
        self, track: _Track, name: str, began: float, ended: float, told: dict[str, Any]
    ) -> None:
        ts, end = self._us(began), self._us(ended)
        self._put(track, {"ph": "X", "name": name, "ts": ts, "dur": max(0, end - ts), "args": told})

    def _instant(self, track: _Track, name: str, told: dict[str, Any]) -> None:
        ts = self._us(self.now)
        self._put(track, {"ph": "i", "s": "t", "name": name, "ts": ts, "args": told})

    def _put(self, track: _Track, event: dict[str, Any]) -> None:
        told = {k: _plain(v) if isinstance(v, str) else v for k, v in event["args"].items()}
        self.out.append({**event, "name": _plain(event["name"]), "args": told, **track._asdict()})

    def _counter(self, name: str, values: dict[str, float]) -> None:
        ts = self._us(self.now)
        self.out.append({"ph": "C", "name": name, "pid": ENGINE, "ts": ts, "args": values})

    @staticmethod
    def _us(seconds: float) -> int:
        return max(0, round(seconds * 1e6))
