"""Regular constraints: an automaton, its token masks and where a request stands in them."""

from __future__ import annotations

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.base import Constraint, Cursor
from sglnb.runtime.constraints.closing import FSMCloser
from sglnb.runtime.constraints.dfa import DFA
from sglnb.runtime.constraints.distance import Best, Bounds, Distances, Place, Spelled
from sglnb.runtime.constraints.graph import Graphs, draw
from sglnb.runtime.constraints.jump import JumpForward
from sglnb.runtime.constraints.masks import Mask, TokenMasks
from sglnb.runtime.constraints.once import once
from sglnb.runtime.constraints.vocabulary import Vocabulary, utf8_span
from sglnb.runtime.tokenizer import Tokenizer


class FSMConstraint(Constraint):
    """A finite automaton over characters, applied to tokens.

    The state of a request is an automaton state and the bytes of a character that the last
    token began.

    Args:
        least_bytes: of the shortest text.
    """

    def __init__(
        self,
        kind: str,
        source: str,
        dfa: DFA,
        least_bytes: int,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
    ):
        self.kind = kind
        self.source = source
        self.dfa = dfa
        self.least_bytes = least_bytes
        self.n_states = len(dfa) if dfa.complete else None
        self.compile_ms = 0.0
        self.vocabulary = vocabulary
        self.masks = TokenMasks(vocabulary, dfa)
        self.jump = JumpForward(self.masks, dfa, vocabulary, tokenizer)
        self.spelling = self.jump.spelling
        if not vocabulary.has_all_bytes:
            self.masks.live = self._live_places()

    @once
    def _distances(self) -> Distances:
        return Bounds(self.dfa, self.vocabulary)

    def start(self) -> FSMCursor:
        return FSMCursor(self)

    def accepts(self, text: str) -> bool:
        cursor = self.start()
        for token in self.jump.spell(text):
            if not cursor.allows(token):
                return False
            cursor.advance(token)
        return cursor.is_final

    def graph(self) -> Graphs:
        return self._graphs if self.dfa.complete else draw(self.dfa)

    @once
    def _graphs(self) -> Graphs:
        return draw(self.dfa)

    def step(self, state: int, pending: bytes, token: int) -> tuple[int, bytes] | None:
        """Where ``token`` leads, None if it is no legal text here."""
        cut = self.vocabulary.cuts[token] if 0 <= token < self.vocabulary.size else None
        if cut is None:
            return None
        at: int | None = state
        rows, class_of = self.dfa.rows, self.dfa.alphabet.class_of
        if bool(pending) != bool(cut.lead):
            return None
        if pending:
            begun = pending + cut.lead
            span = utf8_span(begun)
            if span is None:
                return None
            if span.missing:
                whole = not cut.chars and not cut.tail
                return (state, begun) if whole and self.masks.leads_on(state, begun) else None
            at = rows[state].get(class_of(span.lo))
            if at is None:
                return None
        for char in cut.chars:
            at = rows[at].get(class_of(ord(char)))
            if at is None:
                return None
        if cut.tail and not self.masks.leads_on(at, cut.tail):
            return None
        return at, cut.tail

    def _live_places(self) -> set[Place]:
        """The places that can finish, for a vocabulary that lacks some bytes.

        With all 256 bytes every state of a trimmed automaton can; without them a text may be
        legal and yet not spellable, so the tokens themselves are followed.
        """
        try:
            self._distances = Spelled(self.masks, self.dfa, self.vocabulary)
        except OverflowError:
            raise ConstraintError(
                f"{self.kind}: this tokenizer cannot spell every text, and the automaton "
                "is too large to tell whether one that it can spell is left"
            ) from None
        if (0, b"") not in self._distances.known:
            raise ConstraintError(
                f"{self.kind}: the tokenizer cannot spell any text that matches; it lacks some "
                "of the characters"
            )
        return set(self._distances.known)

    # -- the budget ------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        masks = self.masks.nbytes + (self._closer.nbytes if "_closer" in vars(self) else 0)
        return masks + self.dfa.nbytes + self.jump.nbytes

    def at_least(self, budget: int) -> int:
        a_byte_each = self.vocabulary.has_all_bytes and self.least_bytes <= budget
        if budget < self.min_tokens or a_byte_each or self._distances.of(0, b"") <= budget:
            return self.min_tokens
        if isinstance(self._distances, Spelled):
            return self._distances.of(0, b"")
        return self.min_tokens if self._best is None else self._best.least

    def closer(self, budget: int) -> FSMCloser | None:
        closer = self._closer
        return closer if closer.distances.of(0, b"") <= budget else None

    @once
    def _closer(self) -> FSMCloser:
        return FSMCloser(self.masks, self._best or self._distances)

    @once
    def _best(self) -> Best | None:
        if isinstance(self._distances, Spelled) or not self.dfa.complete:
            return None
        try:
            return Best(self.dfa, self.vocabulary, self.masks)
        except OverflowError:
            return None


