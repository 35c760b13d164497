"""The magics on the embedded model, in a shell without a front end."""

import threading

import pytest

from sglnb import ContextLengthError, GenerationError, get_default_backend
from sglnb.magics import Run, SglMagics, load_ipython_extension, unload_ipython_extension
from sglnb.viz import static_html


@pytest.fixture
def ip(shell, capsys):
    load_ipython_extension(shell)
    yield shell
    unload_ipython_extension(shell)


def run(ip, text):
    """Run a cell that must go well; its value."""
    result = ip.run_cell(text, store_history=True)
    result.raise_error()
    return result.result


def fail(ip, text):
    """Run a cell that must fail; its error."""
    result = ip.run_cell(text, store_history=True)
    assert not result.success
    return result.error_in_exec


def test_the_run_is_the_value_and_the_variable(ip):
    found = run(
        ip, '%%sgl -o r --view none\ns += "One, two," + gen("a", max_tokens=4)\nx = s["a"]\n'
    )
    assert isinstance(found, Run)
    assert ip.user_ns["r"] is ip.user_ns["_"] is found
    assert found["a"] == found.variables["a"] == ip.user_ns["x"]
    assert found.text == "One, two," + found["a"]
    assert (found.status, found.error, found.done) == ("done", None, True)
    assert not {"s", "gen", "user", "sgl"} & set(ip.user_ns)


def test_unread_generations_are_waited_for(ip):
    found = run(
        ip, '%%sgl\nfor b in s.fork(3):\n    b += "Hi" + gen("a", max_tokens=3, ignore_eos=True)\n'
    )
    assert found.totals().requests == 3
    assert found.totals().completion_tokens == 9


def test_options_are_defaults_and_gen_wins(ip):
    found = run(
        ip,
        "%%sgl --max-tokens 3 --temperature 0\n"
        's += "Once upon a time" + gen("a", ignore_eos=True)\n'
        's += gen("b", max_tokens=2, ignore_eos=True)\n',
    )
    assert found.state.get_meta_info("a")["completion_tokens"] == 3
    assert found.state.get_meta_info("b")["completion_tokens"] == 2
    again = run(
        ip,
        '%%sgl --temperature 0\ns += "Once upon a time" + gen("a", max_tokens=3, ignore_eos=True)',
    )
    assert again["a"] == found["a"]


def test_config(ip):
    ip.run_line_magic("config", "SglMagics.max_tokens = 2")
    ip.run_line_magic("config", "SglMagics.view = 'none'")
    found = run(ip, '%%sgl\ns += "Hi" + gen("a", ignore_eos=True)')
    assert found.totals().completion_tokens == 2
    assert found.view == "none"
    more = run(ip, '%%sgl --max-tokens 4\ns += "Hi" + gen("a", ignore_eos=True)')
    assert more.totals().completion_tokens == 4


def test_the_users_own_names(ip):
    run(ip, "user = 'Ann'; s = 3")
    run(ip, "%%sgl\ns += user('hello')\nassert user is not None")
    assert ip.user_ns["user"] == "Ann"
    assert ip.user_ns["s"] == 3


def test_programs_called_in_the_cell_belong_to_its_run(ip):
    run(
        ip,
        "import sglnb\n@sglnb.function\ndef f(s):\n    s += 'Hi' + sglnb.gen('a', max_tokens=2)\n",
    )
    assert run(ip, "%%sgl\nf.run()\nf.run()\n").totals().requests == 2
    assert run(ip, "f.run()").run_id.startswith("run-") is False


def test_errors_of_generations_point_at_the_gen(ip, capsys):
    error = fail(ip, '%%sgl\ns += "x " * 9000\ns += gen("a")\n\ny = s["a"]\n')
    assert isinstance(error, GenerationError)
    assert isinstance(error.cause, ContextLengthError)
    text = capsys.readouterr().out
    assert "Cell In[1], line 3" in text
    assert "line 5" not in text
    assert "gen('a') at line 3 failed" in text


def test_errors_of_generations_point_into_other_cells(ip, capsys):
    run(
        ip,
        "import sglnb\ndef ask(s):\n    s += 'x ' * 9000\n    s += sglnb.gen('a')\n",
    )
    fail(ip, "%%sgl\nask(s)\n")
    assert "Cell In[1], line 4" in capsys.readouterr().out
    fail(ip, "%%sgl\nask(s)\ns['a']\n")
    assert "Cell In[3], line 3" in capsys.readouterr().out


def test_places_in_a_regex_are_told_on_one_line(ip, capsys):
    fail(ip, '%%sgl\ns += "Hi" + gen("a", regex="(?=b)b")\n')
    text = capsys.readouterr().out
    assert "lookaround at position 0" in text
    assert "^" not in text


def test_a_branch_that_nobody_joined_fails_the_cell(ip, capsys):
    fail(ip, '%%sgl\nb = s.fork(2)\nb[1] += "x " * 9000\nb[1] += gen("a")\n')
    assert "Cell In[1], line 4" in capsys.readouterr().out


def test_kept_errors_of_branches_do_not(ip):
    run(
        ip,
        "%%sgl\nb = s.fork(2)\nb[0] += 'Hi' + gen('a', max_tokens=2)\n"
        "b[1] += 'x ' * 9000\nb[1] += gen('a')\nb.join(on_error='keep')\n",
    )


def test_joined_branches_point_at_the_gen(ip, capsys):
    fail(ip, '%%sgl\nb = s.fork(2)\nb += "x " * 9000\nb += gen("a")\nb.join()\n')
    assert "Cell In[1], line 4" in capsys.readouterr().out


