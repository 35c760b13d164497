"""Random regexes, and small oracles that share no code with what they check."""

from __future__ import annotations

import random
import re

from hypothesis import strategies as st

from sglnb.runtime.constraints.shortest import shortest_ways

CHARACTER = r"""\{
    "name": "[\w\d\s]{1,16}",
    "house": "(Gryffindor|Slytherin|Ravenclaw|Hufflepuff)",
    "blood status": "(Pure-blood|Half-blood|Muggle-born)",
    "occupation": "(student|teacher|auror|ministry of magic|death eater|order of the phoenix)",
    "wand": \{
        "wood": "[\w\d\s]{1,16}",
        "core": "[\w\d\s]{1,16}",
        "length": [0-9]{1,2}\.[0-9]{0,2}
    \},
    "alive": "(Alive|Deceased)",
    "patronus": "[\w\d\s]{1,16}",
    "bogart": "[\w\d\s]{1,16}"
\}"""
HARRY = """{
    "name": "Harry Potter",
    "house": "Gryffindor",
    "blood status": "Half-blood",
    "occupation": "student",
    "wand": {
        "wood": "Holly",
        "core": "Phoenix feather",
        "length": 11.0
    },
    "alive": "Alive",
    "patronus": "Stag",
    "bogart": "Dementor"
}"""

ALPHABET = "abAB1_ -\n.é日😀ſkK\u212a"

_literal = st.sampled_from(ALPHABET).map(re.escape)
_escape = st.sampled_from([".", r"\w", r"\W", r"\d", r"\D", r"\s", r"\S", r"[\w.]", r"[^\w]"])
_set = st.sampled_from(["[a-c]", "[^a-c]", "[aé日]", r"[^\s\d]", "[A-Z_]", "[k-s]", "[^k]"])
_lazy = st.sampled_from(["*?", "+?", "??"])
_count = st.one_of(st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,3}", "{,2}", "{1,}"]), _lazy)
_group = st.sampled_from(["(%s)", "(?:%s)", "(?i:%s)", "(?s:%s)", "(?a:%s)", "(?-i:%s)"])


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=2, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, _count).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        st.tuples(_group, inner).map(lambda pair: pair[0] % pair[1]),
    )


_body = st.recursive(st.one_of(_literal, _escape, _set), _larger, max_leaves=7)
regexes = st.tuples(st.sampled_from(["", "", "(?i)", "(?s)", "(?a)", "(?ia)"]), _body).map("".join)
texts = st.text(st.sampled_from(ALPHABET), max_size=6)


def sample(dfa, rng: random.Random, limit: int = 12) -> str | None:
    """A random accepted text, None if the walk grew past ``limit``."""
    state, out = 0, []
    while len(out) <= limit:
        exits = list(dfa.rows[state].items())
        if state in dfa.final and (not exits or rng.random() < 0.4):
            return "".join(out)
        c, state = rng.choice(exits)
        lo, hi = rng.choice(dfa.alphabet.sets[c])
        out.append(chr(rng.randint(lo, hi)))
    return None


class Writer:
    """Writes accepted texts: a random walk, then the shortest way to an end."""

    def __init__(self, dfa):
        self._dfa = dfa
        self._ways = shortest_ways(dfa.backwards(), [1] * len(dfa.alphabet))

    def __call__(self, rng: random.Random, length: int) -> str:
        state, out = 0, []
        while len(out) < length and (exits := list(self._dfa.rows[state].items())):
            c, state = rng.choice(exits)
            out.append(self._char(c, rng))
        node = min(self._dfa.nodes(state), key=self._ways.length.__getitem__)
        while (step := self._ways.step[node]) is not None:
            c, node = step
            out.append(self._char(c, rng))
        return "".join(out)

    def _char(self, c: int, rng: random.Random) -> str:
        lo, hi = rng.choice(self._dfa.alphabet.sets[c])
        return chr(rng.choice([lo, hi, rng.randint(lo, hi)]))


def near(text: str, rng: random.Random, letters: str = ALPHABET) -> str:
    """``text`` with one small mistake."""
    at = rng.randint(0, len(text))
    kind = rng.randrange(5)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + rng.choice(letters) + text[at:]
    if kind == 2:
        return text[:at] + rng.choice(letters) + text[at + 1 :]
    if kind == 3:
        return text[:at] + text[at : at + 1].swapcase() + text[at + 1 :]
    return text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]


def finish(cursor, constraint) -> bytes:
    """Bring a cursor to a legal end by the shortest way, one byte token after the other;
    returns the bytes taken."""
    dfa, byte_token = constraint.dfa, constraint.vocabulary.byte_token
    distance = dict.fromkeys(dfa.final, 0)
    queue = list(dfa.final)
    for q in queue:
        for source, row in enumerate(dfa.rows):
            if q in row.values() and source not in distance:
                distance[source] = distance[q] + 1
                queue.append(source)
    out = b""
    while not cursor.is_final:
        inside = [b for b in range(0x80, 0xC0) if cursor.allows(byte_token[b])]
        if inside:
            byte = inside[0]
        else:
            best = min(dfa.rows[cursor.state].items(), key=lambda move: distance[move[1]])[0]
            byte = chr(dfa.alphabet.sets[best][0][0]).encode()[0]
        cursor.advance(byte_token[byte])
        out += bytes([byte])
    return out
