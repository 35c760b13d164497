"""Which tokens an automaton allows: the trie of the vocabulary walked by the automaton.

The walk goes level by level through the trie. At each level it holds the nodes that are
still alive and the automaton state of each, and takes all their children in one step. Where
much of a level is alive (the inside of a string allows most tokens) it is cheaper to step to
all nodes of the level, dead or alive: that is one gather over flat arrays, with no list of
children to put together.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from sglnb.runtime.constraints.base import Mask
from sglnb.runtime.constraints.charset import runs
from sglnb.runtime.constraints.dfa import DFA
from sglnb.runtime.constraints.vocabulary import Vocabulary, utf8_span

_MAX_CACHE_BYTES = 64 << 20

_DENSE = 6
"""A node more in a list of children costs as much as this many in a flat array."""

_WIDE = 500
"""New states for one mask that are too many."""


class Landing(NamedTuple):
    """Tokens with the automaton state and the begun character that each leads to."""

    tokens: np.ndarray
    states: np.ndarray
    tails: np.ndarray


class TokenMasks:
    """The masks of one automaton over one vocabulary, computed when first asked for.

    Safe for several threads: the worst that can happen is the same work twice.
    """

    def __init__(self, vocabulary: Vocabulary, dfa: DFA):
        self._vocabulary = vocabulary
        self._dfa = dfa
        self._node_class = dfa.alphabet.classify(vocabulary.chars)[vocabulary.node_char]
        self._masks: dict[tuple[int, bytes], Mask] = {}
        self._shared: dict[bytes, np.ndarray] = {}
        self._in_parts = False
        self.live: set[tuple[int, bytes]] | None = None
        """The states from which tokens can reach an end; None: all of them."""

    def __call__(self, state: int, pending: bytes) -> Mask:
        """The mask in automaton state ``state`` with the bytes ``pending`` of a character."""
        key = (state, pending)
        mask = self._masks.get(key)
        if mask is None:
            mask = self._compute(state, pending)
            if self.nbytes > _MAX_CACHE_BYTES:
                self._masks, self._shared = {}, {}
            self._masks[key] = mask
        return mask

    @cached_property
    def _tail_classes(self) -> np.ndarray:
        """Whether each begun character may become one of each class, (classes, tails)."""
        lows, highs = self._vocabulary.tail_spans
        return self._dfa.alphabet.overlaps(lows, highs).astype(np.float32)

    @property
    def nbytes(self) -> int:
        """Memory that the masks take. Equal masks are stored once."""
        return len(self._shared) * self.mask_bytes

    @property
    def mask_bytes(self) -> int:
        """Memory of one mask."""
        return 4 * -(-self._vocabulary.size // 32)

    def _compute(self, state: int, pending: bytes) -> Mask:
        parts = self.parts(state)
        if len(parts) > 1:
            words = np.bitwise_or.reduce([self(part, pending).words for part in parts])
            legal = np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)
            return self.pack(legal, ends=False)
        legal, made = self.nothing(), len(self._dfa)
        for landing in self.landings(state, pending):
            legal[self._only_live(landing)] = True
        self._in_parts |= len(self._dfa) - made > _WIDE
        return self.pack(legal, ends=self.is_end(state, pending))

    def parts(self, state: int) -> list[int]:
        """States that together allow what ``state`` does. More than one where an automaton that
        makes its states on demand made too many for one mask: then the masks of the NFA's states
        are computed, once each, and put together."""
        return self._dfa.parts(state) if self._in_parts and self.live is None else [state]

    def is_end(self, state: int, pending: bytes) -> bool:
        """Whether a text may end there."""
        return state in self._dfa.final and not pending

    @cached_property
    def only_eos(self) -> Mask:
        """The mask after the end: the end again."""
        return self.pack(self.nothing(), ends=True)

    def nothing(self) -> np.ndarray:
        """A mask without tokens, not packed yet."""
        return np.zeros(-(-self._vocabulary.size // 32) * 32, dtype=bool)

    def pack(self, legal: np.ndarray, ends: bool) -> Mask:
        """A mask of ``legal``, and of the end of the text where that is legal too."""
        if ends:
            legal[self._vocabulary.eos_ids] = True
        packed = np.packbits(legal, bitorder="little").tobytes()
        words = self._shared.setdefault(packed, np.frombuffer(packed, dtype="<i4"))  # read-only
        return Mask(words, int(np.count_nonzero(legal)))

    def _only_live(self, landing: Landing) -> np.ndarray:
        if self.live is None:
            return landing.tokens
        tails = self._vocabulary.tails
        pairs = zip(landing.states.tolist(), landing.tails.tolist(), strict=True)
        keep = [(q, t if isinstance(t, bytes) else tails[t]) in self.live for q, t in pairs]
        return landing.tokens[np.array(keep, dtype=bool)]

    def landings(self, state: int, pending: bytes) -> list[Landing]:
        """Every legal token, with where it leads."""
        if not pending:
            return self.walk(np.array([0]), np.array([state]))
        out, roots, states = [], [], []
        for lead, root in self._vocabulary.lead_number.items():
            span = utf8_span(pending + lead) if lead else None
            if span is None:
                continue
            if span.missing == 0:
                target = self._dfa.rows[state].get(self._dfa.alphabet.class_of(span.lo))
                if target is not None:
                    roots.append(root)
                    states.append(target)
            elif self.leads_on(state, pending + lead):
                first = self._vocabulary.first_token[root]
                tokens = self._vocabulary.tokens[first : first + self._vocabulary.n_tokens[root]]
                begun = np.full(len(tokens), None)
                begun[:] = [pending + lead] * len(tokens)
                out.append(Landing(tokens, np.full(len(tokens), state), begun))
        return out + self.walk(np.array(roots, dtype=int), np.array(states, dtype=int))

    def leads_on(self, state: int, begun: bytes) -> bool:
        """Whether a character that begins with ``begun`` is legal in ``state``."""
        span = utf8_span(begun)
        if span is None:
            return False
        overlap = self._dfa.alphabet.overlapping(span.lo, span.hi)
        return any(overlap[c] for c in self._dfa.rows[state])

    def walk(self, nodes: np.ndarray, states: np.ndarray) -> list[Landing]:
        """The legal tokens at and below ``nodes``, entered in ``states``."""
        levels = []
        while len(nodes):
            levels.append((nodes, states))
            nodes, states = self.descend(nodes, states)
        if not levels:
            return []
        nodes, states = map(np.concatenate, zip(*levels, strict=True))
        return self.at(nodes, states)

    def any_below(self, node: int, state: int) -> bool:
        """Whether a legal token goes on past trie node ``node``, entered in ``state``."""
        nodes, states = np.array([node]), np.array([state])
        if any(len(landing.tokens) for landing in self.at(nodes, states)[1:]):
            return True
        nodes, states = self.descend(nodes, states)
        while len(nodes):
            if any(len(landing.tokens) for landing in self.at(nodes, states)):
                return True
            nodes, states = self.descend(nodes, states)
        return False

    def descend(self, nodes: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The children of ``nodes``, which are all of one level, that the automaton can step
        to, with their states."""
        v = self._vocabulary
        count = v.n_children[nodes]
        here, there, end = v.level_bounds(int(nodes[0]))
        if _DENSE * int(count.sum()) < end - there:
            below = runs(v.first_child[nodes], count)
            alive, reached = _alive(
                self._dfa.step(np.repeat(states, count), self._node_class[below])
            )
            return below[alive], reached
        level = np.full(there - here, -1, dtype=np.int32)
        level[nodes - here] = states
        before = level[v.parent[there:end] - here]
        alive, reached = _alive(self._dfa.step(before, self._node_class[there:end]))
        return alive + there, reached

    def at(self, nodes: np.ndarray, states: np.ndarray) -> list[Landing]:
        """The legal tokens that end exactly at ``nodes``, or inside a character after them."""
        v = self._vocabulary
        if _DENSE * len(nodes) < v.n_nodes:
            which = runs(v.first_token[nodes], v.n_tokens[nodes])
            reached = np.repeat(states, v.n_tokens[nodes])
            parts = runs(v.first_part[nodes], v.n_parts[nodes])
            begun = np.repeat(states, v.n_parts[nodes])
        else:
            state_of = np.full(v.n_nodes, -1, dtype=np.int32)
            state_of[nodes] = states
            which, reached = _alive(state_of[v.token_node])
            parts, begun = _alive(state_of[v.part_node])
        out = [Landing(v.tokens[which], reached, np.zeros(len(which), dtype=np.int32))]
        if len(parts):
            tails = v.part_tails[parts]
            distinct, index = np.unique(begun, return_inverse=True)
            live = self._dfa.live_classes(distinct).astype(np.float32)
            possible = (live @ self._tail_classes)[index.reshape(-1), tails] > 0
            out.append(Landing(v.part_tokens[parts[possible]], begun[possible], tails[possible]))
        return out


def _alive(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where there is a state, and which."""
    at = np.flatnonzero(states >= 0)
    return at, states[at]
