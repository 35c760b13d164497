"""What the radix tree knows image positions by.

A token is known by its id, a number from 0 on. A position of an image is known by a negative
number that belongs to that image and that offset alone: images are told apart by their whole
digest, never by a part of it, so two images can never be taken for each other.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from itertools import groupby

from .tokenizer import Tokenizer

STRIDE = 2**24
"""Keys set aside for each image; more tokens than an image can have."""

MOST = 2**16
"""Images remembered at most: about 300 bytes each, 20 MB in all. One that was forgotten gets new
keys when it comes again; its KV is computed once more, and no key ever means another image."""


class ImageKeys:
    """Numbers the images of one engine. May be called from any thread.

    Args:
        tokenizer: of the engine, for what keys from 0 on mean.
    """

    def __init__(self, tokenizer: Tokenizer, most: int = MOST):
        self._tokenizer, self._most = tokenizer, most
        self._lock = threading.Lock()
        self._next = 0
        self._numbers: OrderedDict[bytes, int] = OrderedDict()
        self._names: dict[int, str] = {}

    def keys(self, digest: bytes, tokens: int) -> range:
        """The keys of an image's ``tokens`` positions."""
        with self._lock:
            number = self._numbers.get(digest)
            if number is None:
                number = self._numbers[digest] = self._next
                self._next += 1
                self._names[number] = digest.hex()[:8]
                if len(self._numbers) > self._most:
                    _, forgotten = self._numbers.popitem(last=False)
                    del self._names[forgotten]
            self._numbers.move_to_end(digest)
        first = -1 - number * STRIDE
        return range(first, first - tokens, -1)

    def pieces(self, keys: Iterable[int]) -> list[str]:
        """Display texts: tokens' pieces, ``<image 1a2b3c4d>`` for the first position of an image
        and ``\u25aa`` for its others."""
        table = self._tokenizer.pieces
        return [table[key] if key >= 0 else self._piece(key) for key in keys]

    def text(self, keys: Iterable[int]) -> str:
        """The text that keys stand for, each image as one ``<image ...>``."""
        out = []
        for is_token, group in groupby(keys, lambda key: key >= 0):
            if is_token:
                out.append(self._tokenizer.decode(list(group), special=True))
            else:
                out += [self._piece(key) for key in group if not (-1 - key) % STRIDE]
        return "".join(out)

    def to_bytes(self, keys: Iterable[int]) -> bytes:
        """The bytes that keys spell, special tokens and images by their names."""
        table = self._tokenizer.token_bytes
        return b"".join(
            self.pieces([key])[0].encode() if key < 0 or table[key] is None else table[key]
            for key in keys
        )

    def _piece(self, key: int) -> str:
        number, offset = divmod(-1 - key, STRIDE)
        return "\u25aa" if offset else f"<image {self._names.get(number, '?')}>"
