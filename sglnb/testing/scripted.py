"""The scripted backend: it takes requests as the engine does and answers from a script."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import RequestAborted
from ..events import EventLog
from .clock import Clock
from .replies import Failure, Replies, Reply, fit, replier
from .tokenizers import WORD, WordTokenizer

MODES = ("inline", "thread", "manual", "instant")


class ScriptedRequest:
    """A request and its answer.

    Attributes:
        prompt, params, run, state, name, purpose, options: what ``submit`` was given.
        answer: the reply; in manual mode it can be changed until it is released.
        aborted: whether somebody wanted it stopped.
        text, done, error, meta_info: as those of the engine's requests.
    """

    def __init__(
        self,
        backend: ScriptedBackend,
        rid: str,
        prompt: str | list[int],
        params: dict[str, Any],
        *,
        run: str = "",
        state: str = "",
        name: str = "",
        purpose: str = "gen",
        on_update: Callable[[ScriptedRequest], None] | None = None,
        **options: Any,
    ):
        self.rid, self.prompt, self.params = rid, prompt, params
        self.run, self.state, self.name, self.purpose = run, state, name, purpose
        self.options = options
        self.answer: Reply = ""
        self.text = ""
        self.done = self.aborted = False
        self.error: Exception | None = None
        self._on_update = on_update
        self._backend = backend
        self._lock = threading.Lock()
        self._reason: dict[str, Any] | None = None
        self._began, self._seconds = time.monotonic(), 0.0

    def abort(self) -> None:
        """Stop; the text so far is kept."""
        self.aborted = True
        self.finish({"type": "abort"}, RequestAborted("the request was aborted"))

    def say(self, text: str) -> None:
        """One more piece of text."""
        if not self.done:
            self.text += text
            self._tell()

    def finish(self, reason: dict[str, Any] | None = None, error: Exception | None = None) -> None:
        """The end, once."""
        with self._lock:
            if self.done:
                return
            self.error, self._reason = error, reason or {"type": "stop", "matched": None}
            self._seconds = time.monotonic() - self._began
            self.done = True
        self._tell()

    def _tell(self) -> None:
        if self._on_update is not None:
            self._on_update(self)

    @property
    def meta_info(self) -> dict[str, Any]:
        """The engine's: counts in the backend's tokens, log-probabilities if asked for."""
        encode, score = self._backend.tokenizer.encode, self._backend.score_of(self)
        prompt = encode(self.prompt) if isinstance(self.prompt, str) else self.prompt
        output = encode(self.text)
        seconds = self._seconds or time.monotonic() - self._began
        info: dict[str, Any] = {
            "id": self.rid,
            "finish_reason": self._reason,
            "prompt_tokens": len(prompt),
            "completion_tokens": len(output),
            "cached_tokens": 0,
            "forced_tokens": 0,
            "e2e_latency": seconds,
            "seconds": seconds,
        }
        if self.options.get("return_logprob"):
            start = self.options.get("logprob_start_len")
            start = len(prompt) if start in (None, -1) else start
            info["input_token_logprobs"] = [
                (score(i) if start + n else None, i, None) for n, i in enumerate(prompt[start:])
            ]
            info["output_token_logprobs"] = [(score(i), i, None) for i in output]
        return info

    def __repr__(self) -> str:
        how = "done" if self.done else "waiting"
        return f"ScriptedRequest({self.rid}, {self.purpose} {self.name!r}, {how})"


class ScriptedBackend:
    """Answers requests from a script; everything else in a program is the real thing.

    Stop strings, ``stop_regex`` and ``max_new_tokens`` cut a reply as they would a model's text. A
    reply that the ``regex`` or ``dtype`` of its gen forbids is a mistake in the script, and told.

    Args:
        replies: a text for every generation; a dict by variable name (None: unnamed ones), with a
            text, a list of texts for one after another, or a function; a list in the order of the
            requests; or a function of the prompt, or of the prompt and the
            :class:`ScriptedRequest`. In place of a text an exception makes the request fail (a
            ValueError at once, as a parameter that is out of range), and :class:`Failure` makes it
            fail after some text. For a ``select`` a dict says which choice is the likeliest (or an
            exception).
        mode: when requests end. "inline": before ``submit`` returns. "thread": later, on one
            thread, word by word. "manual": when :meth:`release` says so. "instant": inline, with
            nothing counted, cut or recorded, for measuring what the language itself costs.
        delay: in mode "thread", seconds before the first word; a number or a function of the
            request.
        pace: in mode "thread", seconds between words.
        score: log-probability of a token id, for ``select`` and ``return_logprob``.
        tokenizer: what cuts and counts; a :class:`WordTokenizer` by default, an
            ``sglnb.Tokenizer`` brings its chat template with it.

    Attributes:
        calls: every :class:`ScriptedRequest`, in order.
        held: in mode "manual", those that wait for :meth:`release`.
    """

    model_name = "scripted"
    image_text = "<image>"

    def __init__(
        self,
        replies: Replies = "ok",
        mode: str = "inline",
        *,
        delay: float | Callable[[ScriptedRequest], float] = 0.0,
        pace: float = 0.0,
        score: Callable[[int], float] | None = None,
        tokenizer: Any = None,
    ):
        if mode not in MODES:
            raise ValueError(f"mode: must be one of {', '.join(MODES)}, got {mode!r}")
        self._reply = replier(replies)
        if mode == "instant":  # a call less: this mode is what the language's cost is timed with
            self.submit = partial(_Instant, self._reply)
        self._table = replies if isinstance(replies, dict) else {}
        self.mode, self.pace = mode, pace
        self.delay = delay if callable(delay) else lambda request: delay
        self._score = score
        self.tokenizer = tokenizer or WordTokenizer()
        self.events = EventLog()
        self.calls: list[ScriptedRequest] = []
        self.held: list[ScriptedRequest] = []
        self._numbers = itertools.count(1)
        self._clock = Clock()
        self._came = threading.Condition()

    def submit(
        self, prompt: str | list[int], params: dict[str, Any], **options: Any
    ) -> ScriptedRequest:
        """Take a request, as ``Engine.submit``.

        Raises:
            ValueError: the script has no reply for it, one that does not fit, or this error.
        """
        request = ScriptedRequest(self, f"q{next(self._numbers)}", prompt, params, **options)
        self.calls.append(request)
        if params.get("max_new_tokens") == 0:
            problem = self._table.get(request.name) if request.purpose == "select" else None
            request.finish(
                {"type": "length", "length": 0},
                problem if isinstance(problem, Exception) else None,
            )
            return request
        answer = request.answer = self._reply(request)
        if isinstance(answer, ValueError):
            raise answer
        if self.mode != "manual":  # there the test may say something else
            fit(text_of(answer), params, self.tokenizer)  # a reply that does not fit is told here
        if self.mode == "inline":
            self._answer(request)
        elif self.mode == "thread":
            self._clock.after(self.delay(request), lambda: self._answer(request))
        else:
            with self._came:
                self.held.append(request)
                self._came.notify_all()
        return request

    def wait(self, n: int = 1, timeout: float = 5.0) -> None:
        """In mode "manual": wait until ``n`` requests are held.

        Raises:
            TimeoutError: fewer came in ``timeout`` seconds.
        """
        with self._came:
            if not self._came.wait_for(lambda: len(self.held) >= n, timeout):
                raise TimeoutError(f"{len(self.held)} of {n} requests came in {timeout} s")

    def release(self, n: int = 1) -> None:
        """In mode "manual": answer the ``n`` oldest held requests, on the caller's thread."""
        for _ in range(n):
            with self._came:
                request = self.held.pop(0)
            request.text = ""
            self._answer(request)

    def abort(self, rid: str | None = None, run: str | None = None) -> None:
        """Abort one request, those of a run, or all."""
        for request in list(self.calls):
            if (rid is None or request.rid == rid) and (run is None or request.run == run):
                request.abort()

    def flush_cache(self) -> None:
        """There is no cache."""

    def get_server_info(self) -> dict[str, Any]:
        """What this backend is."""
        return {"model": self.model_name, "mode": self.mode, "requests": len(self.calls)}

    def prompt_ids(self, prompt: str | list[int], image_data: Any = None) -> list[int]:
        """The tokens of a prompt; an image's placeholder is text like any other."""
        return self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)

    # -- what tests ask ----------------------------------------------------------------------

    def of(self, purpose: str) -> list[ScriptedRequest]:
        """The calls made for a purpose: "gen", "select" or "prefill" (a fork's hint)."""
        return [call for call in self.calls if call.purpose == purpose]

    def kinds(self) -> list[str]:
        """The kinds of the events so far, in order."""
        return [event.kind for event in self.events]

    # -- inside ------------------------------------------------------------------------------

    def _answer(self, request: ScriptedRequest) -> None:
        answer = request.answer
        text, reason = fit(text_of(answer), request.params, self.tokenizer)
        error = answer.error if isinstance(answer, Failure) else answer
        ending = (None, error) if isinstance(error, Exception) else (reason, None)
        if self.mode != "thread":
            if text:
                request.text = text
            request.finish(*ending)
            return
        words = iter(WORD.findall(text))

        def go_on() -> None:
            for word in words:
                request.say(word)
                if self.pace and not request.done:
                    self._clock.after(self.pace, go_on)
                    return
            request.finish(*ending)

        go_on()

    def score_of(self, request: ScriptedRequest) -> Callable[[int], float]:
        """The log-probability of each token of a request, by id."""
        if self._score is not None:
            return self._score
        wanted = self._table.get(request.name) if request.purpose == "select" else None
        if not isinstance(wanted, str):
            return lambda i: -1.0
        # Its tokens from the first scored one on are the choice, or the choice and the end of the
        # text that it merged with.
        start = request.options.get("logprob_start_len") or 0
        tail = self.tokenizer.decode(request.prompt[start:])
        fits = -0.1 if tail == wanted else -2.0 if tail.endswith(wanted) else -9.0
        return lambda i: fits if start else -9.0


class _Instant:
    """A request that is done before anybody looks."""

    __slots__ = ("done", "error", "meta_info", "name", "params", "prompt", "text")

    def __init__(
        self,
        reply: Any,
        prompt: Any,
        params: dict[str, Any],
        *,
        name: str = "",
        on_update: Callable[[Any], None] | None = None,
        **options: Any,
    ):
        self.prompt, self.params, self.name = prompt, params, name
        self.done, self.error, self.meta_info = True, None, {}
        self.text = "" if params.get("max_new_tokens") == 0 else reply(self)
        if on_update is not None:
            on_update(self)

    def abort(self) -> None:
        """Too late."""


def text_of(reply: Reply) -> str:
    """The text of a reply, "" of an exception."""
    if isinstance(reply, Failure):
        return reply.after
    return reply if isinstance(reply, str) else ""
