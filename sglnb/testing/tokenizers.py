"""Tokenizers that need no files: what a token is can be seen with the naked eye."""

from __future__ import annotations

import re
import threading

WORD = re.compile(r" ?\w+|[^\w\s]|\s")
"""A word with the space before it, or one other character."""


class WordTokenizer:
    """One token a word (with the space before it) or other character. Ids are given out in the
    order in which words are met."""

    has_chat_template = False

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._ids: dict[str, int] = {}
        self._lock = threading.Lock()

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        words = WORD.findall(text)
        with self._lock:
            for word in words:
                if word not in self._ids:
                    self._ids[word] = len(self.pieces)
                    self.pieces.append(word)
            return [self._ids[word] for word in words]

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""
        return "".join(self.pieces[i] for i in ids)


class CharTokenizer:
    """One token a character, its code point; ``merges`` are strings that are one token of their
    own, with ids from 2,000,000."""

    has_chat_template = False

    def __init__(self, merges: tuple[str, ...] = ()):
        self.merges = merges
        self.pieces = _CharPieces(merges)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; the first merge that fits is taken."""
        ids = []
        while text:
            n, merge = next(
                ((n, m) for n, m in enumerate(self.merges) if text.startswith(m)), (None, text[0])
            )
            ids.append(ord(merge) if n is None else 2_000_000 + n)
            text = text[len(merge) :]
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""
        return "".join(self.pieces[i] for i in ids)


class _CharPieces:
    def __init__(self, merges: tuple[str, ...]):
        self._merges = merges

    def __getitem__(self, i: int) -> str:
        return self._merges[i - 2_000_000] if i >= 2_000_000 else chr(i)
