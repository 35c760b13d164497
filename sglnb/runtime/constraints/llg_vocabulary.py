"""A tokenizer as llguidance sees it."""

from __future__ import annotations

import re
import string
import weakref
from functools import cached_property

import llguidance
import numpy as np

from sglnb.runtime.constraints.spelling import Spelling
from sglnb.runtime.constraints.vocabulary import Vocabulary
from sglnb.runtime.tokenizer import Tokenizer

_CLOSING = ("]}]", "]}}", "}}}", "]]]", "]}", "}]", "}}", "]]", "}", "]", "))))", "))", ")", ">")
_VALUES = ("0", '""', "1", "''", "{}", "[]")
_SIGNS = (";", ",", ".", ":", "=", "-", "/", "'", '"', "{", "[", "(", "<", " ", "\n")


class LLGVocabulary:
    """llguidance's view of one tokenizer: the legal tokens as bytes, special ones by name."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: Vocabulary):
        self.base = vocabulary
        self.spelling = Spelling(vocabulary, tokenizer)
        size = vocabulary.size
        # It wants an end of text; a tokenizer without one gets an id past its own.
        self.eos_ids = vocabulary.eos_ids or [size]
        self.special_ids = tokenizer.special_ids
        wrapper = llguidance.TokenizerWrapper(_Tokens(tokenizer, self))
        self.tokenizer = llguidance.LLTokenizer(
            wrapper, n_vocab=max(size, *(i + 1 for i in self.eos_ids)), eos_token=self.eos_ids
        )
        self.only_eos = self._pack(vocabulary.eos_ids)
        self._known = self._pack(range(size))

    def _pack(self, ids) -> np.ndarray:
        bits = np.zeros(-(-self.base.size // 32) * 32, dtype=bool)
        bits[list(ids)] = True
        return np.frombuffer(np.packbits(bits, bitorder="little").tobytes(), dtype="<i4")

    def words(self, mask: bytes) -> np.ndarray:
        """A mask of llguidance in our own length: nothing past the vocabulary."""
        return np.frombuffer(mask, dtype="<i4", count=len(self._known)) & self._known

    @cached_property
    def between(self) -> np.ndarray:
        """Tokens that often close what is open, or are the least that can stand for a value, the
        most useful first."""
        return self._ids([*_CLOSING, *_VALUES, *_SIGNS])

    @cached_property
    def behind(self) -> np.ndarray:
        """The same behind a value: it is not to grow, least of all by zeros. A quote ends it."""
        return self._ids([*_CLOSING, '"', "'", *_SIGNS, "1", *_VALUES])

    @cached_property
    def inside(self) -> np.ndarray:
        """The same where the text is free, as inside a string: what closes it, then some words,
        the longest first, for there may be a least length."""
        words = {}
        for raw in sorted(self._by_bytes):
            if len(raw) <= 8 and raw.isalpha() and raw.islower() and raw.isascii():
                words.setdefault(len(raw), raw.decode())
        closing = ['"}}}', '"}]}', '"]}}', '"}}', '"}]', '"]}', '"]]', '"}', '"]', '"']
        long, *others = (words[n] for n in sorted(words, reverse=True)) if words else ("a",)
        return self._ids([*closing, long, "'", *others])

    @cached_property
    def alphabet(self) -> list[int]:
        """Tokens of all small letters, for a text that has to have a certain one somewhere."""
        return self.split(string.ascii_lowercase.encode())

    def _ids(self, texts: list[str]) -> np.ndarray:
        known, raws = self._by_bytes, [text.encode() for text in dict.fromkeys(texts)]
        return np.array([known[raw] for raw in raws if raw in known], dtype=np.int64)

    @cached_property
    def special(self) -> np.ndarray:
        """Special tokens that do not end a text; legal only where a grammar names them."""
        ids = set(self.special_ids.values()) - set(self.base.eos_ids)
        return np.array(sorted(ids), dtype=np.int64)

    def names_special(self, text: str) -> bool:
        """Whether there is the name of a special token in ``text``."""
        return any(name in text for name in self.special_ids)

    def spell(self, text: str) -> list[int]:
        """Canonical ids of ``text``, special tokens by name; -1 for what there is no token for."""
        parts = self._names.split(text)
        named = self.special_ids
        return [
            i
            for at, part in enumerate(parts)
            for i in ([named[part]] if at % 2 else self.spelling.spell(part) if part else [])
        ]

    @cached_property
    def _names(self) -> re.Pattern[str]:
        longest_first = sorted(self.special_ids, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest_first))})")

    def is_free(self, words: np.ndarray) -> bool:
        """Whether a mask allows nearly any text, as inside a string."""
        size = self.base.size
        return int.from_bytes(words.tobytes(), "little").bit_count() > size // 2

    def spelled(self, token: int) -> bytes:
        """The bytes of a token, of a special one some that no text has."""
        return self._raw[token] or b"\xff%d\xff" % token

    def split(self, text: bytes) -> list[int]:
        """Tokens of ``text``, the longest that fits each time; up to a byte that has none, or up to
        a special token."""
        out: list[int] = []
        while text:
            ends = range(min(len(text), self.base.longest), 0, -1)
            token = next((t for n in ends if (t := self._by_bytes.get(text[:n])) is not None), None)
            if token is None:
                break
            out.append(token)
            text = text[len(self._raw[token]) :]
        return out

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        return {raw: i for i, raw in reversed(list(enumerate(self._raw))) if raw}

    @cached_property
    def by_length(self) -> np.ndarray:
        """The tokens that may stand in a text, the shortest first."""
        lengths = np.array([len(raw) for raw in self._raw], dtype=np.int64)
        order = np.argsort(lengths, kind="stable")
        return order[lengths[order] > 0]

    @cached_property
    def _raw(self) -> list[bytes]:
        """Bytes of each token that may stand in a text, b"" for the others."""
        cuts = self.base.cuts
        return [b"" if c is None else c.lead + c.chars.encode() + c.tail for c in cuts]


class _Tokens:
    """What llguidance asks of a tokenizer. It holds the real one weakly: the two know each
    other, and what llguidance holds is out of the garbage collector's sight."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, llg: LLGVocabulary):
        vocabulary, table = llg.base, tokenizer.token_bytes
        self.eos_token_id = llg.eos_ids[0]
        self.tokens = [
            b"" if cut is None else raw for cut, raw in zip(vocabulary.cuts, table, strict=True)
        ]
        self.special_token_ids = []
        for i, (raw, piece) in enumerate(zip(table, tokenizer.pieces, strict=True)):
            if raw is None and piece != f"<unused {i}>":
                self.tokens[i] = piece.encode()
                self.special_token_ids.append(i)
        if llg.eos_ids[0] == vocabulary.size:
            self.tokens.append(b"<end of text>")
            self.special_token_ids.append(vocabulary.size)
        self._spelling = weakref.ref(llg.spelling)

    def __call__(self, text: bytes) -> list[int]:
        spelling = self._spelling()
        ids = [] if spelling is None else spelling.spell(text.decode())
        if -1 in ids:
            raise ValueError("the tokenizer has no token for some bytes of the text")
        return ids
