"""From output tokens to text, piece by piece: whole characters only, and what ends the text."""

from __future__ import annotations

import codecs

from .stop_regex import Hit, StopRegexes


class OutputText:
    """The text of one generation as it grows.

    What is shown never has to be taken back. So three things wait for the tokens to come: half
    a character, the beginning of a stop string, and the beginning of a match of a stop regex. A
    regex that may go on for ever (``A.*Z``) holds back all that follows its first character, for
    all of that is cut off if the match is completed. With ``trim`` off nothing of a stop is cut
    off, and only half characters wait.

    Args:
        stop: strings that end the text.
        stop_regex: regular expressions that do.
        trim: leave what ended the text out of it.
        fresh: nothing is shown before this text, so a SentencePiece tokenizer's dummy space in
            front of the first word is left out.
    """

    def __init__(
        self,
        stop: tuple[str, ...] = (),
        stop_regex: tuple[str, ...] = (),
        trim: bool = True,
        fresh: bool = False,
    ):
        self._stop, self._trim = stop, trim
        self._longest = max(map(len, stop), default=0)
        self._regexes = StopRegexes(stop_regex) if stop_regex else None
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._all = ""
        self._ended = False
        self.fresh = fresh
        """Whether the next visible token is the first of all that is shown."""
        self.text = ""
        """What may be shown."""

    def push(self, raw: bytes | None) -> str | None:
        """Add a token's bytes; returns the stop string or regex that the text now contains, if
        any. The text is final then. None is a token that is not shown. A token may be shown and
        have no bytes: the dummy space alone."""
        if raw is None:
            return None
        self.fresh = False
        before = len(self._all)
        self._all += self._decoder.decode(raw)
        hit = self._find(before)
        if hit is not None:
            self.text = self._all = self._all[: hit.start if self._trim else hit.end]
            self._ended = True
            return hit.stop
        self.text = self._all[: self._certain()]
        return None

    def finish(self) -> None:
        """No more tokens will come: show what was held back, unless a stop ended the text."""
        if not self._ended:
            self._all += self._decoder.decode(b"", True)
            self.text = self._all

    def _find(self, before: int) -> Hit | None:
        start = max(0, before - self._longest + 1)
        found = [
            Hit(at, at + len(s), s) for s in self._stop if (at := self._all.find(s, start)) >= 0
        ]
        if self._regexes is not None:
            hit = self._regexes.push(self._all[before:], before)
            if hit is not None:
                found.append(hit)
        return min(found, default=None)

    def _certain(self) -> int:
        """Length of the text that no stop can take back."""
        length = len(self._all)
        if not self._trim:
            return length
        if self._regexes is not None and self._regexes.open_from is not None:
            length = self._regexes.open_from
        for n in range(min(self._longest - 1, len(self._all)), 0, -1):
            if any(s.startswith(self._all[-n:]) for s in self._stop):
                return min(length, len(self._all) - n)
        return length
