"""The LoRA adapters of one engine, by name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .lora import LoraWeights, read_lora
from .lora_batch import Adapter


class LoraRegistry:
    """Loads and names adapters. May be called from any thread.

    A request holds the adapter that it began with: an adapter that is unloaded, and even loaded
    anew with other weights, changes nothing for requests in progress.

    Args:
        prepare: makes an adapter's weights ready for the engine's model.
    """

    def __init__(self, prepare: Callable[[str, LoraWeights], Adapter]):
        self._prepare = prepare
        self._lock = threading.Lock()
        self._adapters: dict[str, Adapter] = {}
        self._paths: dict[str, str] = {}

    def load(self, name: str, path: str | Path) -> None:
        """See :meth:`sglnb.runtime.engine.Engine.load_lora_adapter`."""
        if not isinstance(name, str) or not name:
            raise ValueError(f"lora_name: must be a non-empty string, got {name!r}")
        self._check_new(name)
        adapter = self._prepare(name, read_lora(path))
        with self._lock:
            self._check_new(name)
            self._adapters[name] = adapter
            self._paths[name] = str(path)

    def _check_new(self, name: str) -> None:
        if name in self._adapters:
            raise ValueError(f"lora_name: {name!r} is loaded already; unload it first")

    def unload(self, name: str) -> None:
        """See :meth:`sglnb.runtime.engine.Engine.unload_lora_adapter`."""
        with self._lock:
            if name not in self._adapters:
                raise ValueError(f"lora_name: {self._unknown(name)}")
            del self._adapters[name], self._paths[name]

    def get(self, name: str | None) -> Adapter | None:
        """The adapter of that name; None for None, the model as it is.

        Raises:
            ValueError: there is none.
        """
        if name is None:
            return None
        with self._lock:
            if name not in self._adapters:
                raise ValueError(f"lora: {self._unknown(name)}")
            return self._adapters[name]

    def table(self) -> dict[str, dict[str, Any]]:
        """See :meth:`sglnb.runtime.engine.Engine.lora_adapters`."""
        with self._lock:
            return {
                name: {
                    "path": self._paths[name],
                    "rank": adapter.rank,
                    "bytes": adapter.nbytes,
                    "extra_key": adapter.extra_key,
                }
                for name, adapter in self._adapters.items()
            }

    def _unknown(self, name: str) -> str:
        known = ", ".join(map(repr, self._adapters)) or "none"
        return f"no adapter {name!r} is loaded (loaded: {known}); load it with load_lora_adapter"
