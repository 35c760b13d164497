"""Jump-forward: text that the automaton leaves no choice about is not sampled.

Where a state is not final and has one exit by one character, that character is certain; a
chain of such states is a certain text. Its *tokens* are not certain yet: the canonical
encoding may join the end of that text to what follows, and a model is used to canonical
tokens. So the encoding of (recent text + certain text) is taken, and its tail is held back:
every token that some legal continuation could still extend. Nothing is ever taken back.

The hold-back rule follows llguidance and mlc-llm; SGLang's own re-encoded all and rewound.
"""

from __future__ import annotations

import numpy as np

from sglnb.runtime.constraints.dfa import DFA
from sglnb.runtime.constraints.masks import TokenMasks
from sglnb.runtime.constraints.vocabulary import Vocabulary
from sglnb.runtime.tokenizer import Tokenizer

_RECENT = 8
"""How many recent tokens can change the encoding of what follows them, at most."""
_MAX_TEXT = 2_000
_MAX_CACHED = 4_096
_ANCHOR = "\n"


class JumpForward:
    """The certain text and the certain tokens after each state of one automaton."""

    def __init__(self, masks: TokenMasks, dfa: DFA, vocabulary: Vocabulary, tokenizer: Tokenizer):
        self._masks = masks
        self._dfa = dfa
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._texts: dict[int, tuple[str, int]] = {}
        self._stable: dict[int, int] = {}
        self._tokens: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        self._anchored = vocabulary.adds_space

    # -- the text --------------------------------------------------------------------------

    def text(self, state: int) -> str:
        """The certain text after ``state``; long ones are cut, the rest follows later."""
        return self._chain(state)[0]

    def _chain(self, state: int) -> tuple[str, int]:
        known = self._texts.get(state)
        if known is None:
            chars = []
            at = state
            while len(chars) < _MAX_TEXT and (exit_ := self._dfa.only_exit(at)):
                chars.append(exit_[0])
                at = exit_[1]
            known = self._texts[state] = ("".join(chars), at)
        return known

    # -- the tokens ------------------------------------------------------------------------

    def tokens(self, state: int, recent_ids: list[int]) -> list[int]:
        """Tokens of the certain text after ``state`` that no continuation can change.

        Args:
            recent_ids: the tokens before it; the last few are looked at.
        """
        if not self.text(state):
            return []
        recent = tuple(recent_ids[-_RECENT:])
        known = self._tokens.get((state, recent))
        if known is None:
            known = self._encode_stable(state, recent)
            if len(self._tokens) >= _MAX_CACHED:
                self._tokens.clear()
            self._tokens[state, recent] = known
        return known.copy()

    def _encode_stable(self, state: int, recent: tuple[int, ...]) -> list[int]:
        text = self.text(state)
        before = self._text_of(recent)
        stable = self._stable_length(state)
        if len(text) - len(text.rstrip()) > 1 or (
            text[-1:].isspace() and not text.strip() and before[-1:].isspace()
        ):
            # Where a run of spaces is cut depends on what comes after it.
            stable = min(stable, len(text.rstrip()))
        limit = len(text[:stable].encode())
        ids = self._continue(before, text)
        if ids is None:
            ids = self._continue("", text) or []
        out: list[int] = []
        whole = spelled = 0  # tokens and bytes; ``whole`` ends at a whole character
        for token in ids:
            cut = self._vocabulary.cuts[token]
            if cut is None:
                break
            spelled += len(cut.lead) + len(cut.chars.encode()) + len(cut.tail)
            if spelled > limit:
                break
            out.append(token)
            if not cut.tail and self._ends_character(text, spelled):
                whole = len(out)
        return self._only_live(state, out[:whole])

    def _ends_character(self, text: str, n_bytes: int) -> bool:
        raw = text.encode()
        return n_bytes == len(raw) or raw[n_bytes] & 0xC0 != 0x80

    def _only_live(self, state: int, ids: list[int]) -> list[int]:
        """For a vocabulary that lacks bytes: not into states that it cannot leave."""
        if self._masks.live is None:
            return ids
        at, kept = state, 0
        for n, token in enumerate(ids, 1):
            for char in self._vocabulary.cuts[token].chars:
                at = self._dfa.rows[at][self._dfa.alphabet.class_of(ord(char))]
            if (at, b"") in self._masks.live:
                kept = n
        return ids[:kept]

    def _text_of(self, recent: tuple[int, ...]) -> str:
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

    def _continue(self, before: str, text: str) -> list[int] | None:
        """Canonical ids of ``text`` after ``before``; None if a token spans the seam, or if
        the tokenizer does not keep the text as it is."""
        anchor = _ANCHOR if self._anchored else ""
        ids = self._tokenizer.encode_plain(anchor + before + text)
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
        ids = self._continue("", text)
        if ids is not None and all(self._vocabulary.cuts[i] is not None for i in ids):
            return ids
        return [self._vocabulary.byte_token.get(byte, -1) for byte in raw]

    # -- what to hold back -----------------------------------------------------------------

    def _stable_length(self, state: int) -> int:
        """How many characters of the certain text are before the first token that could run
        past its end into a legal continuation."""
        known = self._stable.get(state)
        if known is None:
            text, landing = self._chain(state)
            known = len(text)
            if self._dfa.rows[landing]:
                known = next(
                    (i for i in self._starts(text) if self._runs_on(text, i, landing)), known
                )
            self._stable[state] = known
        return known

    def _starts(self, text: str) -> range:
        longest = len(self._vocabulary.levels)
        return range(max(0, len(text) - longest), len(text))

    def _runs_on(self, text: str, start: int, landing: int) -> bool:
        """Whether a token that begins in the character at ``start`` spells the rest of the
        text and then something legal from ``landing``."""
        first = text[start].encode()
        heads = [
            (self._vocabulary.lead_number.get(first[i:]), start + 1) for i in range(1, len(first))
        ]
        for node, at in [(0, start), *heads]:
            for char in text[at:]:
                if node is None:
                    break
                node = self._vocabulary.child(node, char)
            if node is not None and self._masks.any_below(node, landing):
                return True
        return False
