"""``%%sgl`` in a real kernel: what a front end receives."""

import re

import pytest
from kernel_client import Kernel


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    assert kernel.run("%load_ext sglnb").status == "ok"
    yield kernel
    kernel.close()


def test_a_cell(kernel):
    reply = kernel.run(
        "%%sgl -o r --temperature 0 --max-tokens 12\n"
        's += user("Where is the Eiffel Tower?")\n'
        's += assistant(gen("answer"))\n'
    )
    assert reply.status == "ok", reply.text()
    (widget,) = reply.data("display_data")
    assert "application/vnd.jupyter.widget-view+json" in widget
    (result,) = reply.data("execute_result")
    assert "<details" in result["text/html"]
    assert "<style" not in result["text/html"]
    assert re.search(r"\d+ tokens · .* cached · 0 forced · [\d.]+ s", result["text/plain"])


def test_the_run_is_the_value_of_the_cell(kernel):
    reply = kernel.run("_ is r, r.status, sorted(r.variables), 's' in globals(), len(r.to_frame())")
    assert reply.text().startswith("(True, 'done', ['answer'], False, ")


def test_the_last_expression_is_shown(kernel):
    reply = kernel.run("%%sgl --view none\ns += 'x'\nlen(s.text())\n")
    assert [d["text/plain"] for d in reply.data("display_data")] == ["1"]


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        ('s += "x"\ns += gen("a", regex="((")\n', 3, "regex: missing )"),
        ('s += "x " * 9000\n\ns += gen("a")\ny = 1\n', 4, "do not fit in the context"),
        ('s += gen_unknown("a")\n', 2, "gen_unknown"),
        ('s += "x"\ns["nope"]\n', 3, "no variable 'nope'"),
        ("if True:\ns\n", 3, "expected an indented block"),
        ("!ls\n", 2, "plain Python"),
    ],
)
def test_mistakes_point_at_their_line(kernel, body, line, message):
    reply = kernel.run("%%sgl\n" + body)
    assert reply.status == "error"
    text = reply.text()
    assert re.search(rf"Cell In\[\d+\], line {line}\b", text), text
    assert message in text
    assert text.count("Cell In[") == 1
    assert "sglnb/" not in text
    assert "/tmp/" not in text
    assert kernel.run("1 + 1").text() == "2"


def test_unknown_option(kernel):
    reply = kernel.run('%%sgl --tempreture 1\ns += "x"')
    assert reply.status == "error"
    assert "did you mean --temperature?" in reply.text()


def test_interrupt_keeps_the_partial_text(kernel):
    msg_id = kernel.start(
        "%%sgl -o cut --max-tokens 1500 --view tokens\n"
        's += user("Tell me a long story.")\n'
        's += assistant(gen("story", ignore_eos=True))\n'
        'pieces = s.text_iter("story")\n'
        "for _ in range(30):\n"
        "    next(pieces)\n"
        'print("thirty")\n'
        's["story"]\n'
    )
    kernel.wait_for_print(msg_id)
    kernel.manager.interrupt_kernel()
    reply = kernel.finish(msg_id)
    assert reply.status == "error"
    (error,) = [content for kind, content in reply.outputs if kind == "error"]
    assert error["ename"] == "KeyboardInterrupt"
    assert len(error["traceback"]) == 1
    assert "\n" not in error["traceback"][0]
    assert any("<details" in data.get("text/html", "") for data in reply.data("display_data"))
    reply = kernel.run("cut.status, len(cut.text) > 60, cut.done")
    assert reply.text() == "('stopped', True, True)"
    # the state lives on, and nothing runs any more
    assert "0 running, 0 waiting" in kernel.run("%sgl status").text()
    again = kernel.run("cut.state += ' The end.'\ncut.state.text()[-8:]")
    assert again.text() == "'The end.'", again.text()


def test_background(kernel):
    reply = kernel.run(
        "%%sgl --bg -o b --max-tokens 8 --temperature 0\n"
        's += user("Say hello")\n'
        's += assistant(gen("a"))\n'
        'found = s["a"]\n'
    )
    assert reply.status == "ok"
    assert "running" in reply.data("execute_result")[0]["text/plain"]
    assert kernel.run("(await b) is b, b.status, found == b['a']").text() == "(True, 'done', True)"


def test_stop_a_background_run(kernel):
    kernel.run('%%sgl --bg -o b --max-tokens 1500\ns += "Once" + gen("a", ignore_eos=True)\ns["a"]')
    assert kernel.run("%sgl stop").text().startswith("stopped: run-")
    assert kernel.run("b.wait(10), b.status").text() == "(True, 'stopped')"
