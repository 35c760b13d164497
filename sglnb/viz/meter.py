"""The live numbers of a dashboard: what is shown, and whether anyone sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anywidget

from .assets import css, meter_esm, packed
from .base import hear_while_busy


class Rates:
    """Turns an engine's counters into what a meter shows: tokens a second since the last look."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._last: tuple[float, int] | None = None

    def __call__(self, status: dict[str, Any]) -> dict[str, Any]:
        shown = {key: status[key] for key in ("model", "state", "device", "dtype")}
        if "preparing" in status:
            return {**shown, "state": f"getting ready: {status['preparing']}"}
        if "tokens_so_far" not in status:
            return shown
        now, made = self._clock(), status["tokens_so_far"]
        rate = 0.0
        if self._last is not None and now > self._last[0]:
            rate = (made - self._last[1]) / (now - self._last[0])
        self._last = now, made
        names = ("running", "waiting", "tokens_so_far", "prompt_tokens", "cached_tokens",
                 "cache_hit_rate", "kv_tokens", "kv_used", "kv_cached", "kv_locked")  # fmt: skip
        return {**shown, **{name: status[name] for name in names}, "rate": round(rate, 1)}


class Meter(anywidget.AnyWidget):
    """Numbers that change: :meth:`tell` sends them. ``in_sight`` is whether the browser shows
    them; a new meter counts as seen, because a busy kernel hears of it late."""

    _esm = packed(meter_esm())
    _css = css()

    def __init__(self) -> None:
        super().__init__()
        self.in_sight = True
        self._told: dict[str, Any] | None = None
        self.on_msg(self._on_custom)
        hear_while_busy(self)

    def tell(self, numbers: dict[str, Any]) -> None:
        """Show ``numbers``; what is shown already is not sent again."""
        if numbers != self._told:
            self._told = numbers
            self.send({"kind": "numbers", "numbers": numbers})

    def _on_custom(self, widget: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and content.get("kind") == "sight":
            self.in_sight = bool(content.get("seen"))
            if self.in_sight:
                self._told = None  # a new or returning page knows nothing

    def __repr__(self) -> str:
        return "live numbers (they need their kernel)"
