"""The measurements behind ``select``: how likely the model finds each choice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from .choices import ChoicesDecision, mean_logprob
from .ir import SglSelect


class Scoring:
    """Scores the choices of one ``select`` on one text.

    A choice may merge with the end of the text when it is tokenized ("healing"). So that all
    choices are scored on the same text, the scored tokens of each begin where the first of
    them departs from the text's own tokens.

    Args:
        text: the text before the choices.
        encode: the ids of a text that begins with ``text``, images included.
        decided: called once, when the last request is done or the first has failed.

    Raises:
        ValueError: there is no text before the choices and no token left to score.
    """

    def __init__(
        self,
        expr: SglSelect,
        text: str,
        tokenizer: Any,
        decided: Callable[[Scoring], None],
        encode: Callable[[str], list[int]],
    ):
        self._expr = expr
        self._pieces = tokenizer.pieces
        self._decided = decided
        self._lock = threading.Lock()
        self._told = False
        self.problem: Exception | None = None
        """What went wrong with a request."""
        prefix = encode(text) if text else []
        self._ids = [encode(text + choice) for choice in expr.choices]
        common = min(common_length(prefix, ids) for ids in self._ids)
        self.start = max(common, 1)
        """First scored token; the very first of a text has no probability."""
        if any(len(ids) <= self.start for ids in self._ids):
            raise ValueError(
                "choices: nothing to score them on; append some text before the select"
            )
        self._infos: list[dict[str, Any] | None] = [None] * len(self._ids)
        twice = expr.choices_method.requires_unconditional_logprobs
        self._bare: list[dict[str, Any] | None] = [None] * len(self._ids) if twice else []

    def jobs(self) -> Iterator[tuple[list[int], int, Callable[[Any], None]]]:
        """The requests to send: (prompt ids, first scored token, on_update). The first scored
        token is 0 where the choice stands alone, without the text."""
        for i, ids in enumerate(self._ids):
            yield ids, self.start, partial(self._on_update, self._infos, i)
        for i in range(len(self._bare)):
            yield self._ids[i][self.start :], 0, partial(self._on_update, self._bare, i)

    def _on_update(self, into: list[dict[str, Any] | None], i: int, request: Any) -> None:
        if not request.done:
            return
        with self._lock:
            into[i] = request.meta_info
            self.problem = self.problem or request.error
            complete = None not in self._infos and None not in self._bare
            tell = not self._told and (complete or self.problem is not None)
            self._told = self._told or tell
        if tell:
            self._decided(self)

    def decide(self) -> ChoicesDecision:
        """The decision, with SGLang's meta_info and the requests' token counts."""
        scored = [self._named(info["input_token_logprobs"]) for info in self._infos]
        bare = [self._named(info["input_token_logprobs"]) for info in self._bare] or None
        decision = self._expr.choices_method(
            choices=self._expr.choices,
            normalized_prompt_logprobs=[mean_logprob(tokens) for tokens in scored],
            input_token_logprobs=scored,
            output_token_logprobs=[
                self._named(info.get("output_token_logprobs") or []) for info in self._infos
            ],
            unconditional_token_logprobs=bare,
        )
        for key in ("prompt_tokens", "cached_tokens"):
            counts = [info.get(key, 0) for info in (*self._infos, *self._bare)]
            decision.meta_info[key] = sum(counts)
        return decision

    def _named(self, tokens: list[Any]) -> list[tuple[float | None, int, str]]:
        """``(logprob, id, text)``, with the text that the engine leaves out."""
        return [(logprob, i, text or self._pieces[i]) for logprob, i, text in tokens]


def common_length(a: list[int], b: list[int]) -> int:
    """How many leading tokens two lists share."""
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n
