"""A vocabulary as a trie of characters, built once per tokenizer.

A token is bytes; an automaton reads characters. So each token is cut once into

* ``lead``: up to 3 bytes that finish a character begun by the token before it,
* ``chars``: whole characters, a path in the trie,
* ``tail``: up to 3 bytes that begin a character (0 = none).

The trie has one root per distinct ``lead``; its levels are flat arrays, so that a whole
level is one numpy step.
"""

from __future__ import annotations

import codecs
from bisect import bisect_right
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sglnb.runtime.constraints.charset import MAX_CODE_POINT
from sglnb.runtime.tokenizer import Tokenizer

_LOWEST = {2: 0x80, 3: 0x800, 4: 0x10000}


class Span(NamedTuple):
    """The code points that a character may still become once some of its bytes are known."""

    lo: int
    hi: int
    missing: int


def utf8_span(begun: bytes) -> Span | None:
    """What a character that begins with the bytes ``begun`` can be; None if it cannot."""
    first = begun[0]
    if first < 0xC2 or first > 0xF4:
        return Span(first, first, 0) if first < 0x80 and len(begun) == 1 else None
    length = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    missing = length - len(begun)
    if missing < 0:
        return None
    code = first & (0x7F >> length)
    for byte in begun[1:]:
        if byte & 0xC0 != 0x80:
            return None
        code = code << 6 | byte & 0x3F
    lo = max(code << 6 * missing, _LOWEST[length])
    hi = min(((code + 1) << 6 * missing) - 1, MAX_CODE_POINT)
    if lo > hi or (lo >= 0xD800 and hi <= 0xDFFF):
        return None
    return Span(lo, hi, missing)


class Cut(NamedTuple):
    """One token, cut at its characters."""

    lead: bytes
    chars: str
    tail: bytes


def cut_token(raw: bytes) -> Cut | None:
    """Cut the bytes of a token; None if they can be part of no text."""
    body = raw.lstrip(_CONTINUATION)
    lead = raw[: len(raw) - len(body)]
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        chars = decoder.decode(body)
    except UnicodeDecodeError:
        return None
    tail = decoder.getstate()[0]
    if len(lead) > 3 or not raw:
        return None
    return Cut(lead, chars, tail)


_CONTINUATION = bytes(range(0x80, 0xC0))
_UTF8_BYTES = {*range(0xC0), *range(0xC2, 0xF5)}


