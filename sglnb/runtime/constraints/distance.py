"""How far a legal end is, in tokens, from every place of an automaton.

The shortest way needs the tokens of every state, and a vocabulary of 128,000 tokens makes that
seconds for a large automaton. So there are two answers. :class:`Bounds` knows a way from each
state that is certain to be there: the characters that take the fewest tokens one by one, written
in as few tokens as spell exactly those. :class:`Best` follows all tokens, and is made only where
the bounds do not tell whether a text fits. (:class:`Spelled` is for the rare vocabulary that
cannot spell every text.)
"""

from __future__ import annotations

import heapq
import itertools
from abc import ABC, abstractmethod

import numpy as np

from sglnb.runtime.constraints.dfa import DFA
from sglnb.runtime.constraints.masks import Landing, TokenMasks
from sglnb.runtime.constraints.shortest import FAR, shortest_ways
from sglnb.runtime.constraints.turns import step
from sglnb.runtime.constraints.vocabulary import Vocabulary, utf8_span

MAX_PLACES = 5_000
"""Places that are followed in a vocabulary that lacks some bytes, at most."""
MAX_WORK = 50_000_000
"""Tokens that are followed for the shortest way, at most: some seconds."""
_PLACE_WORK = 1_500
"""What looking at a place takes beside its tokens."""

Place = tuple[int, bytes]
"""An automaton state, and the bytes of a character that the last token began."""


class Distances(ABC):
    """Tokens from each place to the nearest legal end, which is not counted itself."""

    @abstractmethod
    def of(self, state: int, begun: bytes) -> int:
        """From one place; an upper bound that is always reachable."""

    @abstractmethod
    def of_landing(self, landing: Landing) -> np.ndarray:
        """From where each token of ``landing`` leads."""

    @property
    @abstractmethod
    def farthest(self) -> int:
        """No place is farther away."""


class Bounds(Distances):
    """A way to an end from each state, for a vocabulary that can spell every text.

    The way is the cheapest in characters (Dijkstra, backwards from the ends), each at what it
    takes alone: one token if it has one, else its bytes. What is told is the least number of
    tokens that spell just these characters, found for a state when it is first asked for.
    """

    def __init__(self, dfa: DFA, vocabulary: Vocabulary):
        self._dfa, self._vocabulary = dfa, vocabulary
        self._chars = _cheap_characters(dfa, vocabulary)
        alone = [len(tokens) for _, tokens in self._chars]
        self._ways = shortest_ways(dfa.backwards(), alone)
        self._known: dict[int, int] = {}
        self._of_nodes: dict[int, int] = {}
        self._begun: dict[Place, int] = {}

    @property
    def farthest(self) -> int:
        known = (n for n in self._ways.length if n < FAR)
        return max(known, default=0) + 3  # up to three bytes may be missing of a begun character

    def of(self, state: int, begun: bytes) -> int:
        if not begun:
            return self._of_state(state)
        known = self._begun.get((state, begun))
        if known is None:
            known = self._begun[state, begun] = self._of_begun(state, begun)
        return known

    def of_landing(self, landing: Landing) -> np.ndarray:
        distinct, index = np.unique(landing.states, return_inverse=True)
        known = [self._of_state(state) for state in distinct.tolist()]
        out = np.array(known, dtype=np.int64)[index.reshape(-1)]
        tails = landing.tails
        partial = np.flatnonzero(tails.astype(bool))
        for at, state, tail in zip(
            partial.tolist(), landing.states[partial].tolist(), tails[partial].tolist(), strict=True
        ):
            begun = tail if isinstance(tail, bytes) else self._vocabulary.tails[tail]
            out[at] = self.of(state, begun)
        return out

    def _of_begun(self, state: int, begun: bytes) -> int:
        """The bytes that are missing, then on from the best character that they can make."""
        span = utf8_span(begun)
        overlap = self._dfa.alphabet.overlapping(span.lo, span.hi)
        targets = [t for c, t in self._dfa.rows[state].items() if overlap[c]]
        return span.missing + min(map(self._of_state, targets), default=FAR)

    def _of_state(self, state: int) -> int:
        known = self._known.get(state)
        if known is None:
            known = self._known[state] = min(map(self._of_node, self._dfa.nodes(state)))
        return known

    def _of_node(self, node: int) -> int:
        known, step = self._of_nodes, self._ways.step
        way, at = [], node
        while at not in known:
            way.append(at)
            if step[at] is None:
                break
            at = step[at][1]
        for at in reversed(way):
            known[at] = self._fewest(at)
        return known[node]

    def _fewest(self, node: int) -> int:
        """Tokens from ``node``, where those behind it on its way are known."""
        if self._ways.step[node] is None:
            return 0
        v, best = self._vocabulary, FAR
        trie, at, first = 0, node, True
        while (step := self._ways.step[at]) is not None:
            char, alone = self._chars[step[0]]
            at = step[1]
            if first:
                best, first = len(alone) + self._of_nodes[at], False
            trie = v.child(trie, char)
            if trie is None:
                break
            if v.n_tokens[trie]:
                best = min(best, 1 + self._of_nodes[at])
        return best


