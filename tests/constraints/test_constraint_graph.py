"""The automaton as it is drawn."""

from __future__ import annotations

from collections import Counter

from constraint_tools import CHARACTER

from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.compiler import regex_dfa
from sglnb.runtime.constraints.graph import draw


def test_the_papers_regex_compresses():
    """432 states, a dead one included, of which 342 have a single way on."""
    dfa = regex_dfa(CHARACTER)
    assert len(dfa) == 431
    assert sum(dfa.only_exit(q) is not None for q in range(len(dfa))) == 342
    plain, compressed = draw(dfa)
    assert len(plain.nodes) == 431
    # The 89 at which there is a choice or an end, and 21 where ways meet: what is certain behind
    # those is drawn once, not at each of the ways.
    assert len(compressed.nodes) == 89 + 21
    meet = [q for q in (node.id for node in compressed.nodes) if dfa.only_exit(q) is not None]
    assert len(meet) == 21
    into = Counter(edge.target for edge in compressed.edges)
    sets = {edge.target for edge in compressed.edges if edge.text is None}
    assert all(into[q] > 1 or q in sets or q == 0 for q in meet)
    labels = {edge.label for edge in compressed.edges}
    assert {r'{\n    "name": "', "Gryffindor", r"[\w\s]", "uggle-born"} & labels >= {
        r'{\n    "name": "',
        "Gryffindor",
        r"[\w\s]",
    }


def test_a_compressed_edge_carries_its_states(tiny):
    constraint = compile_constraint(regex=r'"name": "[a-z]+"', tokenizer=tiny)
    plain, compressed = constraint.graph()
    assert {edge.label for edge in compressed.edges} == {'"name": "', "[a-z]", '"'}
    chain = next(edge for edge in compressed.edges if edge.label == '"name": "')
    assert chain.text == '"name": "'
    assert len(chain.via) == len(chain.text) - 1
    drawn = {node.id for node in compressed.nodes}
    inner = {q for edge in compressed.edges for q in edge.via}
    assert drawn | inner == {node.id for node in plain.nodes}
    assert not drawn & inner
    assert [node.id for node in plain.nodes if node.final] == [
        node.id for node in compressed.nodes if node.final
    ]


def test_an_end_is_a_way_out():
    """'a' may be the end of the text, so its state is drawn although it has one exit."""
    compressed = draw(regex_dfa("ab(cd)?")).compressed
    assert [(e.source, e.label, e.target) for e in compressed.edges if e.label] == [
        (0, "ab", 2),
        (2, "cd", 4),
    ]


def test_labels():
    def labels(regex: str) -> list[str]:
        return [edge.label for edge in draw(regex_dfa(regex)).plain.edges]

    assert labels("[a-z]") == ["[a-z]"]
    assert labels("[abc_]") == ["[_a-c]"]
    assert labels(r"\w") == [r"\w"]
    assert labels(r"[\w\d\s]") == [r"[\w\s]"]
    assert labels(r'[^"\\]') == [r'[^"\\]']
    assert labels(".") == ["."]
    assert labels("(?s).") == ["any"]
    assert labels(r"\n") == [r"\n"]
    assert labels("[a-cx-z-]") == [r"[\-a-cx-z]"]
