"""Texts of ``%sgl help`` and of ``?``."""

from __future__ import annotations

from IPython.core.error import UsageError

from .command import SUBCOMMANDS, cell_parser, suggestion

_CELL = """\
Run an LM program: the lines under %%sgl are plain Python in which `s` is the program's state.

    %%sgl
    s += user("Where is the Eiffel Tower?")
    s += assistant(gen("answer", max_tokens=32))

gen, select, system, user and assistant are there without an import, and so are the notebook's
own variables; what the body assigns stays in the notebook. Options set the defaults of every
gen in the cell; what a gen says itself wins. The cell's value is the run: its text, variables,
events and picture. What the last line of the body evaluates to is shown before it.
"""

_TOPICS = {
    "gen": """\
s += gen("name", max_tokens=64, stop="\\n", temperature=0, regex=r"[0-9]{4}")
    lets the model write and keeps the text as s["name"].
s += gen("n", type=int)     also list[str], date, Literal[...], a dataclass, a pydantic model;
    s.value("n") is the object. json_schema= and grammar= are there too.
s += gen("call", tools=[f, g])     a call of one of your functions; s.call("call") runs it.
s += select("name", choices=["yes", "no"])
    takes the likeliest of some texts.
""",
    "fork": """\
branches = s.fork(3)                 three states that share everything said so far
for i, b in enumerate(branches):
    b += gen("idea", seed=i)         they run at the same time
branches.join()                      s["idea"] is now the list of the three
""",
    "state": """\
s["name"]   a variable; waits until it is there     s.text()   everything so far
s += ...    appends text, a message or a gen        s.error()  the first failure, or None
After the cell the state lives on: %%sgl -o r keeps the run as r, r.state is its state.

t = s.at("name")       a new state as s was right after that variable was made; also on a
t = s.before("name")   state that failed or was stopped: right before it, to try again
s.undo()               takes back the last statement (+=, message, with block, join)
s.save("chat.json"); sgl.load_state("chat.json")       to go on in another kernel
""",
    "function": """\
A program to call again and again, from any cell:

    import sglnb as sgl
    @sgl.function
    def qa(s, question):
        s += sgl.user(question)
        s += sgl.assistant(sgl.gen("answer", max_tokens=64))

    qa.run(question="...")["answer"]
    qa.run(question="...", timeout=20)          is stopped after 20 s; its text so far is kept
    qa.run_batch([{"question": "..."}, ...])    also of an iterator, or of a DataFrame, which
                                                gives a DataFrame of results
""",
    "await": """\
In a %%sgl cell with await, async for or async with at its top, and in an async def program,
what reads is awaited: await s["name"], await s.text(), await branches.join(),
async for piece in s.text_async_iter(). Everywhere else the same state has plain values.
state = await qa.run_async(question="...")       in any cell: the kernel is not blocked
qa.run(question="...")                           runs an async program, too, and waits for it
""",
    "views": """\
--view auto      the views that fit what the program did     --view tokens, tree, program,
--view all       all of them                                 constraint, branches, schedule,
                                                             text, none
%config SglMagics.view = "text"    changes the default of the session
""",
    "background": """\
%%sgl --bg -o r   returns at once; in later cells: await r, r.wait(10), r.stop(), r.text
The body works on the names as they were when it began; those it assigns appear in the
notebook when it ends.
""",
}


def cell_help() -> str:
    """Help of ``%%sgl`` with its options."""
    return f"{_CELL}\n{cell_parser().format_help()}"


def line_help() -> str:
    """Help of ``%sgl``."""
    width = max(map(len, SUBCOMMANDS))
    rows = "\n".join(f"    %sgl {name:<{width}}  {what}" for name, what in SUBCOMMANDS.items())
    return f"{rows}\n\nTopics of %sgl help: {', '.join(_TOPICS)}\n"


def help_text(topic: str | None) -> str:
    """Everything at once, or one topic.

    Raises:
        UsageError: no such topic.
    """
    if topic is None:
        return f"{cell_help()}\nLine commands:\n{line_help()}"
    if topic not in _TOPICS:
        raise UsageError(
            f"%sgl help: no topic {topic!r}{suggestion(topic, _TOPICS)} "
            f"Topics: {', '.join(_TOPICS)}"
        )
    return _TOPICS[topic]
