"""Advice on what could be written earlier in a program."""

from __future__ import annotations

from pathlib import Path

import pytest
from traced_programs import by_character

import sglnb.language as sgl

RULE = "Answer with one word, in lower case."


def advice(body, rows=None, backend=None, **kwargs):
    return sgl.function(body).trace(backend=backend or by_character()).advice(rows, **kwargs)


def line_of(text: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if text in line and "line_of" not in line)


def test_a_rule_after_the_argument(engine):
    def program(s, q):
        s += sgl.user("Question: " + q + "\n" + RULE)  # late
        s += sgl.assistant(sgl.gen("a", max_tokens=1))

    report = advice(program, backend=engine)
    (item,) = report
    assert (item.text, item.before) == ("\n" + RULE, "argument 'q'")
    assert item.where[1] == item.before_where[1] == line_of("# late")
    assert str(report.tokens) in repr(report)
    assert "compare the answers" in repr(report)

    @sgl.function
    def moved(s, q):
        s += sgl.user("Question: " + "\n" + RULE + q)
        s += sgl.assistant(sgl.gen("a", max_tokens=1))

    count = engine.tokenizer.encode
    before = sgl.function(program).trace(backend=engine).prefix
    after = moved.trace(backend=engine).prefix
    assert item.tokens == len(count(after)) - len(count(before))
    assert len(moved.trace(backend=engine).advice()) == 0


def test_a_whole_message_after_the_argument(backend):
    def program(s, q):
        s += sgl.user("Q: " + q)
        s += sgl.user(RULE)
        s += sgl.assistant(sgl.gen("a"))

    (item,) = advice(program)
    assert item.text == RULE
    assert item.before == "the message with argument 'q'"
    assert item.tokens == len("user:\n" + RULE + "\n\n")


def test_what_is_part_of_another_message_or_comes_after_the_model_stays(backend):
    def program(s, q, r):
        s += sgl.user("Q: " + q)
        s += sgl.user(RULE + r)
        s += sgl.assistant("So, to answer this at last:" + sgl.gen("a"))
        s += sgl.user(RULE)

    report = advice(program)
    assert len(report) == 0
    assert "nothing is to be moved" in repr(report)


def test_without_roles(backend):
    def program(s, q):
        s += RULE + "\nQ: " + q + "\nA:" + sgl.gen("a")
        s += RULE

    assert len(advice(program)) == 0

    def late(s, q):
        s += "Q: " + q + "\n" + RULE + "\nA:" + sgl.gen("a")

    (item,) = advice(late)
    assert item.tokens == len("\n" + RULE + "\nA:")
    assert len(advice(late, least=100)) == 0


def test_an_argument_that_does_not_change_can_be_moved_too(backend):
    def program(s, question, document):
        s += "Q: " + question + "\nIn this text: " + document + "\nShort." + sgl.gen("a")

    rows = [{"question": q, "document": "d" * 200} for q in "abc"]
    (item,) = advice(program, rows)
    assert item.tokens == len("\nIn this text: ") + 200 + 7
    assert advice(program, [list(row.values()) for row in rows]).tokens == item.tokens
    assert advice(program, [{**r, "document": r["question"]} for r in rows]).tokens < 30
    same = [{"question": "q", "document": d * 99} for d in "ab"]
    (item,) = advice(program, same, least=1)
    assert item.before == "argument 'document'"


def test_programs_inside_of_others_are_looked_at_once(backend):
    @sgl.function
    def inner(s, tip):
        s += "Tip: " + tip + "\n" + RULE + sgl.gen("x")

    def program(s, q):
        s += "abc" + q + sgl.gen("a")
        one, two = inner(s["a"]), inner(q)
        s += one["x"] + two["x"]

    (item,) = advice(program)
    assert item.program == "inner"
    assert item.before == "variable 'a'"


def test_what_hides_the_rest_is_told(backend):
    def program(s, q):
        s += "abc"
        s += f"Question: {q}\n" + RULE

    report = advice(program)
    assert len(report) == 0
    assert "f-string uses argument 'q'" in report.notes[0]
    assert '"text " + value' in repr(report)


def test_it_is_shown_escaped_and_changes_nothing(backend):
    def program(s, q):
        s += "Q: " + q + "<b>Answer</b> with one word." + sgl.gen("a")

    trace = sgl.function(program).trace(backend=backend)
    before = trace.to_dict()
    bundle = trace.advice()._repr_mimebundle_()
    assert "&lt;b&gt;Answer" in bundle["text/html"]
    assert "<b>" not in bundle["text/html"]
    assert trace.to_dict() == before
    assert backend.calls == []
    with pytest.raises(TypeError, match="batch_kwargs"):
        trace.advice("rows")
