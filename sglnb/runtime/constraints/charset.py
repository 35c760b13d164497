"""Sets of Unicode code points, and what Python's ``re`` means by ``\\w`` or by ``(?i)k``.

A set is a sorted tuple of inclusive ranges. Surrogates are in no set: they are not text.
The standard library decides what belongs to a class, by being asked; nothing is copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np

CharSet = tuple[tuple[int, int], ...]

MAX_CODE_POINT = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)


def charset(ranges: Iterable[tuple[int, int]]) -> CharSet:
    """Sort and merge ``ranges``; take the surrogates out."""
    merged: list[tuple[int, int]] = []
    for lo, hi in sorted(ranges):
        if merged and lo <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
        else:
            merged.append((lo, hi))
    low, high = SURROGATES
    out: list[tuple[int, int]] = []
    for lo, hi in merged:
        if lo < low:
            out.append((lo, min(hi, low - 1)))
        if hi > high:
            out.append((max(lo, high + 1), hi))
    return tuple(out)


def complement(chars: CharSet) -> CharSet:
    """Every other code point."""
    out, at = [], 0
    for lo, hi in chars:
        if lo > at:
            out.append((at, lo - 1))
        at = hi + 1
    if at <= MAX_CODE_POINT:
        out.append((at, MAX_CODE_POINT))
    return charset(out)


def size(chars: CharSet) -> int:
    """Number of code points."""
    return sum(hi - lo + 1 for lo, hi in chars)


ANYTHING = complement(())
NOT_NEWLINE = complement(((10, 10),))


@lru_cache(maxsize=64)
def category(escape: str, ascii_only: bool) -> CharSet:
    """What ``escape`` (such as ``\\w``) matches."""
    pattern = re.compile(f"{escape}+", re.ASCII if ascii_only else 0)
    return charset((m.start(), m.end() - 1) for m in pattern.finditer(everything()))


@lru_cache(maxsize=1)
def _cased() -> str:
    """The characters that ``re.IGNORECASE`` can treat in another way than themselves."""
    blocks = (_text(at, at + 64) for at in range(0, MAX_CODE_POINT + 1, 64))
    some = (block for block in blocks if not _caseless(block))
    return "".join(c for block in some for c in block if not _caseless(c))


def _caseless(text: str) -> bool:
    return text.lower() == text.upper() == text.casefold() == text


def everything() -> str:
    """Every code point, each at the index that is its number."""
    return _text(0, MAX_CODE_POINT + 1)


def _text(start: int, stop: int) -> str:
    """The code points from ``start`` up to ``stop``, the surrogates among them."""
    return np.arange(start, stop, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")


@lru_cache(maxsize=1024)
def ignore_case(
    chars: CharSet, element: str, ascii_only: bool, compile: Callable[[str], Any] = re.compile
) -> CharSet:
    """What the one-character regex ``element`` matches under ``(?i)``, given what it
    matches otherwise. Only cased characters can differ, so only those are tried."""
    cased = {ord(c) for c in _cased()}
    plain = complement(charset([*complement(chars), *((c, c) for c in cased)]))
    pattern = compile(f"(?{'ia' if ascii_only else 'i'}){element}")
    return charset([*plain, *((ord(c), ord(c)) for c in _cased() if pattern.match(c))])


def runs(first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """``first[0], first[0]+1, ..`` (``count[0]`` of them), then the same for each other."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(first - (ends - count), count)
