"""``%%sgl`` cells with a top-level await."""

import asyncio
import re

import pytest
from test_kernel import Kernel
from test_magic import fail, ip, run  # noqa: F401  (ip is a fixture)

from sglnb import GenerationError
from sglnb.magics.source import await_async_cells


def test_the_body_awaits(ip):  # noqa: F811
    found = run(
        ip,
        "%%sgl -o r --view none --max-tokens 4 --temperature 0\n"
        "import asyncio\n"
        's += "One, two," + gen("a")\n'
        "pieces = [p async for p in s.text_async_iter('a')]\n"
        "await asyncio.sleep(0)\n"
        'x = await s["a"]\n',
    )
    assert ip.user_ns["r"] is found
    assert found["a"] == ip.user_ns["x"] == "".join(ip.user_ns["pieces"])  # plain outside
    assert (found.status, found.error, found.done) == ("done", None, True)
    assert not {"s", "gen", "user", "sgl"} & set(ip.user_ns)


def test_the_last_expression_is_awaited(ip, capsys):  # noqa: F811
    found = run(ip, '%%sgl --view none --max-tokens 2\ns += "Hi" + gen("a")\nawait s["a"]\n')
    assert found.value == found["a"]
    assert repr(found.value) in capsys.readouterr().out
    assert run(ip, '%%sgl --view none\ns += "Hi"\nawait s.text();\n') is None
    assert run(ip, '%%sgl --view none\ns += "Hi"\ns.text();\n') is None


def test_programs_are_awaited(ip):  # noqa: F811
    run(
        ip,
        "import asyncio, sglnb\n@sglnb.function\nasync def f(s, i):\n"
        "    s += f'{i}' + sglnb.gen('a', max_tokens=2)\n    return await s['a']\n",
    )
    found = run(ip, "%%sgl\nstates = await asyncio.gather(*(f.run_async(i) for i in range(3)))\n")
    assert found.totals().requests == 3
    assert [s.run_id for s in ip.user_ns["states"]] == [found.id] * 3
    found = run(ip, "%%sgl\nstates = f.run_batch([{'i': 1}, {'i': 2}])\n")
    assert found.totals().requests == 2
    state = run(ip, "state = await f.run_async(7)\nstate")  # no magic at all
    assert state.ret_value == state["a"]


def test_errors_keep_to_their_line(ip, capsys):  # noqa: F811
    error = fail(ip, '%%sgl\ns += "x " * 9000\ns += gen("a")\n\ny = await s["a"]\n')
    assert isinstance(error, GenerationError)
    text = capsys.readouterr().out
    assert "Cell In[1], line 3" in text
    assert text.count("Cell In[") == 1
    assert isinstance(fail(ip, "%%sgl\nawait s.text()\n1/0\n"), ZeroDivisionError)
    text = capsys.readouterr().out
    assert "Cell In[2], line 3" in text
    assert "source.py" not in text
    error = fail(ip, '%%sgl\ns += "a"\nawait s.sync()\nx = f"{s.text()}"\n')
    assert "s.text() was not awaited" in str(error)
    fail(ip, "%%sgl\nawait = 3\n")
    assert "Cell In[4], line 2" in capsys.readouterr().out


def test_background(ip):  # noqa: F811
    found = run(ip, '%%sgl --bg -o b --max-tokens 3\ns += "Hi" + gen("a")\nx = await s["a"]\n')
    assert found.wait(20)
    assert found.status == "done"
    assert ip.user_ns["x"] == found["a"]


def test_a_cancelled_cell_keeps_its_text(ip):  # noqa: F811
    text = (
        "%%sgl -o cut --view none --max-tokens 1500\n"
        's += "Once" + gen("a", ignore_eos=True)\n'
        'await s["a"]\n'
    )

    async def notebook():
        transformed = ip.transform_cell(text)
        cell = asyncio.ensure_future(ip.run_cell_async(text, transformed_cell=transformed))
        await asyncio.sleep(0.5)
        cell.cancel()
        return await cell

    result = asyncio.run(notebook())
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    cut = ip.user_ns["cut"]
    assert (cut.status, cut.done) == ("stopped", True)
    assert len(cut.text) > 4
    cut.state.__iadd__(" The end.")
    assert cut.text.endswith(" The end.")