class Best(Bounds):
    """The fewest tokens from each state by tokens of whole characters, and by the bytes of a
    character that has no token.

    Attributes:
        least: no text has fewer tokens, however its characters are cut (a token may end inside a
            character, which another one finishes). As a rule the distance of the start itself.

    Raises:
        OverflowError: there is too much to follow.
    """

    def __init__(self, dfa: DFA, vocabulary: Vocabulary, masks: TokenMasks):
        _check_work(_PLACE_WORK * len(dfa))
        super().__init__(dfa, vocabulary)
        self._masks = masks
        self._after_lead = [
            i for i, lead in enumerate(vocabulary.leads) if lead and _goes_on(vocabulary, i)
        ]
        edges, begun = self._follow()
        self._known = dict.fromkeys(range(len(dfa)), FAR)
        self._known.update(_distances(edges, dfa.final))
        for source, target, cost in begun:
            edges.setdefault(target, []).append((source, cost))
        self.least = _distances(edges, dfa.final).get(0, FAR)

    def _follow(self) -> tuple[dict[int, list[tuple[int, int]]], list[tuple[int, int, int]]]:
        """(Ways into each state as (from, tokens), steps through the inside of a character as
        (from, to, tokens)). That a character is begun in state q is one place, -1 - q: what its
        bytes allow is taken to be more than it may be."""
        into: dict[int, list[tuple[int, int]]] = {}
        begun: list[tuple[int, int, int]] = []
        seen, todo, work = {0}, [0], 0
        for here in todo:
            step()
            targets = set()
            work += _PLACE_WORK
            for landing in [] if here < 0 else self._masks.landings(here, b""):
                work += len(landing.tokens)
                targets |= self._places(landing)
            if here >= 0:
                row = self._dfa.rows[here]
                for char_class, target in row.items():
                    into.setdefault(target, []).append((here, len(self._chars[char_class][1])))
                reached = {*row.values(), *targets}
            else:
                reached = self._finished(-1 - here)
            for target in reached:
                if here < 0 or target < 0:
                    begun.append((here, target, 1))
                elif target in targets:
                    into.setdefault(target, []).append((here, 1))
            todo += reached - seen
            seen |= reached
            _check_work(work)
        return into, begun

    def _places(self, landing: Landing) -> set[int]:
        inside = landing.tails.astype(bool)
        whole, partial = np.unique(landing.states[~inside]), np.unique(landing.states[inside])
        return {*whole.tolist(), *(-1 - partial).tolist()}

    def _finished(self, state: int) -> set[int]:
        """Where a token can lead that finishes a character begun in ``state``."""
        row, sets = self._dfa.rows[state], self._dfa.alphabet.sets
        targets = sorted({t for c, t in row.items() if sets[c][-1][1] >= 0x80})
        out = set(targets)
        if self._after_lead and targets:
            roots = np.repeat(np.array(self._after_lead), len(targets))
            states = np.tile(np.array(targets), len(self._after_lead))
            for landing in self._masks.walk(roots, states):
                out |= self._places(landing)
        return out


def _check_work(tokens: int) -> None:
    if tokens > MAX_WORK:
        raise OverflowError(f"more than {MAX_WORK:,} tokens")


def _goes_on(vocabulary: Vocabulary, root: int) -> bool:
    """Whether a token of ``root`` has more than the end of a character."""
    return bool(vocabulary.n_children[root] or vocabulary.n_parts[root])


