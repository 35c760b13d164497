"""Constraints that are no regular language: grammars and JSON schemas, through llguidance.

llguidance parses with Earley over a lexer of regex derivatives and computes each mask when it
is asked for. Compiling takes about a millisecond, whatever the vocabulary; what it knows of
itself is one *matcher*, which a request copies. It never raises: a matcher that meets an error
holds it from then on, so nothing is given to it that it has not allowed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import llguidance
import numpy as np

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.base import Constraint, Cursor, Mask
from sglnb.runtime.constraints.grammar import told
from sglnb.runtime.constraints.llg_closing import (
    FIRST_LOOKS,
    LONGEST_WAY,
    LLGCloser,
    may_end,
    shortest,
)
from sglnb.runtime.constraints.llg_vocabulary import LLGVocabulary
from sglnb.runtime.constraints.once import once
from sglnb.runtime.constraints.spelling import RECENT, common_prefix
from sglnb.runtime.tokenizer import Tokenizer

_SPECIAL = b"\xff"
"""Begins a special token among forced bytes."""
_MATCHER_BYTES = 2 << 20
"""llguidance does not tell what a grammar takes; 0 to 3 MB were measured."""
_ENDLESS = 20_000
"""A text of more bytes than this that is forced from the start on is taken to have no end."""


class LLGConstraint(Constraint):
    """A grammar in llguidance's own form, compiled for one tokenizer.

    Args:
        grammar: Lark, as :mod:`.grammar` and :mod:`.schema` make it.
        warnings: what it does not enforce.
        check: raises ConstraintError for a finished text that breaks what is not enforced.
        vocabulary, tokenizer: of the model.

    Raises:
        ConstraintError: the grammar does not compile, or no text can satisfy it.
    """

    n_states = None

    def __init__(
        self,
        kind: str,
        source: str,
        grammar: str,
        vocabulary: LLGVocabulary,
        tokenizer: Tokenizer,
        *,
        warnings: tuple[str, ...] = (),
        check: Callable[[str], None] | None = None,
    ):
        self.kind, self.source, self.warnings = kind, source, warnings
        self.compile_ms = 0.0
        self.vocabulary, self.tokenizer = vocabulary, tokenizer
        self.spelling = vocabulary.spelling
        self._check = check
        self._matcher = llguidance.LLMatcher(vocabulary.tokenizer, grammar, log_level=0)
        raise_error(self._matcher, kind)
        self._matcher.compute_bitmask()  # finds what can never begin, and warms up every copy
        if self._matcher.is_error():
            raise ConstraintError(f"{kind}: no text can satisfy it: {source[:200]!r}")
        forced = self._matcher.compute_ff_bytes().partition(_SPECIAL)[0]
        if len(forced) > _ENDLESS:
            raise ConstraintError(
                f"{kind}: its texts have no end, a rule calls itself with no way out (more than "
                f"{_ENDLESS:,} bytes are certain): {source[:200]!r}"
            )
        self.least_bytes = len(forced)

    def start(self) -> LLGCursor:
        return LLGCursor(self, self._matcher.deep_copy())

    def accepts(self, text: str) -> bool:
        spellings = [self.vocabulary.spelling.spell(text)]
        if self.vocabulary.names_special(text):
            spellings.append(self.vocabulary.spell(text))
        return any(map(self._takes, spellings))

    def _takes(self, ids: list[int]) -> bool:
        matcher = self._matcher.deep_copy()
        return -1 not in ids and matcher.try_consume_tokens(ids) == len(ids) and may_end(matcher)

    def graph(self) -> None:
        """None: an Earley parser has no fixed states to draw."""

    @once
    def _shortest(self) -> list[int] | None:
        """The shortest text that was found, as tokens."""
        return shortest(self._matcher, self.vocabulary, LONGEST_WAY, FIRST_LOOKS)

    @property
    def nbytes(self) -> int:
        return _MATCHER_BYTES

    def at_least(self, budget: int) -> int:
        return self.min_tokens

    def closer(self, budget: int) -> LLGCloser | None:
        way = self._shortest
        if way is not None and len(way) > budget:
            way = shortest(self._matcher, self.vocabulary, budget, FIRST_LOOKS)
            if way is None:
                return None
        return LLGCloser(self.vocabulary, way, budget)

    def check(self, text: str) -> None:
        if self._check is not None:
            self._check(text)


class LLGCursor(Cursor):
    """A place in an :class:`LLGConstraint`. The end of the text is kept here: the matcher only
    ever takes tokens before it."""

    __slots__ = ("_constraint", "_mask", "_matcher", "_past")

    def __init__(self, constraint: LLGConstraint, matcher: llguidance.LLMatcher):
        self._constraint = constraint
        self._matcher = matcher
        self._past: list[bool] = []  # for each token whether it was the end of the text
        self._mask: Mask | None = None

    @property
    def ended(self) -> bool:
        """Whether the end of the text was taken."""
        return bool(self._past) and self._past[-1]

    @property
    def _legal(self) -> Mask:
        if self._mask is None:
            vocabulary = self._constraint.vocabulary
            words = vocabulary.only_eos
            if not self.ended:
                words = vocabulary.words(self._matcher.compute_bitmask())
                raise_error(self._matcher, self._constraint.kind)
                words.setflags(write=False)
            self._mask = Mask(words, int.from_bytes(words.tobytes(), "little").bit_count())
        return self._mask

    def allowed(self) -> np.ndarray:
        return self._legal.words

    @property
    def allowed_count(self) -> int:
        return self._legal.count

    def allows(self, token: int) -> bool:
        constraint = self._constraint
        if token in constraint.vocabulary.base.eos_ids and self.is_final:
            return True
        return (
            not self.ended
            and 0 <= token < constraint.vocabulary.base.size
            and self._matcher.validate_tokens([token]) == 1
        )

    def advance(self, token: int) -> None:
        if not self.allows(token):
            constraint = self._constraint
            raise ConstraintError(
                f"token {token} is not allowed after {len(self._past)} tokens of the "
                f"{constraint.kind} constraint {constraint.source[:80]!r}"
            )
        ends = self.is_final and token in self._constraint.vocabulary.base.eos_ids
        if not ends:
            self._matcher.consume_token(token)
            raise_error(self._matcher, self._constraint.kind)
        self._past.append(ends)
        self._mask = None

    def rollback(self, n: int) -> None:
        if not 0 <= n <= len(self._past):
            raise ValueError(f"rollback: {n} tokens asked for, {len(self._past)} were taken")
        if n:
            self._matcher.rollback(self._past[-n:].count(False))
            raise_error(self._matcher, self._constraint.kind)
            del self._past[-n:]
            self._mask = None

    def copy(self) -> LLGCursor:
        twin = LLGCursor(self._constraint, self._matcher.deep_copy())
        twin._past, twin._mask = self._past.copy(), self._mask
        return twin

    def forced(self) -> str:
        if self.ended:
            return ""
        text = self._matcher.compute_ff_bytes().partition(_SPECIAL)[0]
        return _whole(text) if not _is_continuation(text) else ""

    def forced_tokens(self, recent_ids: list[int]) -> list[int]:
        # The bytes first: without "forcing" the tokens are those of the bytes it knows of.
        raw = b"" if self.ended else self._matcher.compute_ff_bytes()
        ids = self._matcher.compute_ff_tokens() if raw else []
        table = self._constraint.tokenizer.token_bytes
        if ids and _SPECIAL not in raw and all(table[i] is not None for i in ids):
            ids = self._without_open_word(ids, raw)
            if len(self._past) < RECENT:
                ids = self._after_prompt(ids, tuple(recent_ids[-RECENT:]))
        return self._up_to_a_character(ids)

    def _without_open_word(self, ids: list[int], raw: bytes) -> list[int]:
        """``ids`` without those of a word at the end of ``raw`` that may go on.

        llguidance holds back what one token could extend. What comes behind a word can move the
        boundaries inside it too: Llama 2 writes ``é cat`` but ``éc ategory``. See ``jump.py``.
        """
        text = _whole(raw)
        word = "".join(itertools.takewhile(str.isalnum, reversed(text)))
        if not word:
            return ids
        sizes = [len(self._constraint.tokenizer.token_bytes[i]) for i in ids]
        if sum(sizes) == len(raw):
            probe = self._matcher.deep_copy()
            if probe.consume_tokens(ids) and probe.is_stopped():
                return ids  # nothing comes behind it
        sure = len(text.encode()) - len(word.encode())
        return [i for i, end in zip(ids, itertools.accumulate(sizes), strict=True) if end <= sure]

    def _after_prompt(self, ids: list[int], recent: tuple[int, ...]) -> list[int]:
        """``ids`` as far as they are canonical behind the prompt, which llguidance has not
        seen."""
        text = b"".join(self._constraint.tokenizer.token_bytes[i] for i in ids)
        if _is_continuation(text) or len(_whole(text).encode()) != len(text):
            return ids
        spelling = self._constraint.vocabulary.spelling
        joint = spelling.after(spelling.text_of(recent), text.decode())
        return ids if joint is None else common_prefix(ids, joint)

    def _up_to_a_character(self, ids: list[int]) -> list[int]:
        """``ids`` without those that would end inside a character."""
        table = self._constraint.tokenizer.token_bytes
        raw, whole = b"", 0
        for n, token in enumerate(ids, 1):
            raw += table[token] or b""
            if len(_whole(raw).encode()) == len(raw):
                raw, whole = b"", n
        return ids[:whole]

    @property
    def is_final(self) -> bool:
        return self.ended or may_end(self._matcher)

    @property
    def done(self) -> bool:
        return self.ended or (self._matcher.is_stopped() and may_end(self._matcher))

    @property
    def state(self) -> None:
        """None: there is no number for it."""

    @property
    def matcher(self) -> llguidance.LLMatcher:
        """Where it stands; not to be moved."""
        return self._matcher


def raise_error(matcher: llguidance.LLMatcher, kind: str) -> None:
    """Raise the error that ``matcher`` holds, if any, in one line."""
    if matcher.is_error():
        raise ConstraintError(f"{kind}: {told(matcher.get_error())}")


def _whole(raw: bytes) -> str:
    """The characters of ``raw``, less one that is only begun at its end."""
    return raw.decode(errors="ignore")


def _is_continuation(raw: bytes) -> bool:
    """Whether ``raw`` begins inside a character."""
    return bool(raw) and raw[0] & 0xC0 == 0x80
