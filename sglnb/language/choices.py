"""How ``select`` decides: SGLang's three methods as pure functions of log-probabilities.

Formulas are those of SGLang's ``lang/choices.py`` (Apache-2.0). A scored token is
``(logprob, id, text)``; ``scored[i]`` are the tokens of choice ``i``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Scored = Sequence[Sequence[Any]]
"""Tokens of one choice: ``(logprob, id, text)`` each."""


@dataclass
class ChoicesDecision:
    """The winner, what was measured, and the score of every choice (higher is better)."""

    decision: str
    meta_info: dict[str, Any] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)


class ChoicesSamplingMethod(ABC):
    """A way to decide; one of your own can be given to ``select`` as ``choices_method``.

    Attributes:
        requires_unconditional_logprobs: whether the choices are scored without the text, too.
    """

    requires_unconditional_logprobs = False

    @abstractmethod
    def __call__(
        self,
        *,
        choices: list[str],
        normalized_prompt_logprobs: list[float],
        input_token_logprobs: list[Scored],
        output_token_logprobs: list[Scored],
        unconditional_token_logprobs: list[Scored] | None = None,
    ) -> ChoicesDecision:
        """The decision, from what was measured of each choice."""


class _Formula(ChoicesSamplingMethod):
    """One of SGLang's three methods."""

    name = ""

    def __call__(
        self,
        *,
        choices: list[str],
        normalized_prompt_logprobs: list[float],
        input_token_logprobs: list[Scored],
        output_token_logprobs: list[Scored],
        unconditional_token_logprobs: list[Scored] | None = None,
    ) -> ChoicesDecision:
        meta_info = {
            "normalized_prompt_logprobs": normalized_prompt_logprobs,
            "input_token_logprobs": input_token_logprobs,
            "output_token_logprobs": output_token_logprobs,
        }
        best, scores, extra = self._decide(
            normalized_prompt_logprobs, input_token_logprobs, unconditional_token_logprobs
        )
        return ChoicesDecision(choices[best], {**meta_info, **extra}, scores)

    @abstractmethod
    def _decide(
        self,
        normalized: list[float],
        scored: list[Scored],
        unconditional: list[Scored] | None,
    ) -> tuple[int, list[float], dict[str, Any]]:
        """Index of the winner, score per choice, additions to meta_info."""

    def __repr__(self) -> str:
        return self.name


class TokenLengthNormalized(_Formula):
    """The highest mean log-probability per token."""

    name = "token_length_normalized"

    def _decide(self, normalized, scored, unconditional):
        return argmax(normalized), list(normalized), {}


class GreedyTokenSelection(_Formula):
    """Token by token, keep the choices with the highest log-probability; a choice that has
    ended goes on with its own mean. Ties go to the first."""

    name = "greedy_token_selection"

    def _decide(self, normalized, scored, unconditional):
        matrix = logprob_matrix([[token[0] for token in tokens] for tokens in scored])
        remaining = list(range(len(matrix)))
        for column in range(len(matrix[0])):
            best = max(matrix[i][column] for i in remaining)
            remaining = [i for i in remaining if matrix[i][column] == best]
            if len(remaining) == 1:
                break
        return remaining[0], list(normalized), {"greedy_logprob_matrix": matrix}


class UnconditionalLikelihoodNormalized(_Formula):
    """The highest mean of ``logprob - logprob without the prompt``. The first token has no
    unconditional log-probability; 0 stands in for it, as in SGLang."""

    name = "unconditional_likelihood_normalized"
    requires_unconditional_logprobs = True

    def _decide(self, normalized, scored, unconditional):
        if unconditional is None:
            raise ValueError(f"{self.name}: unconditional_token_logprobs is missing")
        scores = [gain(a, b) for a, b in zip(scored, unconditional, strict=True)]
        extra = {
            "unconditional_token_logprobs": unconditional,
            "normalized_unconditional_prompt_logprobs": scores,
        }
        return argmax(scores), scores, extra


token_length_normalized = TokenLengthNormalized()
greedy_token_selection = GreedyTokenSelection()
unconditional_likelihood_normalized = UnconditionalLikelihoodNormalized()

METHODS: dict[str, _Formula] = {
    m.name: m
    for m in (
        token_length_normalized,
        greedy_token_selection,
        unconditional_likelihood_normalized,
    )
}


TRIE = "trie"
"""The ``choices_method`` of ``gen`` that scores nothing: the text is one of the choices."""


def mean_logprob(tokens: Scored) -> float:
    """Mean log-probability. A log-probability of 0.0 (a certain token) counts like any
    other; None (unknown) is left out.

    Raises:
        ValueError: no token has a log-probability.
    """
    values = [token[0] for token in tokens if token[0] is not None]
    if not values:
        raise ValueError("no token of the choice has a log-probability")
    return sum(values) / len(values)


def logprob_matrix(rows: list[list[float]]) -> list[list[float]]:
    """``rows`` made equally long, each padded with its own mean."""
    width = max(len(row) for row in rows)
    return [row + [sum(row) / len(row)] * (width - len(row)) for row in rows]


def gain(tokens: Scored, unconditional: Scored) -> float:
    """Mean over the tokens of ``logprob - unconditional logprob``."""
    if len(tokens) != len(unconditional):
        raise ValueError("a choice and its unconditional log-probabilities differ in length")
    pairs = [(a[0], b[0]) for a, b in zip(tokens, unconditional, strict=True)]
    pairs[0] = (pairs[0][0], pairs[0][1] or 0.0)
    return sum(a - b for a, b in pairs) / len(pairs)


def argmax(values: list[float]) -> int:
    """Index of the largest value; the first of equals."""
    return max(range(len(values)), key=values.__getitem__)