def _distances(into: dict[int, list[tuple[int, int]]], final: frozenset[int]) -> dict[int, int]:
    """The shortest distance of each place to a final state (Dijkstra, backwards)."""
    known: dict[int, int] = {}
    heap = [(0, state) for state in final]
    heapq.heapify(heap)
    while heap:
        spent, place = heapq.heappop(heap)
        if place not in known:
            known[place] = spent
            for source, cost in into.get(place, ()):
                heapq.heappush(heap, (spent + cost, source))
    return known


class Spelled(Distances):
    """Exact distances, for a vocabulary that lacks some bytes: a text may be legal and yet not
    spellable then, so every token is followed.

    Attributes:
        known: the distance of each place from which an end is in reach.

    Raises:
        OverflowError: there are too many places to follow.
    """

    def __init__(self, masks: TokenMasks, dfa: DFA, vocabulary: Vocabulary):
        self._tails = vocabulary.tails
        sources: dict[Place, set[Place]] = {(0, b""): set()}
        layer = [(0, b"")]
        while layer:
            found: list[Place] = []
            for here in layer:
                for there in set().union(*map(self._places, masks.landings(*here))):
                    if there not in sources:
                        sources[there] = set()
                        found.append(there)
                    sources[there].add(here)
                if len(sources) > MAX_PLACES:
                    raise OverflowError(f"more than {MAX_PLACES:,} places")
            layer = found
        self.known = {(q, begun): 0 for q, begun in sources if not begun and q in dfa.final}
        queue = list(self.known)
        for place in queue:
            for source in sources[place]:
                if source not in self.known:
                    self.known[source] = self.known[place] + 1
                    queue.append(source)

    def _places(self, landing: Landing) -> set[Place]:
        pairs = set(zip(landing.states.tolist(), landing.tails.tolist(), strict=True))
        return {(q, t if isinstance(t, bytes) else self._tails[t]) for q, t in pairs}

    @property
    def farthest(self) -> int:
        return FAR

    def of(self, state: int, begun: bytes) -> int:
        return self.known.get((state, begun), FAR)

    def of_landing(self, landing: Landing) -> np.ndarray:
        pairs = zip(landing.states.tolist(), landing.tails.tolist(), strict=True)
        tails = self._tails
        places = ((q, t if isinstance(t, bytes) else tails[t]) for q, t in pairs)
        return np.array([self.known.get(place, FAR) for place in places], dtype=np.int64)


def _cheap_characters(dfa: DFA, vocabulary: Vocabulary) -> list[tuple[str, tuple[int, ...]]]:
    """For each class a character of it that takes the fewest tokens, and these. Of a large class
    that has no token some characters are looked at."""
    first = int(vocabulary.first_child[0])
    nodes = np.arange(first, first + int(vocabulary.n_children[0]))
    nodes = nodes[vocabulary.n_tokens[nodes] > 0]
    codes = vocabulary.chars[vocabulary.node_char[nodes]]
    tokens = vocabulary.tokens[vocabulary.first_token[nodes]]
    alone: dict[int, tuple[str, tuple[int, ...]]] = {}
    classes = dfa.alphabet.classify(codes).tolist()
    for code, char_class, token in zip(codes.tolist(), classes, tokens.tolist(), strict=True):
        alone.setdefault(char_class, (chr(code), (token,)))
    pieces = {
        cut.lead + cut.tail: i
        for i, cut in enumerate(vocabulary.cuts)
        if cut is not None and not cut.chars and not (cut.lead and cut.tail)
    }
    out = []
    for char_class, ranges in enumerate(dfa.alphabet.sets):
        if char_class in alone:
            out.append(alone[char_class])
            continue
        some = itertools.islice((chr(c) for lo, hi in ranges for c in range(lo, hi + 1)), 32)
        ways = ((char, _split(char.encode(), pieces)) for char in some)
        out.append(min(ways, key=lambda way: len(way[1])))
    return out


def _split(raw: bytes, pieces: dict[bytes, int]) -> tuple[int, ...]:
    """The fewest tokens that spell the bytes of a character."""
    best: list[tuple[int, ...] | None] = [()]
    for end in range(1, len(raw) + 1):
        ways = [
            (*best[start], pieces[raw[start:end]])
            for start in range(end)
            if best[start] is not None and raw[start:end] in pieces
        ]
        best.append(min(ways, key=len, default=None))
    return best[-1]
