"""Jump-forward: text that the automaton leaves no choice about is not sampled.

Where a state is not final and has one exit by one character, that character is certain; a
chain of such states is a certain text. Its *tokens* are not certain yet: the canonical
encoding may join the end of that text to what follows, and a model is used to canonical
tokens. So the encoding of (recent text + certain text) is taken, and its tail is held back:
every token that some legal continuation could still extend. Nothing is ever taken back.

The hold-back rule follows llguidance and mlc-llm; SGLang's own re-encoded all and rewound.
"""

from __future__ import annotations

from sglnb.runtime.constraints.dfa import DFA
from sglnb.runtime.constraints.masks import TokenMasks
from sglnb.runtime.constraints.spelling import RECENT, Spelling, common_prefix
from sglnb.runtime.constraints.vocabulary import Vocabulary
from sglnb.runtime.tokenizer import Tokenizer

_MAX_TEXT = 2_000
_MAX_CACHED = 4_096
_COMMON = 'e1 a."\n中'
_MAX_SAMPLES = 8
_SAMPLE_LENGTH = 6


class JumpForward:
    """The certain text and the certain tokens after each state of one automaton."""

    def __init__(self, masks: TokenMasks, dfa: DFA, vocabulary: Vocabulary, tokenizer: Tokenizer):
        self._masks = masks
        self._dfa = dfa
        self._vocabulary = vocabulary
        self.spelling = Spelling(vocabulary, tokenizer)
        self.spell = self.spelling.spell
        self._texts: dict[int, tuple[str, int]] = {}
        self._stable: dict[int, int] = {}
        self._sampled: dict[int, list[str]] = {}
        self._tokens: dict[tuple[int, tuple[int, ...]], list[int]] = {}

    @property
    def nbytes(self) -> int:
        """Memory that the answers kept take, about."""
        return 500 * (len(self._tokens) + len(self._sampled) + len(self._texts))

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
        recent = tuple(recent_ids[-RECENT:])
        known = self._tokens.get((state, recent))
        if known is None:
            known = self._encode_stable(state, recent)
            if len(self._tokens) >= _MAX_CACHED:
                self._tokens.clear()
            self._tokens[state, recent] = known
        return known.copy()

    def _encode_stable(self, state: int, recent: tuple[int, ...]) -> list[int]:
        text, landing = self._chain(state)
        before = self.spelling.text_of(recent)
        limit = len(text[: self._stable_length(state, before)].encode())
        if not limit:
            return []
        ids = self.spelling.after(before, text)
        if ids is None:
            before = ""
            ids = self.spelling.after(before, text) or []
        for sample in self._samples(landing):
            ids = common_prefix(ids, self.spelling.after(before, text + sample) or [])
        raw = text.encode()
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
            ends_character = spelled == len(raw) or raw[spelled] & 0xC0 != 0x80
            if ends_character and self._can_finish(state, len(raw[:spelled].decode())):
                whole = len(out)
        return out[:whole]

    def _can_finish(self, state: int, n_chars: int) -> bool:
        """Whether tokens lead to an end from ``n_chars`` further on in the certain text."""
        if self._masks.live is None:
            return True
        for _ in range(n_chars):
            (state,) = self._dfa.rows[state].values()
        return (state, b"") in self._masks.live

    # -- what to hold back -----------------------------------------------------------------

    def _stable_length(self, state: int, before: str) -> int:
        """How many characters of the certain text no legal continuation can re-encode."""
        text, landing = self._chain(state)
        if not self._dfa.rows[landing]:
            return len(text)
        known = self._stable.get(state)
        if known is None:
            longest = len(self._vocabulary.levels)
            starts = range(max(0, len(text) - longest), len(text))
            runs_on = (i for i in starts if self._runs_on(text, i, landing))
            known = self._stable[state] = next(runs_on, len(text))
        # Tokenizers cut a run of spaces by what comes after it, in ways that no single token
        # shows; only a lone space is safe.
        words = len(text.rstrip())
        alone = words == len(text) - 1 and not (words == 0 and before[-1:].isspace())
        return known if alone else min(known, words)

    def _samples(self, landing: int) -> list[str]:
        """Some ways to go on from ``landing``, a few characters each. What the vocabulary
        alone does not show, such as a merge that moves an earlier boundary, shows on these."""
        known = self._sampled.get(landing)
        if known is None:
            known = self._sampled[landing] = [
                self._extend(char, target) for char, target in self._some_exits(landing)
            ]
        return known

    def _some_exits(self, state: int) -> list[tuple[str, int]]:
        row, alphabet = self._dfa.rows[state], self._dfa.alphabet
        common = {c: alphabet.class_of(ord(c)) for c in _COMMON}
        out = {c: row[number] for c, number in common.items() if number in row}
        seen = set(common.values())
        rare = [(chr(alphabet.sets[c][0][0]), t) for c, t in row.items() if c not in seen]
        return [*out.items(), *rare][:_MAX_SAMPLES]

    def _extend(self, text: str, state: int) -> str:
        while len(text) < _SAMPLE_LENGTH and (exits := self._some_exits(state)):
            char, state = exits[0]
            text += char
        return text

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