def test_a_failed_run_is_kept(ip):
    fail(ip, '%%sgl -o r\ns += "Hi" + gen("a", max_tokens=3)\ns["a"]\n1 / 0\n')
    found = ip.user_ns["r"]
    assert found.status == "failed"
    assert isinstance(found.error, ZeroDivisionError)
    assert found["a"]
    run(ip, '%%sgl\ns += "Hi"\n')


def test_background(ip):
    run(ip, "n = 1")
    found = run(
        ip,
        '%%sgl --bg\ns += "Hi" + gen("a", max_tokens=3, ignore_eos=True)\na = s["a"]\nm = n\n',
    )
    assert found.wait(20)
    assert found.status == "done"
    assert ip.user_ns["a"] == found["a"]
    assert ip.user_ns["m"] == 1
    assert "s" not in ip.user_ns


def test_a_background_body_knows_its_own_run(ip, capsys):
    found = run(ip, "%%sgl --bg -o q\nmine = q\nget_ipython().run_line_magic('sgl', 'stop')\n")
    assert found.wait(20)
    assert ip.user_ns["mine"] is found
    assert f"stopped: {found.id}" in capsys.readouterr().out


def test_variables_of_a_background_run_are_waited_for(ip):
    run(ip, "import threading; gate = threading.Event()")
    found = run(
        ip, '%%sgl --bg\ngate.wait(20)\ns += "Hi" + gen("a", max_tokens=3, ignore_eos=True)\n'
    )
    threading.Timer(0.1, ip.user_ns["gate"].set).start()
    assert found["a"]
    assert found.wait(20)
    assert found.status == "done"
    found.state += "!"  # and it lives on
    assert found.state.text().endswith("!")


def test_background_errors_come_with_await(ip, capsys):
    found = run(ip, "%%sgl --bg -o q\nx = 1\n1 / 0\n")
    assert found.wait(20)
    assert isinstance(fail(ip, "await q"), ZeroDivisionError)
    text = capsys.readouterr().out
    assert "Cell In[1], line 3" in text
    assert "run.py" not in text


def test_stop_keeps_the_text(ip):
    found = run(
        ip, '%%sgl --bg --max-tokens 1500\ns += "Once" + gen("a", ignore_eos=True)\nx = s["a"]\n'
    )
    while len(found.text) < 20:
        assert not found.wait(0.01)
    found.stop()
    assert found.wait(20)
    assert found.status == "stopped"
    assert found.text.startswith("Once")
    get_default_backend().check()


def test_model(ip, tmp_path, capsys):
    from sglnb.runtime.models.load import ASSETS

    cell = f'%%sgl --model {ASSETS / "sgl-tiny"}\ns += "Hi" + gen("a", max_tokens=2)\n'
    first, second = run(ip, cell), run(ip, cell)
    assert first.backend is second.backend is not get_default_backend()
    first.backend.shutdown()
    fail(ip, f"%%sgl --model {tmp_path}\nx")
    assert "--model: no checkpoint at" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["status", "models", "cache", "runs", "help", "help fork"])
def test_line_commands(ip, name, capsys):
    run(ip, '%%sgl --view none\ns += "Hello there" + gen("a", max_tokens=2, ignore_eos=True)')
    capsys.readouterr()
    run(ip, f"%sgl {name}")
    text = capsys.readouterr().out
    expected = {
        "status": "running, 0 waiting",
        "models": "sgl-tiny  embedded, loaded",
        "cache": "Hello",
        "runs": "2 tokens",
        "help": "--temperature",
        "help fork": "branches.join()",
    }
    assert expected[name] in text


def test_flush(ip, capsys):
    run(ip, '%%sgl --view none\ns += "Hello there" + gen("a", max_tokens=2, ignore_eos=True)')
    run(ip, "%sgl flush")
    assert "tokens forgotten" in capsys.readouterr().out
    assert get_default_backend().cache.snapshot() == []


def test_runs_by_name(ip, capsys):
    found = run(ip, "%%sgl\ns += 'x'")
    assert run(ip, f"%sgl runs {found.id}") is found
    fail(ip, "%sgl runs run-x")
    assert "no run 'run-x'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["%%sgl?", "%sgl?", "%sgl --help"])
def test_help(ip, text, capsys):
    run(ip, text)
    out = capsys.readouterr().out
    assert "--max-tokens" in out or "%sgl status" in out


def test_completion_of_the_state(ip):
    from IPython.core.completer import provisionalcompleter

    with provisionalcompleter():
        text = "%%sgl\ns.te"
        assert "text" in [c.text for c in ip.Completer.completions(text, len(text))]


def test_pictures_escape_text(ip):
    found = run(ip, "%%sgl\ns += '<script>alert(1)</script>' + gen('a', max_tokens=2)")
    picture = static_html(found.events(), found.id)
    assert "&lt;" in picture
    assert "<script" not in picture
    assert "<script>alert" not in found.to_html()


def test_unload_takes_everything_back(ip):
    before = len(ip.Completer.custom_matchers)
    load_ipython_extension(ip)
    assert len(ip.Completer.custom_matchers) == before
    unload_ipython_extension(ip)
    assert len(ip.Completer.custom_matchers) == before - 1
    assert not any(isinstance(c, SglMagics) for c in ip.configurables)
    assert ip.find_cell_magic("sgl") is None
    assert ip.find_line_magic("sgl") is None
