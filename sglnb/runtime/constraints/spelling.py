"""Texts as the tokenizer itself would write them, where a text begins and in the middle of one."""

from __future__ import annotations

from sglnb.runtime.constraints.vocabulary import Vocabulary
from sglnb.runtime.tokenizer import Tokenizer

RECENT = 8
"""How many recent tokens can change the encoding of what follows them, at most."""
_ANCHOR = "\n"


class Spelling:
    """Canonical ids of text for one tokenizer.

    A SentencePiece tokenizer puts a space before the first word of whatever it encodes, so
    there nothing is encoded bare: an anchor stands before it, and its ids are dropped.
    """

    def __init__(self, vocabulary: Vocabulary, tokenizer: Tokenizer):
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._anchor = _ANCHOR if vocabulary.adds_space else ""

    def text_of(self, recent: tuple[int, ...]) -> str:
        """The text of the recent tokens, from the last special token or broken character."""
        raw = b""
        table = self._tokenizer.token_bytes
        for token in reversed(recent):
            piece = table[token] if 0 <= token < len(table) else None
            if piece is None:
                break
            raw = piece + raw
        while raw and raw[0] & 0xC0 == 0x80:
            raw = raw[1:]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return ""

    def tail(self, ids: list[int]) -> tuple[int, str]:
        """(Where in ``ids`` the text behind the last special token or broken character begins,
        that text)."""
        table, start = self._tokenizer.token_bytes, len(ids)
        while start and 0 <= ids[start - 1] < len(table) and table[ids[start - 1]] is not None:
            start -= 1
        raw = b"".join(table[i] for i in ids[start:])
        while start < len(ids):
            try:
                return start, raw.decode()
            except UnicodeDecodeError:
                raw = raw[len(table[ids[start]]) :]
                start += 1
        return start, ""

    def after(self, before: str, text: str) -> list[int] | None:
        """Canonical ids of ``text`` after ``before``; None if a token spans the seam, or if
        the tokenizer does not keep the text as it is."""
        ids = self._tokenizer.encode_plain(self._anchor + before + text)
        table = self._tokenizer.token_bytes
        left = len(text.encode())
        at = len(ids)
        while at and left > 0:
            at -= 1
            piece = table[ids[at]]
            if piece is None:  # text that reads like a special token
                return None
            left -= len(piece)
        tail = b"".join(table[i] for i in ids[at:]) if left == 0 else b""
        return ids[at:] if tail == text.encode() else None

    def spell(self, text: str) -> list[int]:
        """Canonical ids of ``text`` where a text begins; one token per byte if the tokenizer
        would change it. -1 stands for a byte that it has no token for."""
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            return [-1]
        ids = self.after("", text)
        if ids is not None and all(self._vocabulary.cuts[i] is not None for i in ids):
            return ids
        return [self._vocabulary.byte_token.get(byte, -1) for byte in raw]


def common_prefix(a: list[int], b: list[int]) -> list[int]:
    """The ids that both begin with."""
    same = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        same += 1
    return a[:same]
