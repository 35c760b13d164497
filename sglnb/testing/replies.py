"""What a scripted backend answers: from a text, a table, a list or a function."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .scripted import ScriptedRequest


class Failure(NamedTuple):
    """A reply that breaks off: the text ``after`` comes, then the request fails with ``error``."""

    error: Exception
    after: str = ""


Reply = str | Exception | Failure
"""A text; an exception, which the request fails with (a ValueError is raised by ``submit``, as the
engine's for a wrong parameter); or both."""

Replies = Reply | Mapping[str | None, Any] | Sequence[Reply] | Callable[..., Reply]  # see replier()


def replier(replies: Replies) -> Callable[[ScriptedRequest], Reply]:
    """``replies`` as a function of the request. See :class:`ScriptedBackend` for the forms.

    Raises:
        TypeError: none of the forms.
    """
    if callable(replies):
        return _by_function(replies)
    if isinstance(replies, Mapping):
        return _by_name(replies)
    if isinstance(replies, (str, Exception, Failure)):
        return lambda request: replies
    if isinstance(replies, Sequence):
        return _in_order(replies)
    raise TypeError(
        "replies: must be a text, an exception, a dict by variable name, a list in order or a "
        f"function of the prompt, got {type(replies).__name__}"
    )


def _by_function(function: Callable[..., Reply]) -> Callable[[ScriptedRequest], Reply]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    if sum(p.kind in kinds for p in parameters) == 1:
        return lambda request: function(request.prompt)
    return lambda request: function(request.prompt, request)


def _by_name(table: Mapping[str | None, Any]) -> Callable[[ScriptedRequest], Reply]:
    each = {name: replier(replies) for name, replies in table.items()}

    def reply(request: ScriptedRequest) -> Reply:
        name = request.name or None
        if name not in each:
            known = ", ".join(map(repr, each)) or "none"
            raise ValueError(f"replies: there is none for gen({name!r}); there are: {known}")
        return each[name](request)

    return reply


def _in_order(replies: Sequence[Reply]) -> Callable[[ScriptedRequest], Reply]:
    left, lock = list(replies), threading.Lock()

    def reply(request: ScriptedRequest) -> Reply:
        with lock:
            if not left:
                raise ValueError(
                    f"replies: all {len(replies)} are used; gen({request.name or None!r}) gets none"
                )
            return left.pop(0)

    return reply


def fit(text: str, params: Mapping[str, Any], tokenizer: Any) -> tuple[str, dict[str, Any]]:
    """(``text`` as far as ``params`` let a model write it, the finish reason): cut at the first
    stop string or stop regex, then at ``max_new_tokens``.

    Raises:
        ValueError: the text is not of the form that ``params["regex"]`` demands.
    """
    stops = [re.escape(stop) for stop in _several(params.get("stop"))]
    stops += _several(params.get("stop_regex"))
    hits = [(m.start(), m.end()) for stop in stops if (m := re.search(stop, text))]
    reason: dict[str, Any] = {"type": "stop", "matched": None}
    if hits:
        start, end = min(hits)
        reason["matched"] = text[start:end]
        text = text[: end if params.get("no_stop_trim") else start]
    regex = params.get("regex")
    if regex is not None and not re.fullmatch(regex, text):
        raise ValueError(f"replies: {text!r:.80} does not match the gen's regex {regex!r}")
    limit = params.get("max_new_tokens", 128)
    ids = tokenizer.encode(text)
    if len(ids) > limit:
        return tokenizer.decode(ids[:limit]), {"type": "length", "length": limit}
    return text, reason


def _several(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())
