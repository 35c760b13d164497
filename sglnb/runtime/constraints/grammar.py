"""Grammars as users write them: Lark, or the EBNF of llama.cpp and SGLang (GBNF)."""

from __future__ import annotations

import re
from functools import lru_cache

import llguidance
from llguidance.gbnf_to_lark import gbnf_to_lark

from sglnb.errors import ConstraintError

HEAD = '%llguidance {"no_forcing": true}\n'
"""Before each grammar: a mask allows whatever the grammar does, not only the canonical tokens of
a forced text. For those there is :meth:`.LLGCursor.forced_tokens`."""

_LITERAL = r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]'
_LITERAL_OR_COMMENT = re.compile(rf"{_LITERAL}|#[^\n]*")
_LITERAL_OR_BREAK = re.compile(rf"{_LITERAL}|\s*\n\s*(?=\|)")
_EBNF_RULE = re.compile(r"^\s*[\w-]+\s*::=", re.MULTILINE)


def read_grammar(source: str, kind: str) -> str:
    """The grammar as Lark for llguidance.

    Args:
        source: with a rule ``start: ...`` it is Lark, with ``root ::= ...`` EBNF.
        kind: ``grammar`` takes both, ``ebnf`` only the second.

    Raises:
        ConstraintError: it is neither, or has a mistake.
    """
    if not isinstance(source, str):
        raise ConstraintError(f"{kind}: expected a string, got {type(source).__name__}")
    text, error = _read(source, kind)
    if error:
        raise ConstraintError(f"{kind}: {error}")
    return text


@lru_cache(maxsize=128)
def _read(source: str, kind: str) -> tuple[str, str]:
    """(Lark, "") or ("", what is wrong)."""
    if not source.strip():
        return "", "it is empty; write start: ... (Lark) or root ::= ... (EBNF)"
    ebnf = bool(_EBNF_RULE.search(source))
    if kind == "ebnf" and not ebnf:
        return "", "it has no rule; write root ::= ..."
    lark = source
    if ebnf:
        try:
            lark = gbnf_to_lark(_one_line_rules(source))
        except IndexError:
            return "", "it ends inside an escape"
        except Exception as error:  # the converter raises nothing more special
            return "", str(error)
    lark = HEAD + lark
    message = llguidance.LLMatcher.validate_grammar(lark)
    if message:
        place = re.match(r"(?:at )?(\d+)\(", message)
        line = int(place[1]) - HEAD.count("\n") if place and not ebnf else 0
        return "", told(message) + (f" (line {line})" if line > 0 else "")
    return lark, ""


def matches(lark: str, text: str) -> bool:
    """Whether ``text`` is one of the grammar, whatever the tokens."""
    matcher = llguidance.LLMatcher(_bytes(), lark, log_level=0)
    ids = list(text.encode())
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


@lru_cache(maxsize=1)
def _bytes() -> llguidance.LLTokenizer:
    return llguidance.LLTokenizer("byte")


def _one_line_rules(source: str) -> str:
    """``source`` without comments, and with alternatives that begin a line moved behind the
    line before: the converter ends a rule at the end of its line."""
    bare = _LITERAL_OR_COMMENT.sub(lambda m: "" if m[0].startswith("#") else m[0], source)
    return _LITERAL_OR_BREAK.sub(lambda m: m[0] if m[0].strip() else " ", bare)


def told(message: str) -> str:
    """What llguidance says, without the listing of the grammar and its own state behind it."""
    text = re.split(r"\n<state>|\n +\d+ \|", message)[0]
    text = text.split(". Enable 'coerce_one_of'")[0]
    text = re.sub(r"^(at )?\d+\(\d+\): (failed to compile JSON schema: )?", "", text)
    return " ".join(text.replace("^", " ").split())
