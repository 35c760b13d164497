r"""Unicode properties, ``\p{Greek}`` and ``\P{Lu}``, which the standard library's ``re`` lacks.

The ``regex`` package decides what a property holds, by being asked. For the parser each one is
replaced by a placeholder, a code point that stands for nothing (plane 16 is for private use).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache

import regex

from sglnb.runtime.constraints.charset import CharSet, charset, everything

_FIRST = 0x10F000
_TOKEN = re.compile(r"\\(?:(?P<property>[pP](?:\{[^{}]*\}|[A-Za-z]))|.)", re.DOTALL)


class Properties:
    """The properties of a regex.

    Attributes:
        source: the regex with a placeholder for each.

    Raises:
        re.error: there is no such property.
    """

    def __init__(self, source: str):
        self._spelled: dict[int, str] = {}
        self._seams: list[int] = []  # where in ``source`` a placeholder stands
        self._gone: list[int] = []  # characters that are missing behind it, in all
        free = (c for c in range(_FIRST, 0x110000) if chr(c) not in source)
        out, at, length = [], 0, 0
        for match in _TOKEN.finditer(source):
            if match["property"] is None:
                continue
            spelled, start = match[0], match.start()
            code = next(free)
            try:
                _holds(spelled)
            except regex.error:
                raise re.error(f"unknown property {spelled}", source, start) from None
            self._spelled[code] = spelled
            out += [source[at:start], chr(code)]
            length += start - at + 1
            at = match.end()
            self._seams.append(length - 1)
            self._gone.append((self._gone or [0])[-1] + len(spelled) - 1)
        self.source = "".join([*out, source[at:]])

    def __contains__(self, code: int) -> bool:
        """Whether ``code`` is a placeholder."""
        return code in self._spelled

    def spelling(self, code: int) -> str:
        """The property that a placeholder stands for, as it was written."""
        return self._spelled[code]

    def holds(self, code: int) -> CharSet:
        """The code points of the property."""
        return _holds(self._spelled[code])

    def position(self, at: int) -> int:
        """Where in the regex as it was written position ``at`` of ``source`` is."""
        before = bisect_right(self._seams, at - 1)
        return at + (self._gone[before - 1] if before else 0)


@lru_cache(maxsize=256)
def _holds(spelled: str) -> CharSet:
    return charset((m.start(), m.end() - 1) for m in regex.finditer(f"{spelled}+", everything()))
