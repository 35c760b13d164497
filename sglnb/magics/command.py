"""Read the text after ``%%sgl`` or ``%sgl`` into a command. Nothing is run here.

Parsing is apart from running so that it can be tested, and its mistakes told, without a
notebook: each mistake is one :class:`UsageError` that says what to write instead.
"""

from __future__ import annotations

import argparse
import difflib
import keyword
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from IPython.core.error import UsageError

from ..runtime.sampling_params import SamplingParams

VIEWS = {
    "auto": "the views that fit what the program did",
    "tokens": "each token and why it was said",
    "tree": "the radix tree of cached prefixes",
    "program": "the program as its source has it, filled in while it runs",
    "constraint": "the automaton of a constraint and what its mask removed",
    "branches": "the branches of a fork on a time axis",
    "schedule": "the engine's steps: who was in each, who waited",
    "all": "all of them",
    "text": "plain text only",
    "none": "nothing",
}

PANES = tuple(name for name in VIEWS if name not in ("auto", "all", "text", "none"))
"""Those that can be named together."""

SUBCOMMANDS = {
    "status": "the engine: model, device, threads, cache use",
    "models": "the models that can be named after --model",
    "cache": "the radix tree as it is now",
    "flush": "forget all cached prefixes",
    "stop": "stop all runs, or the run or request named: %sgl stop run-3",
    "runs": "the runs of this session; %sgl runs run-3 gives that run",
    "help": "how to use %%sgl, or one topic: %sgl help fork",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCommand:
    """What a ``%%sgl`` line asks for. None = not said."""

    output: str | None = None
    model: str | None = None
    view: str | None = None
    background: bool = False
    help: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    jump_forward: bool | None = None

    @property
    def sampling(self) -> dict[str, Any]:
        """The sampling parameters that were given, under the names of SamplingParams."""
        values = {
            "temperature": self.temperature,
            "max_new_tokens": self.max_tokens,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "seed": self.seed,
            "stop": None if self.stop is None else list(self.stop),
            "jump_forward": self.jump_forward,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class LineCommand:
    """What a ``%sgl`` line asks for: one of :data:`SUBCOMMANDS` and at most one word."""

    name: str
    argument: str | None = None


class _Parser(argparse.ArgumentParser):
    """argparse that raises UsageError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message.removeprefix('argument ')}")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def _name(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"expected the name of a variable, got {text!r}")
    return text


def _view(text: str) -> str:
    names = text.split(",")
    for name in names:
        if name not in VIEWS:
            raise argparse.ArgumentTypeError(
                f"unknown view {name!r}{suggestion(name, VIEWS)} Views: {', '.join(VIEWS)}"
            )
        if len(names) > 1 and name not in PANES:
            raise argparse.ArgumentTypeError(f"{name!r} stands alone; got {text!r}")
    return text


def _string(text: str) -> str:
    """A stop string as typed, where backslash-n and backslash-t mean newline and tab."""
    escapes = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}
    return re.sub(r"\\[nt\\]", lambda match: escapes[match[0]], text)


def suggestion(word: str, known: Iterable[str]) -> str:
    """`` (did you mean X?).`` for the nearest known word, ``.`` when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)." if near else "."


def cell_parser() -> argparse.ArgumentParser:
    """The parser of a ``%%sgl`` line; its help is the magic's help."""
    parser = _Parser(
        prog="%%sgl",
        add_help=False,
        allow_abbrev=False,
        usage="%%%%sgl [options]",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28, width=92),
    )
    add = parser.add_argument
    add("-o", "--output", metavar="NAME", type=_name, help="keep the run in the variable NAME")
    add("--model", metavar="PATH", help="model folder or hub name; default: the current backend")
    add("--temperature", metavar="T", type=_number, help="0 = always the likeliest token")
    add("--max-tokens", metavar="N", type=_whole, help="most tokens that one gen may write")
    add("--top-p", metavar="P", type=_number, help="sample from the likeliest tokens that sum to P")
    add("--top-k", metavar="K", type=_whole, help="sample from the K likeliest tokens")
    add("--min-p", metavar="P", type=_number, help="drop tokens under P x the likeliest one")
    add("--seed", metavar="N", type=_whole, help="same seed, same text")
    add(
        "--stop",
        metavar="S",
        type=_string,
        nargs="+",
        action="extend",
        help=r"end a gen before any of these strings; \n is a newline",
    )
    add(
        "--view",
        metavar="VIEW",
        type=_view,
        help=f"what to show: {', '.join(VIEWS)}; several panes with commas between",
    )
    add("--bg", action="store_true", dest="background", help="run on; the cell returns at once")
    add(
        "--no-jump-forward",
        action="store_false",
        default=None,
        dest="jump_forward",
        help="sample forced text token by token too",
    )
    add("-h", "--help", action="store_true", help="show this help")
    return parser


