"""Line numbers and frames of errors, in a cell that only compiles and runs its body."""

import pytest

from sglnb.errors import SglError
from sglnb.magics.source import compile_body, register
from sglnb.magics.tracebacks import clean, point_at, user_lines


@pytest.fixture
def run(shell, capsys):
    """Run a cell with a stand-in for the magic; returns (result, printed text)."""

    def sgl(line, body):
        filename = register(shell, line, body)
        try:
            return compile_body(shell, body, filename).run(shell.user_ns)
        except Exception as error:
            raise clean(shell, error) from None

    def blame(lineno):
        raise point_at(SglError("it went wrong"), register(shell, "", "a\nb\nc\n"), lineno)

    shell.register_magic_function(sgl, "cell")
    shell.user_ns["blame"] = blame

    def run_cell(text):
        result = shell.run_cell(text, store_history=True)
        return result, capsys.readouterr().out

    return run_cell


def test_value_and_names(run, shell):
    result, _ = run("%%sgl\nx = 3\nx + 1\n")
    assert result.success
    assert result.result == 4
    assert shell.user_ns["x"] == 3


def test_error_line_counts_the_magic_line(run):
    result, text = run("%%sgl --seed 1\nx = 1\n\nx / 0  # here\n")
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert "Cell In[1], line 4" in text
    assert "x / 0  # here" in text
    assert text.count("line ") == 1
    assert "source.py" not in text


def test_error_in_a_function_of_the_cell(run):
    _, text = run("%%sgl\ndef f():\n    return {}['k']\n\nf()\n")
    assert "Cell In[1], line 5" in text
    assert "Cell In[1], line 3" in text
    assert "names.py" not in text
    assert "interactiveshell" not in text


def test_frames_of_libraries_are_hidden(run):
    _, text = run("%%sgl\nimport json\njson.loads('nope')\n")
    assert "Cell In[1], line 3" in text
    assert "decoder.py" not in text
    assert "JSONDecodeError" in text


def test_the_cell_number_follows(run):
    run("1")
    _, text = run("%%sgl\n1/0\n")
    assert "Cell In[2], line 2" in text


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        ("x = 1\nx = = 2\n", 3, "invalid syntax"),
        ("x = 1\nif x:\npass\n", 4, "expected an indented block"),
        ("!ls\n", 2, "plain Python"),
        ("x = 1\nfiles = !ls\n", 3, "plain Python"),
        ("x = 1\n%time x\n", 3, "plain Python"),
        ("print?\n", 2, "plain Python"),
        ("return 3\n", 2, "outside function"),
    ],
)
def test_syntax_errors(run, body, line, message):
    result, text = run("%%sgl\n" + body)
    assert not result.success
    assert f"Cell In[1], line {line}" in text
    assert message in text
    assert "SyntaxError" in text or "IndentationError" in text
    assert "source.py" not in text
    assert "interactiveshell" not in text


def test_async_functions_are_fine(run):
    result, _ = run("%%sgl\nasync def f():\n    await g()\n")
    assert result.success


def test_point_at_a_line(run):
    result, text = run("blame(3)")
    assert isinstance(result.error_in_exec, SglError)
    assert "it went wrong" in text
    error = point_at(SglError("x"), "cell", 7)
    assert user_lines(error) == [("cell", 7)]


def test_the_context_of_library_errors_is_hidden(run, shell):
    def lookup():
        try:
            {}["k"]
        except KeyError:
            raise SglError("no such thing")  # noqa: B904

    lookup.__code__ = lookup.__code__.replace(co_filename=shell.__class__.__module__)
    shell.user_ns["lookup"] = lookup
    _, text = run("%%sgl\nlookup()\n")
    assert "no such thing" in text
