"""The plan of a program: read, never run, and never wrong about what it says."""

from __future__ import annotations

import textwrap
from unittest import TestCase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sglnb as sgl
from sglnb.events import ProgramReached, ProgramRead
from sglnb.language.plan import BUDGET, LONGEST, MOST, START
from sglnb.language.plan_reader import plan_of_cell
from sglnb.magics.names import lent_names
from sglnb.viz.program_rows import has_shape


def plan(source: str, **names):
    return plan_of_cell(textwrap.dedent(source), "cell", names, lent_names(None))


def shape(source: str, **names):
    """(kind, depth, text or name or code) of each node."""
    read = plan(source, **names)
    return [(n.kind, n.depth, n.text or n.name or n.code) for n in read.nodes] if read else None


def test_texts_roles_and_holes():
    read = plan("""
        s += system("Be kind.") + user("Who" + " is " + NAME + "?")
        s += assistant(gen("who", max_tokens=4) + "\\n" + select("sure", choices=["yes", "no"]))
    """, NAME="Ada")  # fmt: skip
    told = [(n.kind, n.role, n.text or n.name, n.prev, n.opens) for n in read.nodes]
    assert told == [
        ("text", "system", "Be kind.", START, True),
        ("text", "user", "Who is Ada?", 0, True),
        ("gen", "assistant", "who", 1, True),
        ("text", "assistant", "\n", 2, False),
        ("select", "assistant", "sure", 3, False),
    ]


def test_choices_are_scored_or_written():
    source = """
        s += "x" + gen("a", choices=q) + gen("b", choices=q, choices_method="trie")
        s += gen("c", choices=q, choices_method=how)
    """
    assert [kind for kind, *_ in shape(source)[1:]] == ["select", "gen", "select"]


def test_what_is_not_known_is_a_value():
    assert shape('s += f"a {x} b {NAME} {NAME!r} {3:>4}" + str(5)', NAME="Ada") == [
        ("text", 0, "a "), ("value", 0, "x"), ("text", 0, " b Ada "), ("value", 0, "NAME"),
        ("text", 0, " "), ("value", 0, "3"), ("value", 0, "str(5)"),
    ]  # fmt: skip


def test_a_name_is_constant_only_while_nothing_can_change_it():
    assert shape("s += N\nN = 'b'", N="a") == [("value", 0, "N")]
    assert shape("N = 'b'\ns += N", N="a") == [("text", 0, "b")]
    assert shape("N = 'b'\nN += x\ns += N") == [("value", 0, "N")]
    assert shape("for N in rows:\n    s += N", N="a") == [("loop", 0, "for N in rows"),
                                                          ("value", 1, "N")]  # fmt: skip
    assert shape("s += N", N=["a"]) == [("value", 0, "N")]


def test_branches_loops_and_conditions():
    source = """
        s += "Q"
        tips = s.fork(3)
        for i, tip in enumerate(tips):
            tip += " tip "
            tip += gen("tip")
        tips.join()
        s += "A"
        if "x" in s["q"]:
            s += "yes"
        elif other:
            s += "maybe"
        while more:
            s += gen("m")
        s += "end"
        for x in rows:
            print(x)
    """
    read = plan(source)
    told = [(n.kind, n.depth, n.name or n.text or n.code, n.prev) for n in read.nodes]
    assert told == [
        ("text", 0, "Q", START),
        ("fork", 0, "tips", 0),
        ("loop", 0, "for i, tip in enumerate(tips)", None),
        ("text", 1, " tip ", 1),
        ("gen", 1, "tip", 3),
        ("join", 0, "tips.join()", None),
        ("text", 0, "A", 1),
        ("if", 0, "if 'x' in s['q']", None),
        ("text", 1, "yes", 6),
        ("else", 0, "elif other", None),
        ("text", 1, "maybe", 6),
        ("loop", 0, "while more", None),
        ("gen", 1, "m", None),
        ("text", 0, "end", None),
    ]
    assert read.nodes[1].size == 3
    assert read.nodes[5].of == 1
    assert read.nodes[7].uses == ["q"]


def test_what_depends_on_a_variable_is_said_through_other_names():
    read = plan("a = s['q'].strip()\nif a:\n    s += 'x' + a")
    assert read.nodes[0].uses == ["q"]
    assert (read.nodes[2].kind, read.nodes[2].uses) == ("value", ["q"])