_PARSER = cell_parser()
OPTIONS = tuple(o for action in _PARSER._actions for o in action.option_strings)
TAKES_VALUE = frozenset(
    o for action in _PARSER._actions if action.nargs != 0 for o in action.option_strings
)


def parse_cell(line: str) -> CellCommand:
    """The command of ``%%sgl <line>``.

    ``name << options`` is read as ``-o name options``.

    Raises:
        UsageError: an unknown option or a value out of range; one line, names the cure.
    """
    sugar = re.match(r"\s*(\w+)\s*<<(.*)", line)
    if sugar:
        line = sugar[2]
    found, extra = _PARSER.parse_known_args(_split(line, "%%sgl"))
    if extra:
        raise UsageError(f"%%sgl: {_unexpected(extra[0])}")
    if sugar:
        if found.output is not None:
            raise UsageError("%%sgl: give the variable once: NAME << or -o NAME, not both")
        try:
            found.output = _name(sugar[1])
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"%%sgl: before <<: {error}") from None
    values = vars(found)
    if values["stop"] is not None:
        values["stop"] = tuple(values["stop"])
    command = CellCommand(**values)
    _check_ranges(command)
    return command


def parse_line(line: str) -> LineCommand:
    """The command of ``%sgl <line>``; an empty line and ``--help`` ask for help.

    Raises:
        UsageError: an unknown sub-command or too many words.
    """
    words = _split(line, "%sgl")
    if not words or words[0] in ("-h", "--help"):
        return LineCommand("help", words[1] if len(words) > 1 else None)
    name, rest = words[0], words[1:]
    if name.startswith("-"):
        raise UsageError(
            f"%sgl: {name} is an option of a cell: write it after %%sgl (two %) at the top of a "
            "cell. %sgl --help lists them"
        )
    if name not in SUBCOMMANDS:
        raise UsageError(
            f"%sgl: unknown command {name!r}{suggestion(name, SUBCOMMANDS)} "
            f"Commands: {', '.join(SUBCOMMANDS)}"
        )
    if rest and (name not in ("stop", "runs", "help") or len(rest) > 1):
        raise UsageError(f"%sgl {name}: unexpected word {rest[-1]!r}")
    return LineCommand(name, rest[0] if rest else None)


def _split(line: str, prog: str) -> list[str]:
    """Words of a shell-like line. A backslash is kept: it belongs to paths and ``\\n``."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = ""
    try:
        return list(lexer)
    except ValueError:
        raise UsageError(f"{prog}: a quote is opened but not closed in: {line.strip()}") from None


def _unexpected(word: str) -> str:
    if word.startswith("-"):
        option = word.partition("=")[0]
        return f"unknown option {option}{suggestion(option, OPTIONS)} %sgl --help lists them"
    if word in SUBCOMMANDS:
        return f"{word!r} is a line command: write %sgl {word} (one %)"
    return f"unexpected word {word!r}; the program goes on the next lines, options start with --"


def _check_ranges(command: CellCommand) -> None:
    """SamplingParams knows the limits; here only the names are put as the user typed them."""
    try:
        SamplingParams.of(command.sampling)
    except ValueError as error:
        name, _, rest = str(error).partition(":")
        name = "max_tokens" if name == "max_new_tokens" else name
        raise UsageError(f"%%sgl: --{name.replace('_', '-')}:{rest}") from None
