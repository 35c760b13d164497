"""Where states that live on, async programs and tables meet traces and typed values."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from test_living import state
from traced_programs import by_character

import sglnb.language as sgl
from sglnb import ConstraintError
from sglnb.testing import ScriptedBackend


@sgl.function
async def asynchronous(s, q):
    s += "a long beginning that all rows share, word by word, " + q
    s += sgl.gen("x")
    return await s["x"]


@sgl.function
def plain(s, q):
    s += "a long beginning that all rows share, word by word, " + q
    s += sgl.gen("x")


def test_a_trace_ends_where_a_state_goes_back(backend):
    @sgl.function
    def goes_back(s):
        s += "a" + sgl.gen("x")
        s.before("x")

    @sgl.function
    def undoes(s):
        with s.user():
            s += "a"
        s.undo()

    @sgl.function
    def calls(s):
        asynchronous(s, "q")

    for program, why in ((goes_back, "goes back"), (undoes, "goes back"), (calls, "async program")):
        assert why in program.trace(backend=backend).stopped.why


def test_async_programs_are_not_traced_far(backend):
    assert "async" in asynchronous.trace(backend=backend).stopped.why
    with pytest.raises(sgl.TraceError, match="async"):
        asynchronous.compile(backend=backend)
    states = asynchronous.run_batch([{"q": "a"}, {"q": "b"}], backend=backend)
    assert [s["x"] for s in states] == ["ok", "ok"]


def test_the_common_prefix_of_rows_goes_ahead():
    rows = [{"q": "a"}, {"q": "b"}]
    for batch, sent in ((rows, 1), (pd.DataFrame(rows), 1), (iter(rows), 0)):
        backend = by_character()
        assert len(plain.run_batch(batch, backend=backend)) == 2
        assert len(backend.of("prefill")) == sent


def test_compiled_programs_in_batches_and_awaited(backend):
    import asyncio

    fast = plain.compile(backend=backend)
    assert len(fast.run_batch(iter([{"q": "a"}, {"q": "b"}]))) == 2
    assert fast.run_batch(pd.DataFrame({"q": ["a"]})).x.tolist() == ["ok"]
    assert asyncio.run(fast.run_async(q="a"))["x"] == "ok"
    done = fast.run(q="a")
    assert done.before("x").text() == done.text()[:-2]


def test_advice_reads_tables(backend):
    rows = [{"q": "a"}, {"q": "b"}]
    said = repr(plain.trace(backend=backend).advice(rows))
    assert said == repr(plain.trace(backend=backend).advice(pd.DataFrame(rows)))
    assert said == repr(plain.trace(backend=backend).advice(iter(rows)))


def test_typed_values_go_back(tmp_path):
    answers = iter(["12", "oops", "[1, 2]"])
    backend = ScriptedBackend(lambda prompt, call: next(answers))
    s = state(backend)
    s += sgl.gen("n", dtype=int) + sgl.gen("n", type=int)
    with pytest.raises(ConstraintError, match="value of 'n'"):
        s.value("n")
    assert s.before("n").value("n") == 12
    s.undo()
    s += sgl.gen("n", type=list[int])
    assert s.value("n") == s.at("n").value("n") == [1, 2]
    t = sgl.load_state(s.save(), backend)
    assert t.value("n") == "[1, 2]"
    assert "form" not in json.loads(s.save())

    @sgl.function
    async def program(s):
        s += sgl.gen("n", dtype=int)
        return await s.value("n")

    backend = ScriptedBackend(lambda prompt, call: "7")
    assert program.run(backend=backend).ret_value == 7