def test_programs_and_helpers_are_read_where_they_are():
    @sgl.function
    def qa(s, question):
        s += sgl.user(question)
        s += sgl.assistant(sgl.gen("answer"))

    def helper(state, word):
        state += word + sgl.gen("h")

    told = shape("qa(s, question='Why?')\nhelper(s, 'w')\nt = qa.run(question=x)", qa=qa,
                 helper=helper)  # fmt: skip
    assert told == [
        ("call", 0, "qa"), ("text", 1, "Why?"), ("gen", 1, "answer"),
        ("call", 0, "helper"), ("text", 1, "w"), ("gen", 1, "h"),
        ("call", 0, "qa"), ("value", 1, "question"), ("gen", 1, "answer"),
    ]  # fmt: skip
    here = """
        def ask(s, q):
            s += q + gen("a")
            ask(s, q)
        ask(s, "x")
    """
    read = plan(here)
    assert [(n.kind, n.unread) for n in read.nodes] == [
        ("call", False), ("text", False), ("gen", False), ("call", True)]  # fmt: skip


def test_a_call_that_cannot_be_read_ends_what_is_known():
    read = plan("s += 'a'\nf(s)\ns += 'b'", f=lambda s: None)
    assert [(n.kind, n.prev, n.unread) for n in read.nodes] == [
        ("text", START, False), ("call", 0, True), ("text", None, False)]  # fmt: skip


def test_a_join_that_appends_ends_what_is_known():
    read = plan("s += 'a'\np = s.fork(2)\np.join('concate_and_append')\ns += 'b'")
    assert read.nodes[-1].prev is None


def test_nothing_is_run():
    class Bomb:
        def __getattr__(self, name):
            raise AssertionError(name)

        __getitem__ = __iter__ = __bool__ = __eq__ = __str__ = __call__ = __getattr__
        __hash__ = None

    ran = []
    source = "s += ran.append(1) or f'{bomb}' + bomb.x\nif bomb:\n    s += bomb[0](s)\nbomb(s)"
    assert plan(source, bomb=Bomb(), ran=ran).nodes
    assert not ran


@pytest.mark.parametrize("source", ["", "x = 1", "print(s)", "for i in range(3):\n    pass"])
def test_a_cell_without_steps_has_no_plan(source):
    assert plan(source) is None


def test_long_texts_and_programs_are_cut():
    read = plan(f"s += {'ab' * 5000!r} + gen('a')\n" + "s += gen('b')\n" * (MOST + 5))
    assert read.nodes[0].hidden == 10_000 - len(read.nodes[0].text) - len(read.nodes[0].tail)
    assert (len(read.nodes), read.more) == (MOST, 7)
    many = "\n".join(f"s += {'x' * (LONGEST - 1)!r} + gen('g')" for _ in range(100))
    kept = sum(len(n.text) + len(n.tail) for n in plan(many).nodes)
    assert kept < BUDGET + 100 * 130


names = st.sampled_from(["s", "t", "g", "x", "gen", "user", "sgl"])
leaves = st.one_of(
    names, st.sampled_from(['"a"', "1", 'gen("x")', 's["x"]', "s.fork(2)", "f'{x} b'", "g[0]"])
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds("({} + {})".format, inner, inner),
        st.builds("user({})".format, inner),
        st.builds("x({}, {})".format, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("[{} for t in {}]".format, inner, inner),
    ),
    max_leaves=6,
)
lines = st.one_of(
    st.builds("{} += {}".format, names, expressions),
    st.builds("{} = {}".format, names, expressions),
    st.builds("{}, {} = {}".format, names, names, expressions),
    expressions,
    st.sampled_from(["g.join()", "s.user('a')", "del s", "import sglnb as sgl", "pass",
                     "from sglnb import gen", "def t(s):\n  s += gen('z')"]),
)  # fmt: skip


def indented(head, body):
    return head + "\n" + textwrap.indent("\n".join(body), " ")


