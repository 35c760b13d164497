"""Regex text to a small syntax tree, by the standard library's own parser.

Python's syntax and flags, with the meaning of ``re.fullmatch``. What a finite automaton
cannot do (look around, refer back, commit to a greedy match) is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from re import _parser as parser
from typing import Any

import regex

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.charset import (
    ANYTHING,
    NOT_NEWLINE,
    CharSet,
    category,
    charset,
    complement,
    ignore_case,
)
from sglnb.runtime.constraints.properties import Properties


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of a set."""

    chars: CharSet


@dataclass(frozen=True, slots=True)
class Concat:
    """One part after the other. No part: the empty text."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """Any one of the options."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """``body`` from ``low`` to ``high`` times. None: no upper bound."""

    body: Node
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Anchor:
    """``^`` or ``$``, and their relatives, before it is known to stand at an edge."""

    begins: bool
    spelling: str


Node = Chars | Concat | Union | Repeat | Anchor
EMPTY = Concat(())

MAX_LENGTH = 100_000
"""Characters of a regex, at most; parsing that many takes half a second."""

_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}
_ANCHORS = {
    "AT_BEGINNING": Anchor(True, "^"),
    "AT_BEGINNING_STRING": Anchor(True, r"\A"),
    "AT_END": Anchor(False, "$"),
    "AT_END_STRING": Anchor(False, r"\Z"),
}
_LOOK_CURE = "Spell the wanted alternatives out, or check the text after it is generated."
_REFUSED = {  # operation: (name, how it is spelled, what to do)
    "ASSERT": ("lookaround", ("(?=", "(?<="), _LOOK_CURE),
    "ASSERT_NOT": ("negative lookaround", ("(?!", "(?<!"), _LOOK_CURE),
    "FAILURE": ("negative lookaround", ("(?!", "(?<!"), _LOOK_CURE),
    "GROUPREF": (
        "a backreference",
        ("(?P=", "\\1"),
        "Repeat the group's pattern, or use two gen() calls.",
    ),
    "GROUPREF_EXISTS": ("a conditional group", ("(?(",), "Write both cases as alternatives."),
    "POSSESSIVE_REPEAT": ("a possessive quantifier", ("*+",), "Drop the extra '+'."),
    "ATOMIC_GROUP": ("an atomic group", ("(?>",), "Use (?:...) instead."),
    "AT_BOUNDARY": (r"a word boundary \b", (r"\b",), "Spell the neighbouring characters out."),
    "AT_NON_BOUNDARY": (r"\B", (r"\B",), "Spell the neighbouring characters out."),
}
_TOKENS = re.compile(
    r"""(?P<escape>\\(?:[1-9][0-9]*|.))
    | \[\^?\]?(?:\\.|[^\]\\])*\]
    | (?P<comment>\(\?\#[^)]*\)|\#[^\n]*)
    | (?P<group>\(\?(?:P=|<=|<!|[=!>(]))
    | (?P<repeat>(?:[*+?]|\{[0-9]*,?[0-9]*\})\+)
    | (?P<anchor>[\^$])
    | .""",
    re.VERBOSE | re.DOTALL,
)


def parse_regex(source: str) -> Node:
    """Parse ``source``.

    Raises:
        ConstraintError: not a regex, or it uses what no finite automaton can do.
    """
    if len(source) > MAX_LENGTH:
        raise ConstraintError(
            f"regex: too large: {len(source):,} characters, more than {MAX_LENGTH:,}; shorten it, "
            "or use choices for a long list"
        )
    with _told(source) as properties:
        tree = parser.parse(properties.source)
        lowering = _Lowering(source, properties, tree.state.flags)
        return lowering.drop_anchors(lowering.sequence(tree, tree.state.flags), True, True)


def check_regex(source: str) -> None:
    """ConstraintError if ``source`` is no regex. It may still use what only another engine than
    ours can do."""
    with _told(source) as properties:
        parser.parse(properties.source)


@contextmanager
def _told(source: str) -> Iterator[Properties]:
    """The properties of ``source``; what the parser says of it is told with its place."""
    properties = None
    try:
        properties = Properties(source)
        yield properties
    except re.error as error:
        at = error.pos
        if at is not None and properties is not None:
            at = properties.position(at)
        where = "" if at is None else f" at position {at}"
        raise ConstraintError(f"regex: {error.msg}{where}{_pointer(source, at)}") from None
    except OverflowError:
        raise ConstraintError("regex: a repeat count is too large; lower it") from None
    except RecursionError:
        raise ConstraintError("regex: groups are nested too deeply; flatten it") from None


class _Lowering:
    """The parser's tree to ours."""

    def __init__(self, source: str, properties: Properties, flags: int):
        self.source, self.properties = source, properties
        self.verbose = bool(flags & re.VERBOSE)

    def sequence(self, items: Any, flags: int) -> Node:
        """One call per level of nesting: Python's stack is the limit."""
        parts: list[Node] = []
        for op_code, value in items:
            op = str(op_code)
            if op in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
                parts.append(Chars(_element(op, value, flags, self.properties)))
            elif op == "BRANCH":
                options = []
                for option in value[1]:
                    options.append(self.sequence(option, flags))
                parts.append(Union(tuple(options)))
            elif op == "SUBPATTERN":
                _, add, remove, inner = value
                parts.append(self.sequence(inner, _scoped(flags, add, remove)))
            elif op in ("MAX_REPEAT", "MIN_REPEAT"):
                low, high, inner = value
                body = self.sequence(inner, flags)
                parts.append(Repeat(body, low, None if high == parser.MAXREPEAT else high))
            elif op == "AT" and str(value) in _ANCHORS:
                parts.append(_ANCHORS[str(value)])
            else:
                raise self.refuse(str(value) if op == "AT" else op)
        return parts[0] if len(parts) == 1 else Concat(tuple(parts))

    def drop_anchors(self, node: Node, at_start: bool, at_end: bool) -> Node:
        """Take out the anchors at the edges, where ``re.fullmatch`` makes them say nothing."""
        if isinstance(node, Anchor):
            if at_start if node.begins else at_end:
                return EMPTY
            edge = "start" if node.begins else "end"
            raise _unsupported(
                self.source,
                f"{node.spelling} in mid-pattern",
                _find(self.source, (node.spelling,), self.verbose, last=node.begins),
                f"The whole text is matched anyway: remove it, or move it to the {edge}.",
            )
        if isinstance(node, Concat):
            solid = [i for i, part in enumerate(node.parts) if not _is_empty(part)]
            first, last = (solid[0], solid[-1]) if solid else (len(node.parts), 0)
            parts = []
            for i, part in enumerate(node.parts):
                starts, ends = at_start and i <= first, at_end and i >= last
                parts.append(self.drop_anchors(part, starts, ends))
            return Concat(tuple(parts))
        if isinstance(node, Union):
            options = []
            for option in node.options:
                options.append(self.drop_anchors(option, at_start, at_end))
            return Union(tuple(options))
        if isinstance(node, Repeat):
            once = node.high is not None and node.high <= 1
            body = self.drop_anchors(node.body, at_start and once, at_end and once)
            return EMPTY if _is_empty(body) else Repeat(body, node.low, node.high)
        return node

    def refuse(self, op: str) -> ConstraintError:
        name, spellings, cure = _REFUSED.get(op, (f"{op.lower()}", (), "Rewrite it without."))
        return _unsupported(self.source, name, _find(self.source, spellings, self.verbose), cure)


def _scoped(flags: int, add: int, remove: int) -> int:
    """Flags inside ``(?i-s:...)``; a and u exclude each other."""
    if add & (re.ASCII | re.UNICODE):
        flags &= ~(re.ASCII | re.UNICODE)
    return (flags | add) & ~remove


def _element(op: str, value: Any, flags: int, properties: Properties) -> CharSet:
    """The set of one character of the regex, under ``flags``."""
    if op == "ANY":
        return ANYTHING if flags & re.DOTALL else NOT_NEWLINE
    if op == "IN":
        items = [(str(kind), item) for kind, item in value]
    else:
        negate = [("NEGATE", None)] if op == "NOT_LITERAL" else []
        items = [*negate, ("LITERAL", value)]
    ascii_only = bool(flags & re.ASCII)
    ranges: list[tuple[int, int]] = []
    spelling, compile = "", re.compile
    for kind, item in items:
        if kind == "RANGE" and item[1] in properties:
            raise re.error(f"bad character range {chr(item[0])}-{properties.spelling(item[1])}")
        if kind == "LITERAL" and item in properties:
            ranges.extend(properties.holds(item))
            spelling += properties.spelling(item)
            compile = regex.compile
        elif kind == "LITERAL":
            ranges.append((item, item))
            spelling += f"\\U{item:08x}"
        elif kind == "RANGE":
            ranges.append(item)
            spelling += f"\\U{item[0]:08x}-\\U{item[1]:08x}"
        elif kind == "CATEGORY":
            escape = _CATEGORIES[str(item)]
            ranges.extend(category(escape, ascii_only))
            spelling += escape
    negated = items[0][0] == "NEGATE"
    chars = charset(ranges)
    if negated:
        chars = complement(chars)
    if flags & re.IGNORECASE:
        return ignore_case(chars, f"[{'^' * negated}{spelling}]", ascii_only, compile)
    return chars


def _is_empty(node: Node) -> bool:
    """Whether ``node`` can match nothing but the empty text."""
    if isinstance(node, Concat):
        return all(map(_is_empty, node.parts))
    if isinstance(node, Union):
        return all(map(_is_empty, node.options))
    if isinstance(node, Repeat):
        return node.high == 0 or _is_empty(node.body)
    return isinstance(node, Anchor)


def _find(source: str, spellings: tuple[str, ...], verbose: bool, last: bool = False) -> int | None:
    """Where the regex spells one of ``spellings``; the parser's tree does not say."""
    found = None
    at = 0
    while match := _TOKENS.match(source, at):
        token, at = match[0], match.end()
        if match["comment"] and token[0] == "#" and not verbose:
            at = match.start() + 1
            continue
        reference = match["escape"] and token[1:].isdigit() and "\\1" in spellings
        possessive = match["repeat"] and "*+" in spellings
        named = (match["escape"] or match["group"] or match["anchor"]) and token in spellings
        if reference or possessive or named:
            found = match.start()
            if not last:
                break
    return found


def _unsupported(source: str, name: str, at: int | None, cure: str) -> ConstraintError:
    where = "" if at is None else f" at position {at}"
    return ConstraintError(
        f"regex: {name}{where} cannot guide generation. {cure}{_pointer(source, at)}"
    )


def _pointer(source: str, at: int | None) -> str:
    """Two lines that show the place, for a regex that fits on one."""
    if at is None or len(source) > 100 or not source.isprintable():
        return ""
    return f"\n  {source}\n  {' ' * at}^"
