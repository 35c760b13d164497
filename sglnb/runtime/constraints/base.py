"""What the engine knows of a constraint: one compiled object, one cursor per request.

The engine never asks what kind of constraint it holds. A regular constraint is ours
(``fsm.py``), a grammar or a JSON schema is llguidance's (``llg.py``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from sglnb.runtime.constraints.graph import Graphs
    from sglnb.runtime.constraints.spelling import Spelling


class Constraint(ABC):
    """A compiled constraint: immutable, shared by every request that uses it.

    Attributes:
        kind: what the user wrote: ``"regex"``, ``"choices"``, ``"json_schema"``, ``"type"``,
            ``"grammar"``, ``"ebnf"``, ``"tools"`` or ``"expression"``.
        source: the regex or the grammar, the choices or the schema as JSON, the type's name, the
            tools, the type and the names of an expression.
        n_states: number of automaton states; None where there are none to count, or where they
            are made as texts reach them.
        compile_ms: how long the compilation took, in milliseconds.
        min_tokens: no text that satisfies it has fewer tokens; a lower bound.
        spelling: texts as the tokenizer writes them.
        warnings: what is not enforced while the text is written (``lenient=True``), in words;
            :meth:`check` finds it in the finished text.
    """

    kind: str
    source: str
    n_states: int | None
    compile_ms: float
    spelling: Spelling
    min_tokens: int = 0
    warnings: tuple[str, ...] = ()

    @abstractmethod
    def start(self) -> Cursor:
        """A fresh cursor, before the first token."""

    @abstractmethod
    def accepts(self, text: str) -> bool:
        """Whether a model could write exactly ``text``: token by token through the masks,
        in the tokenizer's own encoding, with the end of the text allowed after it."""

    @abstractmethod
    def graph(self) -> Graphs | None:
        """The automaton to draw, plain and compressed; None where there is none (a grammar's
        parser makes its states as it goes)."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory that it takes now, about; masks are added while it is used."""

    @abstractmethod
    def at_least(self, budget: int) -> int:
        """No text that satisfies it has fewer tokens. Over ``budget`` if no text fits in that many,
        as far as it is known."""

    @abstractmethod
    def closer(self, budget: int) -> Closer | None:
        """What keeps a legal end within ``budget`` tokens; None if no such end is known."""

    def check(self, text: str) -> None:
        """Look for what was not enforced in a finished ``text``.

        Raises:
            ConstraintError: the text breaks it.
        """
        return

    # -- pictures --------------------------------------------------------------------------

    def to_dot(self) -> str:
        """The compressed automaton for Graphviz."""
        from sglnb.viz.constraint_export import constraint_dot

        return constraint_dot(self)

    def to_svg(self) -> str:
        """The compressed automaton as SVG: by ``dot`` where it is installed, else our own."""
        from sglnb.viz.constraint_export import constraint_svg

        return constraint_svg(self)

    def to_html(self) -> str:
        """One self-contained page with the automaton; needs no network."""
        from sglnb.viz.constraint_export import constraint_page

        return constraint_page(self)

    def to_text(self) -> str:
        """The automaton for a terminal: each state with its ways on."""
        from sglnb.viz.constraint_export import constraint_text

        return constraint_text(self)

    def __repr__(self) -> str:
        from sglnb.viz.text import one_line

        states = "" if self.n_states is None else f", {self.n_states:,} states"
        return f"Constraint({self.kind}: {one_line(self.source[:60])}{states})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from sglnb.viz.constraint_export import constraint_html

        return {"text/plain": self.to_text(), "text/html": constraint_html(self)}


class Cursor(ABC):
    """Where one request stands in its constraint. Cheap to make and to copy; not for use
    by two threads at once."""

    @abstractmethod
    def allowed(self) -> np.ndarray:
        """The legal next tokens as packed bits: int32, ``ceil(vocab_size / 32)`` long, token
        ``i`` is bit ``i % 32`` of word ``i // 32``. Shared between requests: read-only."""

    @property
    @abstractmethod
    def allowed_count(self) -> int:
        """How many tokens are legal next."""

    @abstractmethod
    def allows(self, token: int) -> bool:
        """Whether ``token`` is legal next."""

    @abstractmethod
    def advance(self, token: int) -> None:
        """Take one token.

        Raises:
            ConstraintError: ``token`` is not legal here; the cursor has not moved.
        """

    def advance_many(self, tokens: list[int]) -> None:
        """Take several tokens, all or none.

        Raises:
            ConstraintError: one of them is not legal; the cursor has not moved.
        """
        for taken, token in enumerate(tokens):
            try:
                self.advance(token)
            except ValueError:
                self.rollback(taken)
                raise

    @abstractmethod
    def rollback(self, n: int) -> None:
        """Undo the last ``n`` tokens.

        Raises:
            ValueError: fewer than ``n`` tokens were taken.
        """

    @abstractmethod
    def copy(self) -> Cursor:
        """An independent cursor in the same place, with the same past."""

    @abstractmethod
    def forced(self) -> str:
        """The text that every legal continuation starts with, up to the next choice or legal
        end. Empty inside a character."""

    @abstractmethod
    def forced_tokens(self, recent_ids: list[int]) -> list[int]:
        """Tokens that may be appended without asking the model (see ``jump.py``).

        Args:
            recent_ids: the prompt and output so far, or just its last tokens.
        """

    @property
    @abstractmethod
    def is_final(self) -> bool:
        """Whether the text may end here."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the text must end here: stop without another step."""

    @property
    @abstractmethod
    def state(self) -> int | None:
        """Number of the automaton state, as in :meth:`Constraint.graph`; None without one."""


class Closer(ABC):
    """Keeps a legal end in reach of one request, as late as can be. ``left`` is always the number
    of tokens that may still come."""

    def legal(self, cursor: Cursor, left: int) -> Mask | None:
        """The tokens that leave an end in reach; None: all that the cursor allows, or this closer
        only looks when a token was taken."""
        return None

    @abstractmethod
    def keeps(self, cursor: Cursor, token: int, left: int) -> bool:
        """Whether an end is in reach from ``cursor``, which has just taken ``token``. If not, it
        has to be taken back, for :meth:`legal` or :meth:`way`."""

    def way(self, left: int) -> list[int]:
        """Tokens to write now instead of asking the model; empty: ask it."""
        return []

    def instead(self) -> list[int]:
        """The token to write in place of one that :meth:`keeps` refused; empty: there is none."""
        return []


class Mask(NamedTuple):
    """Legal tokens as packed bits, and how many they are."""

    words: np.ndarray
    count: int
