"""From output tokens to text, piece by piece: whole characters only, and stop strings."""

from __future__ import annotations

import codecs


class OutputText:
    """The text of one generation as it grows.

    Args:
        stop: strings that end the generation.
        trim: leave the stop string out of the text.
    """

    def __init__(self, stop: tuple[str, ...] = (), trim: bool = True):
        self._stop, self._trim = stop, trim
        self._longest = max(map(len, stop), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._all = ""
        self.text = ""
        """What may be shown: no half character, and nothing that could still turn out to be
        the start of a stop string."""

    def push(self, raw: bytes) -> str | None:
        """Add a token's bytes; returns the stop string that the text now contains, if any.
        The text is final then."""
        before = len(self._all)
        self._all += self._decoder.decode(raw)
        hit = self._find_stop(before)
        if hit is not None:
            at, stop = hit
            self._all = self._all[: at if self._trim else at + len(stop)]
            self.text = self._all
            return stop
        self.text = self._all[: len(self._all) - self._pending()]
        return None

    def finish(self) -> None:
        """No more tokens will come: show what was held back."""
        self._all += self._decoder.decode(b"", True)
        self.text = self._all

    def _find_stop(self, before: int) -> tuple[int, str] | None:
        start = max(0, before - self._longest + 1)
        found = [(at, s) for s in self._stop if (at := self._all.find(s, start)) >= 0]
        return min(found, default=None)

    def _pending(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        if not self._trim:
            return 0
        for n in range(min(self._longest - 1, len(self._all)), 0, -1):
            if any(s.startswith(self._all[-n:]) for s in self._stop):
                return n
        return 0