class FSMCursor(Cursor):
    """A place in an :class:`FSMConstraint`, with the way back."""

    __slots__ = ("_ended", "_fsm", "_past", "_pending", "_state")

    def __init__(self, fsm: FSMConstraint):
        self._fsm = fsm
        self._state = 0
        self._pending = b""
        self._ended = False
        self._past: list[tuple[int, bytes, bool]] = []

    @property
    def _mask(self) -> Mask:
        if self._ended:
            return self._fsm.masks.only_eos
        return self._fsm.masks(self._state, self._pending)

    def allowed(self):
        return self._mask.words

    @property
    def allowed_count(self) -> int:
        return self._mask.count

    def allows(self, token: int) -> bool:
        if not 0 <= token < self._fsm.vocabulary.size:
            return False
        return bool(self._mask.words[token >> 5] >> (token & 31) & 1)

    def advance(self, token: int) -> None:
        if token in self._fsm.vocabulary.eos_ids:
            there = (self._state, b"") if self.is_final else None
            ended = True
        else:
            there = None if self._ended else self._fsm.step(self._state, self._pending, token)
            ended = False
            live = self._fsm.masks.live
            if there is not None and live is not None and there not in live:
                there = None
        if there is None:
            raise ConstraintError(
                f"token {token} is not allowed in state {self._state} of the {self._fsm.kind} "
                f"constraint {self._fsm.source[:80]!r}"
            )
        self._past.append((self._state, self._pending, self._ended))
        self._state, self._pending = there
        self._ended = ended

    def rollback(self, n: int) -> None:
        if not 0 <= n <= len(self._past):
            raise ValueError(f"rollback: {n} tokens asked for, {len(self._past)} were taken")
        if n:
            self._state, self._pending, self._ended = self._past[-n]
            del self._past[-n:]

    def copy(self) -> FSMCursor:
        twin = FSMCursor(self._fsm)
        twin._state, twin._pending, twin._ended = self._state, self._pending, self._ended
        twin._past = self._past.copy()
        return twin

    def forced(self) -> str:
        if self._pending or self._ended:
            return ""
        return self._fsm.jump.text(self._state)

    def forced_tokens(self, recent_ids: list[int]) -> list[int]:
        if self._pending or self._ended:
            return []
        return self._fsm.jump.tokens(self._state, recent_ids)

    @property
    def is_final(self) -> bool:
        return not self._pending and self._state in self._fsm.dfa.final

    @property
    def done(self) -> bool:
        return self._ended or (self.is_final and not self._fsm.dfa.rows[self._state])

    @property
    def state(self) -> int:
        return self._state

    @property
    def place(self) -> Place:
        """The automaton state, and the bytes of a character that the last token began."""
        return self._state, self._pending

    @property
    def ended(self) -> bool:
        """Whether the end of the text was taken."""
        return self._ended
