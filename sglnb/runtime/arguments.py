"""Checks of what users pass in; each error names the argument and what it may be."""

from __future__ import annotations

import math
from typing import Any


def one_of(name: str, value: Any, known: tuple[Any, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``known``."""
    if value not in known:
        options = " or ".join(repr(k) for k in known)
        raise ValueError(f"{name}: must be {options}, got {value!r}")


def at_least_one(name: str, value: int | None) -> None:
    """Raise ValueError unless ``value`` is None or a whole number of at least 1."""
    if value is not None:
        number(name, value, 1, whole=True)


def number(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    whole: bool = False,
    open_low: bool = False,
) -> None:
    """Raise ValueError unless ``value`` is a (whole) number from ``low`` (left out if
    ``open_low``) to ``high``."""
    kind = int if whole else (int, float)
    ok = isinstance(value, kind) and not isinstance(value, bool)
    if ok and (low < value if open_low else low <= value) and value <= high:
        return
    what = "a whole number" if whole else "a number"
    limits = f"over {low}" if open_low else f"at least {low}"
    if high != math.inf:
        limits += f" and at most {high}"
    raise ValueError(f"{name}: must be {what} {limits}, got {value!r}")
