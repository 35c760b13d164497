"""Sampling parameters: those of ``run()`` are the base, those of ``gen()`` win."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import chain
from typing import Any

from ..runtime.arguments import number
from ..runtime.constraints.syntax import check_regex
from ..runtime.report import REPORT_OPTIONS
from ..runtime.sampling_params import SamplingParams
from .ir import SglGen
from .settings import global_config

SUBMIT_OPTIONS = (*REPORT_OPTIONS, "lora")
"""Options that go to ``submit`` beside the sampling parameters."""

_APART = frozenset(SUBMIT_OPTIONS)

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
    return {k: own(v) for k, v in params.items() if v is not None}


def own(value: Any) -> Any:
    """``value``, a list or a dict copied."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, (list, tuple)):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def check(params: dict[str, Any]) -> None:
    """Tell a mistake in ``params`` now, on the line where it was written.

    Raises:
        ValueError: a value out of range. ConstraintError: ``regex`` does not parse, or a schema
            or a grammar cannot be used.
    """
    if not params:
        return
    # With the types: True, 1 and 1.0 are the same to a set.
    key = (*params, *params.values(), *map(type, params.values()))
    try:
        if key in _good:
            return
    except TypeError:  # there is a list or a dict in it
        pass
    if "n" in params:
        number("n", params["n"], 1, whole=True)
    top = params.get("top_logprobs_num", 0)
    if not isinstance(top, int) or top < 0:
        raise ValueError(f"top_logprobs_num: must be a whole number of at least 0, got {top!r}")
    probe = {k: v for k, v in params.items() if k not in SUBMIT_OPTIONS and k != "n"}
    least = probe.get("min_new_tokens", 0)
    if isinstance(least, int):
        probe.setdefault("max_new_tokens", max(least, 128))
    SamplingParams.of(probe)
    if "regex" in probe:
        check_regex(probe["regex"])
    if len(_good) < 1000 and _PLAIN.issuperset(map(type, params.values())):
        _good.add(key)


_PLAIN = frozenset((str, int, float, bool))
_good: set[tuple[Any, ...]] = set()
"""Parameters that passed :func:`check`: a ``gen`` in a loop or a branch is made again and again."""


def check_pick(pick: int, n: int) -> None:
    """ValueError unless there is a text of that index among n."""
    if pick >= n:
        raise ValueError(f"pick: must be 0 to {n - 1}, or a function, with n={n}; got {pick}")


def texts_wanted(gen: SglGen, defaults: dict[str, Any]) -> int:
    """How many texts ``gen`` makes: its own ``n``, else that of ``run()``, else 1."""
    return gen.sampling_params.get("n", defaults.get("n", 1))


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
    if not global_config.skip_special_tokens_in_output:
        params.setdefault("skip_special_tokens", False)
    params.pop("n", None)
    options: dict[str, Any] = {}
    if not _APART.isdisjoint(params):
        options = {k: params.pop(k) for k in SUBMIT_OPTIONS if k in params}
    if gen.dtype is not None:
        params["regex"] = DTYPE_REGEX[gen.dtype]
    its_own = params.pop("stop", None) or ()
    ids = params.pop("stop_token_ids", None) or ()
    if not (its_own or ids or stop or stop_token_ids or gen.form):
        return params, options
    ends = () if gen.form is None else gen.form.ends
    if its_own or ends or stop:
        stops = ((its_own,) if isinstance(its_own, str) else its_own, ends, stop)
        params["stop"] = list(dict.fromkeys(chain(*stops)))
    if params.get("ignore_eos"):
        stop_token_ids = ()
    if ids or stop_token_ids:
        params["stop_token_ids"] = list(dict.fromkeys((*ids, *stop_token_ids)))
    return params, options
