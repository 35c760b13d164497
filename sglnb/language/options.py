"""The sampling options that a program is called with, beside its own arguments."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .sampling import SUBMIT_OPTIONS, check, given

OPTIONS = (
    "max_new_tokens",
    "min_new_tokens",
    "n",
    "stop",
    "stop_token_ids",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "custom_logit_processor",
    "seed",
    "stop_regex",
    "no_stop_trim",
    "ignore_eos",
    "skip_special_tokens",
    "on_budget",
    "jump_forward",
    "retokenize",
    *SUBMIT_OPTIONS,
)
"""Sampling options of ``run()`` and ``run_batch()``: the base for every ``gen``."""

_OPTION_NAMES = frozenset(OPTIONS)


def split_options(
    kwargs: dict[str, Any], taken: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the function's arguments, the sampling options) of ``kwargs``.

    Args:
        taken: parameters of the function, which take a keyword for themselves.

    Raises:
        ValueError: an option is out of range.
    """
    if _OPTION_NAMES.isdisjoint(kwargs):
        return kwargs, {}
    mine = _OPTION_NAMES.difference(taken)
    options = given(**{k: v for k, v in kwargs.items() if k in mine})
    check(options)
    return {k: v for k, v in kwargs.items() if k not in mine}, options


def batch_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The sampling options of a batch, whose arguments are in its rows.

    Raises:
        TypeError: there is no such option. ValueError: one is out of range.
    """
    rest, options = split_options(kwargs, ())
    if rest:
        raise TypeError(
            f"run_batch: unknown option {next(iter(rest))!r}; known: {', '.join(OPTIONS)}"
        )
    return options