class Vocabulary:
    """The legal tokens of a tokenizer, cut and arranged for masks.

    Left out: special and unused ids, tokens that are no part of any text, and byte tokens
    (``<0x41>``) of which the vocabulary has an ordinary twin.

    Attributes:
        cuts: for each id its cut, None for an id that is never legal as text.
        chars: the distinct characters of the trie, as code points, int64.
        leads: the distinct ``lead`` strings; their numbers are the trie's roots.
        tails: the distinct ``tail`` strings; number 0 is the empty one.
        levels: first node of each trie level, and the end.
        has_all_bytes: whether any text can be spelled.
        adds_space: whether the tokenizer puts a space before the first word (SentencePiece).
    """

    def __init__(self, tokenizer: Tokenizer):
        self.size = tokenizer.vocab_size
        self.eos_ids = sorted(i for i in tokenizer.eos_ids if i < self.size)
        table = tokenizer.token_bytes
        self.cuts = [None if raw is None else cut_token(raw) for raw in table]
        for i in _byte_twins(tokenizer, table):
            self.cuts[i] = None
        legal = [i for i, cut in enumerate(self.cuts) if cut is not None]
        self.has_all_bytes = {table[i][0] for i in legal if len(table[i]) == 1} >= _UTF8_BYTES
        self.leads = sorted({self.cuts[i].lead for i in legal} | {b""})
        self.tails = sorted({self.cuts[i].tail for i in legal} | {b""})
        self.adds_space = tokenizer.to_bytes(tokenizer.encode_plain("a")) != b"a"
        self._build(legal)

    def _build(self, legal: list[int]) -> None:
        """Lay the trie out level by level: equal (parent, character) pairs are one node."""
        cuts = [self.cuts[i] for i in legal]
        ids = np.array(legal, dtype=np.int64)
        lengths = np.array([len(cut.chars) for cut in cuts], dtype=np.int64)
        text = "".join(cut.chars for cut in cuts)
        codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)
        self.chars, char_of = np.unique(codes, return_inverse=True)
        offset = np.cumsum(lengths) - lengths
        root = {lead: i for i, lead in enumerate(self.leads)}
        node = np.array([root[cut.lead] for cut in cuts], dtype=np.int64)
        levels = [0, len(self.leads)]
        node_char = [np.zeros(len(self.leads), dtype=np.int64)]
        first_child: list[np.ndarray] = []
        children: list[np.ndarray] = []
        for depth in range(int(lengths.max(initial=0)) + 1):
            here = np.flatnonzero(lengths > depth)
            key = node[here] * (len(self.chars) + 1) + char_of[offset[here] + depth]
            distinct, index = np.unique(key, return_inverse=True)
            parent, char = np.divmod(distinct, len(self.chars) + 1)
            count = np.bincount(parent - levels[-2], minlength=levels[-1] - levels[-2])
            children.append(count)
            first_child.append(levels[-1] + np.cumsum(count) - count)
            node_char.append(char)
            node[here] = levels[-1] + index.reshape(-1)
            levels.append(levels[-1] + len(distinct))
        self.levels = levels
        self.node_char = np.concatenate(node_char).astype(np.int32)
        self.first_child = np.concatenate(first_child).astype(np.int32)
        self.n_children = np.concatenate(children).astype(np.int32)
        number = {tail: i for i, tail in enumerate(self.tails)}
        tail = np.array([number[cut.tail] for cut in cuts], dtype=np.int32)
        whole, part = tail == 0, tail != 0
        self.tokens, self.first_token, self.n_tokens = _by_node(ids, node, whole, levels[-1])
        self.part_tokens, self.first_part, self.n_parts = _by_node(ids, node, part, levels[-1])
        tail_of = np.zeros(self.size, dtype=np.int32)
        tail_of[ids] = tail
        self.part_tails = tail_of[self.part_tokens]

    @property
    def n_nodes(self) -> int:
        """Number of trie nodes, the roots included."""
        return len(self.node_char)

    def level_bounds(self, node: int) -> tuple[int, int, int]:
        """Where the level of ``node`` begins, where the next one does, and where that ends."""
        at = bisect_right(self.levels, node)
        return self.levels[at - 1], self.levels[at], self.levels[min(at + 1, len(self.levels) - 1)]

    @cached_property
    def parent(self) -> np.ndarray:
        """The node before each node, -1 before a root."""
        before = np.repeat(np.arange(self.n_nodes, dtype=np.int32), self.n_children)
        return np.concatenate([np.full(len(self.leads), -1, dtype=np.int32), before])

    @cached_property
    def tail_spans(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest code point that each tail may become; the empty one: none."""
        spans = [utf8_span(tail) for tail in self.tails[1:]]
        lows = [0, *(0 if span is None else span.lo for span in spans)]
        highs = [-1, *(-1 if span is None else span.hi for span in spans)]
        return np.array(lows, dtype=np.int64), np.array(highs, dtype=np.int64)

    @cached_property
    def token_node(self) -> np.ndarray:
        """The node of each of ``tokens``."""
        return np.repeat(np.arange(self.n_nodes, dtype=np.int32), self.n_tokens)

    @cached_property
    def part_node(self) -> np.ndarray:
        """The node of each of ``part_tokens``."""
        return np.repeat(np.arange(self.n_nodes, dtype=np.int32), self.n_parts)

    @cached_property
    def lead_number(self) -> dict[bytes, int]:
        """Root of each ``lead``."""
        return {lead: i for i, lead in enumerate(self.leads)}

    @cached_property
    def char_number(self) -> dict[str, int]:
        """Position of each character in ``chars``."""
        return {chr(c): i for i, c in enumerate(self.chars.tolist())}

    def child(self, node: int, char: str) -> int | None:
        """The node after ``node`` by ``char``, None if no token goes there."""
        number = self.char_number.get(char)
        if number is None:
            return None
        first = int(self.first_child[node])
        row = self.node_char[first : first + int(self.n_children[node])]
        at = int(np.searchsorted(row, number))
        return first + at if at < len(row) and row[at] == number else None

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest legal token."""
        cuts = (cut for cut in self.cuts if cut is not None)
        sizes = (len(cut.lead) + len(cut.chars.encode()) + len(cut.tail) for cut in cuts)
        return max(sizes, default=1)

    @cached_property
    def byte_token(self) -> dict[int, int]:
        """A token for each byte that has one alone."""
        out = {}
        for i, cut in enumerate(self.cuts):
            if cut is not None:
                raw = cut.lead + cut.chars.encode() + cut.tail
                if len(raw) == 1:
                    out.setdefault(raw[0], i)
        return out


def _by_node(
    ids: np.ndarray, node: np.ndarray, chosen: np.ndarray, n_nodes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The chosen tokens sorted by node, where each node's begin, and how many it has."""
    order = np.argsort(node[chosen], kind="stable")
    count = np.bincount(node[chosen], minlength=n_nodes)
    return ids[chosen][order], (np.cumsum(count) - count).astype(np.int32), count.astype(np.int32)


def _byte_twins(tokenizer: Tokenizer, table: list[bytes | None]) -> list[int]:
    """SentencePiece byte tokens, such as ``<0x41>``, whose text another token has too."""
    holders: dict[bytes, list[int]] = {}
    for i, raw in enumerate(table):
        if raw is not None and len(raw) == 1:
            holders.setdefault(raw, []).append(i)
    out = []
    for raw, ids in holders.items():
        names = tokenizer.hf.convert_ids_to_tokens(ids)
        byte_ids = [i for i, name in zip(ids, names, strict=True) if name == f"<0x{raw[0]:02X}>"]
        if len(byte_ids) < len(ids):
            out.extend(byte_ids)
    return out