blocks = st.recursive(
    lines,
    lambda inner: st.builds(
        indented,
        st.one_of(
            st.builds("for {} in {}:".format, names, expressions),
            st.builds("if {}:".format, expressions),
            st.sampled_from(["while x:", "with s.user():", "with s.copy() as t:", "def x(s):",
                             "try:\n pass\nfinally:", "for i, t in enumerate(g):"]),
        ),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.lists(blocks, max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_source_can_be_read(program):
    with TestCase().assertNoLogs("sglnb.language.plan"):  # a plan that could not be made is logged
        read = plan("\n".join(program))
    for at, node in enumerate(read.nodes if read else []):
        assert node.id == at
        assert node.prev is None or START <= node.prev < at
        assert 0 <= node.depth <= (read.nodes[at - 1].depth + 1 if at else 0)


# -- as it runs ----------------------------------------------------------------------------


def reached(events):
    return [(e.node, e.what, e.name) for e in events if isinstance(e, ProgramReached)]


def test_a_run_tells_what_it_comes_to(engine):
    hidden = {"gen": sgl.gen}

    @sgl.function
    def program(s, word):
        s += sgl.user(word) + sgl.assistant(sgl.gen("a", max_tokens=2))
        both = s.fork(2)
        for branch in both:
            branch += sgl.gen("b", max_tokens=1) + sgl.gen("c", max_tokens=1)
        both.join()
        s += sgl.select("d", choices=["x", "y"]) + hidden["gen"]("e", max_tokens=1)

    first = engine.events.next_seq
    program.run(word="hi", backend=engine).sync()
    events = engine.events.since(first)
    (read,) = [e for e in events if isinstance(e, ProgramRead)]
    kinds = [node["kind"] for node in read.graph["nodes"]]
    assert kinds == ["value", "gen", "fork", "loop", "gen", "gen", "join", "select", "value"]
    told = reached(events)
    assert told[:2] == [(1, "gen", "a"), (2, "fork", "")]
    assert sorted(told[2:-2]) == [(4, "gen", "b")] * 2 + [(5, "gen", "c")] * 2
    assert told[-2:] == [(7, "select", "d"), (None, "gen", "e")]
    engine.check()


def test_two_on_one_line_are_told_apart(engine):
    @sgl.function
    def program(s, a, b):
        s += "q" + sgl.gen(a, max_tokens=1) + sgl.gen(b, max_tokens=1)
        s += sgl.gen("c", max_tokens=1)

    program.run(a="x", b="y", backend=engine).sync()
    program.run(a="x", b="y", backend=engine).sync()
    told = reached(engine.events.since(0))
    assert told[-6:] == [(1, "gen", "x"), (2, "gen", "y"), (3, "gen", "c")] * 2


def test_short_programs_are_not_recorded(engine):
    @sgl.function
    def program(s):
        s += "q" + sgl.gen("a", max_tokens=1) + sgl.gen("b", max_tokens=1)

    last = engine.events.since(0)[-1].seq
    program.run(backend=engine).sync()
    kinds = {event.kind for event in engine.events.since(last + 1)}
    assert "run_started" in kinds
    assert not kinds & {"program_read", "program_reached"}
    # The views' own rule: what is not recorded is what they would not show.
    for source in (
        "s += gen('a') + gen('b')",
        "s += gen('a') + gen('b') + select('c', choices=q)",
        "f = s.fork(2)",
        "while x:\n    s += gen('a')",
    ):
        read = plan(source)
        assert read.has_shape == has_shape(read.graph)


WORD = "first"


def test_a_kept_plan_is_read_again_when_a_name_has_changed(engine, monkeypatch):
    @sgl.function
    def program(s):
        if WORD:
            s += WORD + sgl.gen("a", max_tokens=1)

    texts = []
    for word in ("first", "first", "second"):
        monkeypatch.setitem(globals(), "WORD", word)
        program.run(backend=engine).sync()
        read = [e for e in engine.events.since(0) if isinstance(e, ProgramRead)][-1]
        texts.append((read.graph["nodes"][1]["text"], id(read.graph)))
    assert [text for text, _ in texts] == ["first", "first", "second"]
    assert texts[0][1] == texts[1][1]


def test_a_batch_and_programs_inside_of_others_have_one_plan(engine):
    @sgl.function
    def inner(s):
        s += "x" + sgl.gen("i", max_tokens=1)

    @sgl.function
    def outer(s, q):
        s += q + sgl.gen("o", max_tokens=1)
        inner.run()

    first = engine.events.next_seq
    outer.run_batch([{"q": "a"}, {"q": "b"}], backend=engine)
    events = engine.events.since(first)
    assert sum(isinstance(e, ProgramRead) for e in events) == 1
    assert sorted(reached(events)) == [(1, "gen", "o")] * 2 + [(4, "gen", "i")] * 2
