"""A backend that answers from a script: exact timing, exact errors, no model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sglnb.errors import RequestAborted
from sglnb.events import EventLog


class CharTokenizer:
    """One token a character; ``merges`` are strings that are one token of their own."""

    has_chat_template = False

    def __init__(self, merges: tuple[str, ...] = ()):
        self.merges = merges
        self.pieces = _Pieces(merges)

    def encode(self, text: str) -> list[int]:
        ids = []
        while text:
            n, merge = next(
                ((n, m) for n, m in enumerate(self.merges) if text.startswith(m)), (None, text[0])
            )
            ids.append(ord(merge) if n is None else 1_000_000 + n)
            text = text[len(merge) :]
        return ids


class _Pieces:
    def __init__(self, merges: tuple[str, ...]):
        self._merges = merges

    def __getitem__(self, i: int) -> str:
        return self._merges[i - 1_000_000] if i >= 1_000_000 else chr(i)


class ScriptedRequest:
    """What ``submit`` returns."""

    def __init__(self, backend: ScriptedBackend, call: SimpleNamespace):
        self.backend = backend
        self.call = call
        self.rid = f"q{len(backend.calls)}"
        self.text = ""
        self.done = False
        self.error: Exception | None = None
        self.aborted = False
        self.meta_info: dict[str, Any] = {"id": self.rid, "finish_reason": None}
        self.lock = threading.Lock()

    def abort(self) -> None:
        self.aborted = True
        self.finish(RequestAborted("the request was aborted"))

    def finish(self, error: Exception | None = None, reason: str = "stop") -> None:
        with self.lock:
            if self.done:
                return
            self.error = error
            kind = "abort" if isinstance(error, RequestAborted) else reason
            self.meta_info["finish_reason"] = {"type": kind}
            self.done = True
        self.tell()

    def tell(self) -> None:
        if self.call.on_update is not None:
            self.call.on_update(self)

    def say(self, text: str) -> None:
        """More text, one piece."""
        if not self.done:
            self.text += text
            self.tell()


class ScriptedBackend:
    """Args:
    reply: text (or exception) for a generation, from its prompt and its call.
    mode: "inline" completes inside submit; "thread" on a thread, in pieces, after
        ``delay(call)`` seconds; "manual" when the test says so (see :attr:`held`).
    score: log-probability of each prompt token id, for ``select``.
    """

    model_name = "scripted"

    def __init__(
        self,
        reply: Callable[[str, SimpleNamespace], Any] = lambda prompt, call: "ok",
        mode: str = "inline",
        delay: Callable[[SimpleNamespace], float] = lambda call: 0.0,
        score: Callable[[int], float] = lambda i: -1.0,
        tokenizer: Any = None,
    ):
        self.reply, self.mode, self.delay, self.score = reply, mode, delay, score
        self.tokenizer = tokenizer or CharTokenizer()
        self.events = EventLog()
        self.calls: list[SimpleNamespace] = []
        self.held: list[ScriptedRequest] = []
        self.requests: list[ScriptedRequest] = []

    def submit(self, prompt, params, **options) -> ScriptedRequest:
        options.setdefault("on_update", None)
        call = SimpleNamespace(prompt=prompt, params=params, **options)
        self.calls.append(call)
        request = ScriptedRequest(self, call)
        self.requests.append(request)
        if params.get("max_new_tokens") == 0:
            self._score(request)
            return request
        answer = self.reply(prompt, call)
        if isinstance(answer, ValueError):
            raise answer
        if self.mode == "inline":
            self._answer(request, answer)
        elif self.mode == "manual":
            request.answer = answer
            self.held.append(request)
        else:
            threading.Thread(target=self._answer_later, args=(request, answer), daemon=True).start()
        return request

    def release(self, n: int = 1) -> None:
        """Complete the ``n`` oldest held requests."""
        for _ in range(n):
            request = self.held.pop(0)
            self._answer(request, request.answer)

    def _answer(self, request: ScriptedRequest, answer: Any) -> None:
        if isinstance(answer, Exception):
            request.finish(answer)
            return
        request.text = answer
        request.finish()

    def _answer_later(self, request: ScriptedRequest, answer: Any) -> None:
        time.sleep(self.delay(request.call))
        if isinstance(answer, Exception):
            request.say("par")
            request.finish(answer)
            return
        for i in range(0, len(answer), 2):
            request.say(answer[i : i + 2])
        request.finish()

    def _score(self, request: ScriptedRequest) -> None:
        call = request.call
        start = getattr(call, "logprob_start_len", None)
        if start is not None:
            request.meta_info["input_token_logprobs"] = [
                (self.score(i) if start + n else None, i, None)
                for n, i in enumerate(call.prompt[start:])
            ]
        request.finish(reason="length")

    def abort(self, rid: str | None = None, run: str | None = None) -> None:
        for request in list(self.requests):
            if (rid is None or request.rid == rid) and (run is None or request.call.run == run):
                request.abort()

    # -- what tests ask ------------------------------------------------------------------

    def of(self, purpose: str) -> list[SimpleNamespace]:
        """The calls made for a purpose."""
        return [call for call in self.calls if call.purpose == purpose]

    def kinds(self) -> list[str]:
        """The event kinds in order."""
        return [event.kind for event in self.events]
