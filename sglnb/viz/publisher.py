"""Carries a run's events from the log to a view: one thread, few messages.

Writers only append to the log. Some times a second this thread takes what has come and sends it as
one message; more seldom it saves a bounded copy of the whole log, which is what a reloaded page or
a saved notebook starts from. What it does it does in the place of the engine, which shares
the interpreter with it: the dearer its rounds are, the fewer it makes.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from sglnb.events import Event, EventLog

from .runlog import RunFilter, base_snapshot
from .saved import DROPPABLE, Entry, SavedLog
from .tree_feed import tree_since
from .wire import Encoder

logger = logging.getLogger(__name__)

QUICK, SLOW = 1 / 15, 1 / 6
"""Least and most seconds between two messages."""
SHARE = 0.005
"""Of the time that passes, so much may go into messages; between them is the time for it."""
CHUNK = 2500
"""Most events in one message; :data:`SLOW` of them are still 15,000 a second."""
MAX_EVENTS = 20_000
"""After this many, tokens and tree events are only counted: a browser keeps them all."""
LINGER = 0.5
"""Seconds that the thread stays after the run's end, for the tree's last changes."""


class Publisher:
    """Sends the events of ``run`` to ``send`` (dicts with JSON text) and copies to ``save``.

    Both are called on the publisher's thread only, which runs in a copy of the context that
    made it, so that what they print or send belongs to that cell.
    """

    def __init__(
        self,
        log: EventLog,
        run: str,
        send: Callable[[dict[str, Any]], None],
        save: Callable[[str], None],
    ):
        self._log, self._send, self._save = log, send, save
        self._filter = RunFilter(run)
        self._encode = Encoder()
        self._saved = SavedLog()
        self._stop = threading.Event()
        self._sent = 0
        self._omitted = 0
        self._last_seq = -2  # a snapshot of the past may be numbered -1
        self._ended_at: float | None = None
        self._saved_at = 0.0
        self._unsaved = False
        # Subscribe before reading the past: what comes between is seen twice, not never.
        self._subscription = log.subscribe()
        past = log.since(0)
        own = next((i for i, event in enumerate(past) if self._filter.is_own(event)), len(past))
        self._pending: list[Event] = [base_snapshot(past[:own]), *filter(self._filter, past[own:])]
        self._seen = past[-1].seq if past else -1
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._loop,), name=f"sglnb-view-{run}", daemon=True
        )
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the thread still publishes."""
        return self._thread.is_alive()

    def finish(self, timeout: float = 5.0) -> None:
        """Send and save what is left and end the thread. Calling it again does nothing."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def catch_up(self) -> None:
        """After the end: send what the tree went through since. The caller's thread does the
        sending, so call it from one at a time; while the publisher runs it does nothing."""
        if self.running:
            return
        self._pending += tree_since(self._log, self._last_seq)
        while self._pending:
            self._flush()
        self._snapshot(final=True)

    def _loop(self) -> None:
        try:
            pause = QUICK
            while not self._stop.wait(pause) and not self._over():
                began = time.thread_time()
                self._take()
                self._flush()
                wanted = (time.thread_time() - began) / SHARE
                pause += (min(max(wanted, QUICK), SLOW) - pause) / 4
                self._snapshot()
            self._subscription.close()
            self._take()
            while self._pending:
                self._flush()
                if self._pending:
                    time.sleep(QUICK)
            self._snapshot(final=True)
        except Exception:
            logger.exception("the view of run %r stopped", self._filter.run)
            self._subscription.close()

    def _over(self) -> bool:
        return self._ended_at is not None and time.monotonic() - self._ended_at > LINGER

    def _take(self) -> None:
        for event in self._subscription.drain():
            if event.seq > self._seen and self._filter(event):
                self._pending.append(event)

    def _flush(self) -> None:
        """Send one message with at most CHUNK of the waiting events."""
        events, self._pending = self._pending[:CHUNK], self._pending[CHUNK:]
        if not events:
            return
        if any(event.kind == "run_ended" for event in events):
            self._ended_at = time.monotonic()
        kept = [event for event in events if self._counts(event)]
        entries = [Entry(wire) for wire in self._encode.together(kept)]
        texts = ",".join(entry.text for entry in entries)
        self._saved.omitted += len(events) - len(kept)
        self._saved.add(events, entries)
        self._unsaved = True
        message: dict[str, Any] = {
            "kind": "events", "after": self._last_seq, "json": f"[{texts}]"
        }  # fmt: skip
        if self._omitted:
            message["omitted"] = self._omitted
            header = self._saved.header
            message["header"] = {key: header[key] for key in header if key != "counts"}
        self._last_seq = events[-1].seq
        self._send(message)

    def _counts(self, event: Event) -> bool:
        """Whether ``event`` is still sent and not only counted."""
        if self._sent >= MAX_EVENTS and event.kind in DROPPABLE:
            self._omitted += 1
            return False
        self._sent += 1
        return True

    def _snapshot(self, final: bool = False) -> None:
        """Save the bounded copy: each second while small, more seldom when large."""
        every = max(1.0, self._saved.size / 40_000)
        now = time.monotonic()
        if self._unsaved and (final or now - self._saved_at >= every):
            self._saved_at, self._unsaved = now, False
            self._save(self._saved.text())
