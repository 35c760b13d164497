"""Bringing a text to a legal end before its tokens run out: automata.

Near the end of the budget the mask is narrowed to the tokens after which an end is still in
reach. The model goes on choosing among those, up to the last token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglnb.runtime.constraints.base import Closer
from sglnb.runtime.constraints.distance import Distances
from sglnb.runtime.constraints.masks import Mask, TokenMasks

if TYPE_CHECKING:
    from sglnb.runtime.constraints.fsm import FSMCursor

_MAX_CACHE_BYTES = 16 << 20


class FSMCloser(Closer):
    """Keeps an end of one automaton in reach. Without a state of its own: requests share it.

    Args:
        masks: of the automaton.
        distances: how far the ends are. As long as one is in reach by them, it stays so.
    """

    def __init__(self, masks: TokenMasks, distances: Distances):
        self.distances = distances
        self._masks = masks
        self._farthest = distances.farthest
        self._after: dict[tuple[int, bytes], int] = {}
        self._narrow: dict[tuple[int, bytes, int], Mask] = {}

    def legal(self, cursor: FSMCursor, left: int) -> Mask | None:
        if left > self._farthest or cursor.ended:
            return None
        state, begun = cursor.place
        worst = self._after.get((state, begun))
        if worst is not None and worst < left:
            return None
        mask = self._narrow.get((state, begun, left))
        if mask is None:
            mask = self._compute(state, begun, left)
        return mask if 0 < mask.count < cursor.allowed_count else None

    def _compute(self, state: int, begun: bytes, left: int) -> Mask:
        legal, worst = self._masks.nothing(), 0
        for part in self._masks.parts(state):
            for landing in self._masks.landings(part, begun):
                tokens = self.distances.of_landing(landing)
                worst = max(worst, int(tokens.max(initial=0)))
                legal[landing.tokens[tokens < left]] = True
        mask = self._masks.pack(legal, ends=self._masks.is_end(state, begun))
        if self.nbytes > _MAX_CACHE_BYTES:
            self._narrow.clear()
        self._after[state, begun] = worst
        self._narrow[state, begun, left] = mask
        return mask

    def keeps(self, cursor: FSMCursor, token: int, left: int) -> bool:
        return cursor.ended or self.distances.of(*cursor.place) <= left

    @property
    def nbytes(self) -> int:
        """Memory that the narrowed masks take."""
        return len(self._narrow) * self._masks.mask_bytes
