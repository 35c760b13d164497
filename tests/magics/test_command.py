import dataclasses

import pytest
from IPython.core.error import UsageError

from sglnb.magics.command import CellCommand, LineCommand, cell_parser, parse_cell, parse_line


def test_nothing_said():
    assert parse_cell("") == CellCommand()
    assert parse_cell("").sampling == {}


def test_all_options():
    command = parse_cell(
        "-o r --model ./m --temperature 0.5 --max-tokens 7 --top-p 0.9 --top-k 5 --min-p 0.1 "
        "--seed 3 --stop a b --view tree --bg --no-jump-forward"
    )
    assert (command.output, command.model, command.view) == ("r", "./m", "tree")
    assert command.background
    assert not command.help
    assert command.sampling == {
        "temperature": 0.5,
        "max_new_tokens": 7,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "seed": 3,
        "stop": ["a", "b"],
        "jump_forward": False,
    }


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_cell("").seed = 3


@pytest.mark.parametrize("line", ["r <<", "r<< --seed 1", "  r  <<  "])
def test_sugar_for_the_variable(line):
    assert parse_cell(line).output == "r"


@pytest.mark.parametrize(
    ("line", "stop"),
    [
        (r"--stop \n", ("\n",)),
        (r'--stop "\n" "end of it"', ("\n", "end of it")),
        (r"--stop \t --seed 1 --stop \\n", ("\t", r"\n")),
        ("--stop=--x", ("--x",)),
    ],
)
def test_stop_strings(line, stop):
    assert parse_cell(line).stop == stop


def test_backslashes_of_paths_stay():
    assert parse_cell(r"--model C:\new\table").model == r"C:\new\table"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--tempreture 1", "unknown option --tempreture (did you mean --temperature?)"),
        ("--max_tokens=3", "did you mean --max-tokens?"),
        ("--max 3", "unknown option --max"),
        ("--temperature hot", "--temperature: expected a number, got 'hot'"),
        ("--temperature -1", "--temperature: must be a number at least 0"),
        ("--temperature nan", "--temperature: must be a number"),
        ("--max-tokens 2.5", "--max-tokens: expected a whole number, got '2.5'"),
        ("--max-tokens -3", "--max-tokens: must be a whole number at least 0, got -3"),
        ("--top-p 0", "--top-p: must be a number over 0"),
        ("--top-k 0", "--top-k: must be at least 1"),
        ("--view toknes", "did you mean tokens?"),
        ("--view tree,toknes", "did you mean tokens?"),
        ("--view tree,all", "'all' stands alone"),
        ("--seed", "--seed: expected one argument"),
        ("-o 3x", "expected the name of a variable, got '3x'"),
        ("-o for", "expected the name of a variable, got 'for'"),
        ("3x << ", "before <<: expected the name of a variable"),
        ("a << -o b", "not both"),
        ("--stop 'a", "a quote is opened but not closed"),
        ("status", "write %sgl status (one %)"),
        ("hello there", "unexpected word 'hello'"),
    ],
)
def test_mistakes_are_one_clear_line(line, message):
    with pytest.raises(UsageError) as caught:
        parse_cell(line)
    assert message in str(caught.value)
    assert str(caught.value).startswith("%%sgl: ")
    assert "\n" not in str(caught.value)


def test_help_names_every_option():
    text = cell_parser().format_help()
    for option in ("--temperature", "--stop", "--bg", "--no-jump-forward", "-o NAME"):
        assert option in text


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("", LineCommand("help")),
        ("--help", LineCommand("help")),
        ("-h fork", LineCommand("help", "fork")),
        ("status", LineCommand("status")),
        ("stop cell-3", LineCommand("stop", "cell-3")),
        ("help fork", LineCommand("help", "fork")),
    ],
)
def test_line_commands(line, command):
    assert parse_line(line) == command


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stats", "unknown command 'stats' (did you mean status?)"),
        ("flush all", "unexpected word 'all'"),
        ("stop a b", "unexpected word 'b'"),
        ("--seed 3", "write it after %%sgl"),
    ],
)
def test_line_mistakes(line, message):
    with pytest.raises(UsageError) as caught:
        parse_line(line)
    assert message in str(caught.value)
