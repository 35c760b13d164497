"""The event log: a bounded ring that anyone may read and any thread may write."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from .perfetto import to_trace
from .types import Event


class EventLog:
    """Keeps the newest ``capacity`` events.

    Emitting is one lock and one append; nothing is rendered or copied until someone looks.

    Args:
        capacity: events kept; older ones fall off. Their count is :attr:`dropped`.
        clock: seconds; the log's time starts at 0.
    """

    def __init__(self, capacity: int = 200_000, clock: Callable[[], float] = time.monotonic):
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._ring: deque[Event] = deque(maxlen=capacity)
        self._subscriptions: tuple[Subscription, ...] = ()
        self._lock = threading.Lock()
        self._next_seq = 0
        self._clock = clock
        self._t0 = clock()

    def emit(self, event: Event) -> None:
        """Number and time-stamp ``event`` and keep it. Cheap and thread-safe."""
        with self._lock:
            event.seq = seq = self._next_seq
            event.t = self._clock() - self._t0
            self._next_seq = seq + 1
            self._ring.append(event)
            for subscription in self._subscriptions:
                subscription._queue.append(event)

    def now(self) -> float:
        """Seconds on the clock of :attr:`Event.t`."""
        return self._clock() - self._t0

    @property
    def next_seq(self) -> int:
        """The number that the next event will get."""
        return self._next_seq

    @property
    def dropped(self) -> int:
        """Events that have fallen off the ring."""
        return self._next_seq - len(self._ring)

    def since(self, seq: int = 0) -> list[Event]:
        """Events numbered ``seq`` and up that are still kept, in order."""
        with self._lock:
            first = self._next_seq - len(self._ring)
            skip = max(0, seq - first)
            return list(self._ring)[skip:]

    def to_perfetto(self, path: str | Path) -> Path:
        """Write what is kept as a trace that https://ui.perfetto.dev opens (a "Chrome trace").
        It holds the names of programs and variables and the beginnings of their values.

        Returns:
            The file.
        """
        file = Path(path)
        # UTF-8, because Perfetto shows an escape in a track's name as it stands.
        file.write_text(json.dumps(to_trace(self.since()), ensure_ascii=False), encoding="utf-8")
        return file

    def subscribe(self, wanted: Callable[[Event], bool] | None = None) -> Subscription:
        """A queue that from now on receives each event for which ``wanted`` is true."""
        subscription = Subscription(self, wanted)
        with self._lock:
            self._subscriptions += (subscription,)
        return subscription

    def _drop(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)

    def __len__(self) -> int:
        return len(self._ring)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.since(0))

    def __repr__(self) -> str:
        return f"EventLog({len(self)} events, {self.dropped} dropped)"


class Subscription:
    """A live queue of events. Closing it (or leaving its ``with`` block) ends it."""

    def __init__(self, log: EventLog, wanted: Callable[[Event], bool] | None):
        self._log = log
        self._wanted = wanted
        self._queue: deque[Event] = deque()

    def drain(self) -> list[Event]:
        """The events that arrived since the last call, oldest first."""
        queue, out = self._queue, []
        while queue:
            event = queue.popleft()
            if self._wanted is None or self._wanted(event):
                out.append(event)
        return out

    def close(self) -> None:
        """Receive nothing more. What has arrived can still be drained."""
        self._log._drop(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exc) -> None:
        self.close()
