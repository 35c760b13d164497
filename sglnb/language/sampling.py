"""Sampling parameters: those of ``run()`` are the base, those of ``gen()`` win."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ..errors import ConstraintError
from ..runtime.report import REPORT_OPTIONS
from ..runtime.sampling_params import SamplingParams
from .ir import SglGen

SUBMIT_OPTIONS = (*REPORT_OPTIONS, "lora")
"""Options that go to ``submit`` beside the sampling parameters."""

DTYPE_REGEX = {
    "int": r"[-+]?[0-9]+[ \n]*",
    "float": r"[-+]?[0-9]*\.?[0-9]+[ \n]*",
    "bool": r"(True|False)",
    "str": r"\"[\w\d\s]*\"",
}
"""What ``gen(dtype=)`` lets the model write (SGLang's patterns; a str has its quotes)."""


def dtype_name(dtype: Any) -> str | None:
    """The name of a type that ``gen(dtype=)`` takes, given the type or its name.

    Raises:
        ValueError: another type.
    """
    if dtype is None:
        return None
    name = dtype.__name__ if isinstance(dtype, type) else dtype
    if name not in DTYPE_REGEX:
        raise ValueError(f"dtype: must be one of {', '.join(DTYPE_REGEX)}, got {dtype!r}")
    return name


def given(**params: Any) -> dict[str, Any]:
    """The parameters that are not None; lists and dicts copied, so that the caller's stay
    theirs."""
    return {
        k: list(v) if isinstance(v, (list, tuple)) else dict(v) if isinstance(v, Mapping) else v
        for k, v in params.items()
        if v is not None
    }


def check(params: dict[str, Any]) -> None:
    """Tell a mistake in ``params`` now, on the line where it was written.

    Raises:
        ValueError: a value out of range. ConstraintError: ``regex`` does not parse, or a schema
            or a grammar cannot be used.
    """
    if not params:
        return
    n = params.get("n")
    if n not in (None, 1):
        raise ValueError(
            f"n: only 1 is possible here, got {n!r}; for several answers use "
            "s.fork(n) and gen in each branch"
        )
    top = params.get("top_logprobs_num", 0)
    if not isinstance(top, int) or top < 0:
        raise ValueError(f"top_logprobs_num: must be a whole number of at least 0, got {top!r}")
    probe = {k: v for k, v in params.items() if k not in SUBMIT_OPTIONS and k != "n"}
    least = probe.get("min_new_tokens", 0)
    if isinstance(least, int):
        probe.setdefault("max_new_tokens", max(least, 128))
    SamplingParams.of(probe)
    if "regex" in probe:
        try:
            re.compile(probe["regex"])
        except re.error as error:
            raise ConstraintError(f"regex: {error}: {probe['regex']!r}") from None


def branch_defaults(defaults: dict[str, Any], fork: int, index: int) -> dict[str, Any]:
    """The options of branch ``index`` of a state's ``fork``-th fork. A seed given for the whole
    run becomes another one in each branch: with one seed for all, every branch would draw the
    same tokens. The run as a whole still repeats."""
    if "seed" not in defaults:
        return defaults
    digest = hashlib.blake2b(f"{defaults['seed']}/{fork}/{index}".encode(), digest_size=7).digest()
    return {**defaults, "seed": int.from_bytes(digest, "little")}


def resolve(
    gen: SglGen,
    defaults: dict[str, Any],
    *,
    stop: tuple[str, ...] = (),
    stop_token_ids: tuple[int, ...] = (),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``submit`` gets for ``gen``: (sampling parameters, other options), both fresh.

    Args:
        stop, stop_token_ids: the chat template's own, added to the others.
    """
    params = {**defaults, **gen.sampling_params}
    params.pop("n", None)
    options = {k: params.pop(k) for k in SUBMIT_OPTIONS if k in params}
    if gen.dtype is not None:
        params["regex"] = DTYPE_REGEX[gen.dtype]
    own = params.pop("stop", None) or ()
    ends = () if gen.form is None else gen.form.ends
    stops = [*((own,) if isinstance(own, str) else own), *ends, *stop]
    if stops:
        params["stop"] = list(dict.fromkeys(stops))
    ids = [*(params.pop("stop_token_ids", None) or ())]
    if not params.get("ignore_eos"):
        ids += stop_token_ids
    if ids:
        params["stop_token_ids"] = list(dict.fromkeys(ids))
    return params, options
