"""The engines of this kernel: those that were loaded by name, and all that are open."""

from __future__ import annotations

import threading
from pathlib import Path

from ..language.backend import default_as_given
from ..runtime import Engine, open_engines

_named: dict[str, Engine] = {}
_lock = threading.Lock()


def named_engine(model: str) -> Engine:
    """The engine of ``model`` (a hub name or a folder); loaded once, whoever asks.

    Raises:
        ValueError: it is no model that can be loaded. OSError: it cannot be read.
    """
    path = Path(model).expanduser()
    key = str(path.resolve()) if path.exists() else model
    with _lock:
        engine = _named.get(key)
        if engine is None or engine.closed:
            engine = _named[key] = Engine(model=str(path) if path.exists() else model)
        return engine


def engine_labels() -> dict[str, Engine]:
    """The open engines, oldest first, by what to call them: the model, numbered where several
    run the same, and whether programs run on it by default."""
    engines, default = open_engines(), default_as_given()
    names = [engine.model_name for engine in engines]
    out = {}
    for at, (name, engine) in enumerate(zip(names, engines, strict=True)):
        number = f" ({names[: at + 1].count(name)})" if names.count(name) > 1 else ""
        mark = " · default" if engine is default else ""
        out[f"{name}{number}{mark}"] = engine
    return out
