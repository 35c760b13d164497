"""What a view may ask its engine's cache: ``static/ask.js`` sends, this answers.

A question arrives on whatever thread the kernel chooses, which must not wait for the engine. So
each is answered on a short-lived thread, one at a time and in order, in a copy of the context
that made the view (ipykernel sends messages of a thread to the cell of its context).
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .saved import to_json

logger = logging.getLogger(__name__)

AROUND = 60
"""Characters of context shown before and behind a miss."""


class Answers:
    """Answers a view's questions.

    Args:
        cache: the engine's ``cache``; None when the view has none, and no question is answered.
        send: sends a custom message to the view.
        refresh: called before each answer: sends the view what the tree went through since.
    """

    def __init__(
        self, cache: Any, send: Callable[[dict[str, Any]], None], refresh: Callable[[], None]
    ):
        self._cache, self._send, self._refresh = cache, send, refresh
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._waiting: deque[dict[str, Any]] = deque()
        self._thread: threading.Thread | None = None

    def take(self, content: Any) -> bool:
        """Whether ``content`` is a question; it is answered soon. Returns at once."""
        if not isinstance(content, dict) or content.get("kind") not in ("ask", "hello"):
            return False
        with self._lock:
            self._waiting.append(content)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._context.copy().run, args=(self._work,), name="sglnb-answers",
                    daemon=True,
                )  # fmt: skip
                self._thread.start()
        return True

    def wait(self, timeout: float = 10.0) -> None:
        """Wait until all questions so far are answered."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                content = self._waiting.popleft()
            try:
                self._send(self._answer(content))
            except Exception:  # the view is gone, or its kernel's connection
                logger.exception("a view's question could not be answered")

    def _answer(self, content: dict[str, Any]) -> dict[str, Any]:
        if content["kind"] == "hello":
            return {"kind": "here"}
        try:
            question = QUESTIONS.get(content.get("what"))
            if question is None or self._cache is None:
                raise ValueError(f"this view cannot answer {content.get('what')!r}")
            args = content.get("args", {})
            if not isinstance(args.get("node", 0), int):  # a text would be one for the cache, too
                raise ValueError(f"node: must be a node's number, got {args['node']!r}")
            value, ok = question(self._cache, **args), True
        except Exception as error:  # whatever it is, the person who asked is told
            value, ok = str(error) or type(error).__name__, False
        self._refresh()
        return {"kind": "answer", "id": content.get("id"), "ok": ok, "json": to_json(value)}


def _node(cache: Any, node: int) -> dict[str, Any]:
    found = cache.node(node)
    return {key: found[key] for key in ("node", "text", "prompt", "requests", "pins", "above")}


def _why_miss(cache: Any, text: str) -> dict[str, Any]:
    match, miss = cache.match(text), cache.why_miss(text)
    return {
        **{key: getattr(miss, key) for key in ("tokens", "cached", "reason", "token", "instead")},
        "detail": miss.detail, "path": match.nodes, "before": match.text[-AROUND:],
    }  # fmt: skip


def _cost_of_edit(cache: Any, old: str, new: str) -> dict[str, Any]:
    cost = cache.cost_of_edit(old, new)
    return {
        "cached": cost.cached, "kept": cost.kept, "lost": cost.lost, "compute": cost.compute,
        "path": cache.match(old).nodes,
    }  # fmt: skip


def _pin(cache: Any, node: int) -> dict[str, str]:
    tokens = len(cache.node(node)["ids"]) + cache.node(node)["above"]
    cache.pin(node)
    return {"told": f"pinned: its {tokens:,} tokens stay until they are unpinned"}


def _unpin(cache: Any, node: int) -> dict[str, str]:
    handles = cache.node(node)["handles"]
    for handle in handles:
        cache.unpin(handle)
    return {"told": "unpinned" if handles else "no pin ends at this node"}


def _evict(cache: Any, node: int) -> dict[str, str]:
    freed = cache.evict(node)
    if not freed:
        return {"told": "nothing was evicted: it is in use or pinned"}
    kept = "; what is in use or pinned stays" if _there(cache, node) else ""
    return {"told": f"evicted: {freed:,} tokens are free again{kept}"}


def _there(cache: Any, node: int) -> bool:
    try:
        cache.node(node)
    except ValueError:
        return False
    return True


QUESTIONS: dict[Any, Callable[..., Any]] = {
    "node": _node,
    "why_miss": _why_miss,
    "cost_of_edit": _cost_of_edit,
    "pin": _pin,
    "unpin": _unpin,
    "evict": _evict,
}
