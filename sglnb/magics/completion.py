"""What Tab offers after ``%sgl`` and ``%%sgl`` and in the body of a ``%%sgl`` cell.

Options and sub-commands come from the parser. In the body the names that are lent to the
cell are not in the notebook's namespace yet, so IPython's own completer cannot know them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)

from .command import OPTIONS, PANES, SUBCOMMANDS, TAKES_VALUE, VIEWS

Matcher = Callable[[CompletionContext], SimpleMatcherResult]


def make_matcher(lent: Callable[[], Mapping[str, Any]]) -> Matcher:
    """A matcher for ``ip.Completer.custom_matchers``.

    Args:
        lent: gives the names lent to a cell; for ``s`` its class stands in.
    """

    @context_matcher(identifier="sglnb_matcher")
    def sglnb_matcher(context: CompletionContext) -> SimpleMatcherResult:
        before = context.text_until_cursor
        if context.cursor_line == 0 and before.startswith("%%sgl "):
            return _found(before, option_words(before[len("%%sgl ") :]), "option")
        if re.match(r"\s*%sgl\s+\S*$", before):
            return _found(before, [*SUBCOMMANDS, "--help"], "command")
        if context.cursor_line > 0 and re.match(r"\s*%%sgl(\s|$)", context.full_text):
            words, kind = body_words(before, lent())
            fragment = re.search(r"\w*$", before)[0]
            return _result(words, fragment, kind, suppress=False)
        return SimpleMatcherResult(completions=[], suppress=False)

    return sglnb_matcher


def option_words(line: str) -> list[str]:
    """What may stand at the end of ``line``, the text after ``%%sgl `` up to the cursor."""
    words = line.split()
    if line and not line[-1].isspace():
        words = words[:-1]
    last = words[-1] if words else ""
    if last == "--view":
        named = line.rpartition(" ")[2].split(",")[:-1]
        if named and all(name in PANES for name in named):
            return [",".join([*named, pane]) for pane in PANES if pane not in named]
        return list(VIEWS)
    if last in TAKES_VALUE and last != "--stop":
        return []
    return [option for option in OPTIONS if option not in words]


def body_words(before: str, lent: Mapping[str, Any]) -> tuple[list[str], str]:
    """Words for the end of ``before`` (one line of the body) and what they are."""
    attribute = re.search(r"\b(\w+)\.\w*$", before)
    if attribute:
        owner = lent.get(attribute[1])
        return [name for name in dir(owner) if owner and not name.startswith("_")], "function"
    words: list[str] = []
    call = re.search(r"\b(\w+)\((?:[^()]*,)?\s*\w*$", before)
    if call and callable(lent.get(call[1])):
        words += [f"{name}=" for name in _keywords(lent[call[1]]) if f"{name}=" not in before]
    return [*words, *lent], "param"


def _keywords(function: Callable[..., Any]) -> Iterable[str]:
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return []
    return [p.name for p in parameters if p.kind in kinds]


def _found(before: str, words: list[str], kind: str) -> SimpleMatcherResult:
    return _result(words, re.search(r"\S*$", before)[0], kind, suppress=True)


def _result(words: list[str], fragment: str, kind: str, suppress: bool) -> SimpleMatcherResult:
    found = [SimpleCompletion(word, type=kind) for word in words if word.startswith(fragment)]
    return SimpleMatcherResult(
        completions=found, matched_fragment=fragment, suppress=suppress and bool(found)
    )