@pytest.mark.parametrize(
    ("cell", "awaits"),
    [
        ("%%sgl\nawait x\n", True),
        ("%%sgl\nasync for x in y:\n    pass\n", True),
        ("%%sgl --bg\nawait x\n", False),
        ("%%sgl\nx\n", False),
        ("%%sgl\nasync def f():\n    await x\n", False),
        ("%%sgl\nawait = 1\n", False),
        ("%%sgl\n\0await x\n", False),
        ("await x\n", False),
        ("get_ipython().run_cell_magic('sgl', *x)\n", False),
        ("get_ipython().run_cell_magic('sgl', x, 'await y')\n", False),
        ("x = '''\n%%sgl\nawait x'''", False),
    ],
)
def test_which_cells_are_awaited(ip, cell, awaits):  # noqa: F811
    code = ip.transform_cell(cell)
    assert code.startswith("await get_ipython()") == awaits
    assert await_async_cells([]) == []


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    assert kernel.run("%load_ext sglnb").status == "ok"
    yield kernel
    kernel.client.stop_channels()
    kernel.manager.shutdown_kernel(now=True)


def test_in_a_kernel(kernel):
    kernel.run("import asyncio\ntask = asyncio.ensure_future(asyncio.sleep(0.2, 'mine'))")
    reply = kernel.run(
        "%%sgl -o r --temperature 0 --max-tokens 6\n"
        's += user("Where is the Eiffel Tower?")\n'
        's += assistant(gen("answer"))\n'
        "found = await task\n"  # a task of the notebook's own loop
        'await s["answer"]\n'
    )
    assert reply.status == "ok", reply.text()
    assert "application/vnd.jupyter.widget-view+json" in reply.data("display_data")[0]
    assert "<details" in reply.data("execute_result")[0]["text/html"]
    assert kernel.run("found, r.value == r['answer'], r.status").text() == (
        "('mine', True, 'done')"
    )
    reply = kernel.run('%%sgl\ns += "x"\nawait s.sync()\nawait s["nope"]\n')
    assert reply.status == "error"
    assert re.search(r"Cell In\[\d+\], line 4\b", reply.text()), reply.text()
    assert reply.text().count("Cell In[") == 1
    assert "sglnb/" not in reply.text()


def test_interrupt_in_a_kernel(kernel):
    msg_id = kernel.start(
        "%%sgl -o cut --max-tokens 1500 --view tokens\n"
        's += user("Tell me a long story.")\n'
        's += assistant(gen("story", ignore_eos=True))\n'
        "n = 0\n"
        'async for piece in s.text_async_iter("story"):\n'
        "    n += 1\n"
        "    if n == 30:\n"
        '        print("thirty")\n'
    )
    kernel.wait_for_print(msg_id)
    kernel.manager.interrupt_kernel()
    reply = kernel.finish(msg_id)
    assert reply.status == "error"
    (error,) = [content for kind, content in reply.outputs if kind == "error"]
    assert error["ename"] == "KeyboardInterrupt"
    assert len(error["traceback"]) == 1
    reply = kernel.run("cut.status, len(cut.text) > 60, cut.done")
    assert reply.text() == "('stopped', True, True)"
    assert "0 running, 0 waiting" in kernel.run("%sgl status").text()
    again = kernel.run("cut.state += ' The end.'\ncut.state.text()[-8:]")
    assert again.text() == "'The end.'", again.text()


def test_interrupt_of_run_async_in_a_kernel(kernel):
    kernel.run(
        "import sglnb\nkept = []\n@sglnb.function\nasync def f(s):\n    kept.append(s)\n"
        "    s += 'Once' + sglnb.gen('a', max_tokens=1500, ignore_eos=True)\n"
        "    async for p in s.text_async_iter('a'):\n        if len(kept) < 30: kept.append(p)\n"
        "        if len(kept) == 30: print('thirty'); kept.append(p)\n"
    )
    for call in ("await f.run_async()", "f.run()"):
        msg_id = kernel.start(f"kept.clear()\n{call}")
        kernel.wait_for_print(msg_id)
        kernel.manager.interrupt_kernel()
        assert kernel.finish(msg_id).status == "error"
        reply = kernel.run("t = sglnb.ProgramState(kept[0].stream_executor)\nlen(t.text()) > 30")
        assert reply.text() == "True", reply.text()
        assert "0 running, 0 waiting" in kernel.run("%sgl status").text()
