"""The engine that programs run on when nobody chose another."""

from __future__ import annotations

import threading

from .engine import Engine

_lock = threading.Lock()
_engine: Engine | None = None


def default_engine() -> Engine:
    """The shared engine on the embedded model; made at the first call."""
    global _engine
    with _lock:
        if _engine is None or _engine.closed:
            _engine = Engine()
        return _engine
