"""A trigger that is a special token: the model writes the token, never its letters."""

from __future__ import annotations

import pytest

import sglnb as sgl
from sglnb.errors import ConstraintError
from sglnb.language.calls import CallForm
from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.constraints.tools import ToolSet


def add(x: int, y: int = 1) -> int:
    return x + y


START = "<|im_start|>"
CALLS = {"json": '{"name": "add", "arguments": {"x": 2}}', "python": "add(2)"}
PAIRS = [(START, "</c>"), ("<c>", START), (START, START)]


@pytest.mark.parametrize("tokenizer", ["sgl-tiny", "qwen"], indirect=True)
@pytest.mark.parametrize("style", ["json", "python"])
@pytest.mark.parametrize("when", PAIRS)
def test_which_texts(tokenizer, style, when):
    options = {"tools": [add], "tool_style": style, "when": when, "max_calls": 2}
    constraint = compile_constraint(**options, tokenizer=tokenizer)
    begin, end = when
    call = CALLS[style]
    form = CallForm(ToolSet([add], style, when, 2))
    for text, calls in [
        ("hi", 0),
        ("", 0),
        (f"hi {begin}{call}{end}", 1),
        (f"hi {begin}\n{call}\n{end} done", 1),
        (f"{begin}{call}{end}{begin}{call}{end}", 2),
        (f"{begin}{call}", None),
        (f"a {begin} b", None),
    ]:
        assert constraint.accepts(text) is (calls is not None), text
        if calls is not None:
            assert [one() for one in form.read(text, None)] == [3] * calls
    cursor = constraint.start()
    if begin == START:
        letters = tokenizer.encode_plain(START[:-1])
        cursor.advance_many(letters)
        assert not cursor.allows(tokenizer.encode_plain(">")[0])
        cursor.rollback(len(letters))
        assert cursor.allows(tokenizer.special_ids[START])
        assert constraint.accepts(tokenizer.decode(letters))


def test_a_call_that_was_begun_is_closed_in_time(tiny):
    """The special token that ends the call is on the way to the end."""
    when = (START, START)
    constraint = compile_constraint(tools=[add], when=when, tokenizer=tiny)
    begin = tiny.special_ids[START]
    closer, cursor = constraint.closer(40), constraint.start()
    cursor.advance(begin)
    assert closer.keeps(cursor, begin, 39)
    way = closer.instead()
    cursor.advance_many(way)
    assert cursor.is_final
    text = tiny.decode([begin, *way], special=True)
    (call,) = CallForm(ToolSet([add], None, when)).read(text, None)
    assert type(call()) is int


def test_on_the_engine(engine):
    @sgl.function
    def program(s):
        s += "Compute. "
        s += sgl.gen(
            "call", tools=[add], when=(START, "</call>"), max_tokens=60, temperature=1.0,
            logit_bias={1: 40.0}, on_budget="close",
        )  # fmt: skip

    state = program.run(backend=engine)
    assert state["call"].startswith(START)
    (call,) = state.value("call")
    assert call.name == "add"
    engine.check()


def test_a_token_that_ends_the_text(tiny):
    with pytest.raises(ConstraintError, match=r"when: '<\|im_end\|>' ends the whole text"):
        compile_constraint(tools=[add], when=("<c>", "<|im_end|>"), tokenizer=tiny)
