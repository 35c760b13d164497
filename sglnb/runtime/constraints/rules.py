"""A grammar as rules, from which everything that can never be finished or begun is left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sglnb.runtime.constraints.grammar import HEAD


class Symbol(NamedTuple):
    """A non-terminal.

    Attributes:
        label: what it stands for, in a word of small letters.
        of: number of its type or name of its function.
        depth: how many brackets may open inside it, one in another.
    """

    label: str
    of: Any
    depth: int


class Repeat(NamedTuple):
    """Items that are written ``least`` to ``most`` times (None: any number)."""

    items: tuple[Symbol | str, ...]
    least: int
    most: int | None


Item = Symbol | Repeat | str
"""A part of a production; a string is a terminal as Lark has it."""


def text(literal: str) -> str:
    """A terminal for exactly this text. One word or sign each: the lexer takes the longest
    terminal that goes on, so ``", day="`` beside ``", "`` would hide a ``date(`` behind it.
    """
    return json.dumps(literal, ensure_ascii=False)


class Rules:
    """Productions by symbol. A symbol is ``in`` the rules once it was asked for."""

    def __init__(self) -> None:
        self._of: dict[Symbol, list[tuple[Item, ...]]] = {}
        self._numbers: dict[Symbol, int] = {}

    def __contains__(self, symbol: Symbol) -> bool:
        return symbol in self._of

    def open(self, symbol: Symbol) -> None:
        """Know ``symbol``; its productions may follow."""
        self._of.setdefault(symbol, [])
        self._numbers.setdefault(symbol, len(self._numbers))

    def add(self, symbol: Symbol, *items: Item) -> None:
        """One more way to write ``symbol``; without items: as no text."""
        self.open(symbol)
        productions = self._of[symbol]
        if items not in productions and items != (symbol,):
            productions.append(items)

    def productive(self) -> set[Symbol]:
        """The symbols that some finite text can stand for (a least fixed point)."""
        done: set[Symbol] = set()
        users: dict[Symbol, list[tuple[Symbol, set[Symbol]]]] = {}
        ready: list[Symbol] = []
        for symbol, productions in self._of.items():
            for items in productions:
                waits = set(_symbols(items))
                for item in waits:
                    users.setdefault(item, []).append((symbol, waits))
                if not waits:
                    ready.append(symbol)
        while ready:
            symbol = ready.pop()
            if symbol not in done:
                done.add(symbol)
                ready += [user for user, waits in users.get(symbol, ()) if waits <= done]
        return done

    def lark(self, start: Iterable[str], roots: Iterable[Symbol]) -> str:
        """The grammar as Lark for llguidance.

        Args:
            start: its first lines, with the rule ``start``; :meth:`name` says what they call a
                symbol.
            roots: the symbols that they use.
        """
        alive = self.productive()
        lines, todo, seen = list(start), list(roots), set()
        while todo:
            symbol = todo.pop()
            if symbol in seen:
                continue
            seen.add(symbol)
            ways = [items for items in self._of[symbol] if alive.issuperset(_symbols(items))]
            todo += [item for items in ways for item in _symbols(items)]
            lines.append(f"{self.name(symbol)}: {' | '.join(map(self._lark, ways))}")
        return HEAD + "\n".join(lines) + "\n"

    def name(self, symbol: Symbol) -> str:
        """What the grammar calls ``symbol``."""
        return f"{symbol.label}_{self._numbers[symbol]}"

    def _lark(self, items: Iterable[Item]) -> str:
        return " ".join(map(self._item, items)) or '""'

    def _item(self, item: Item) -> str:
        if isinstance(item, Symbol):
            return self.name(item)
        if isinstance(item, Repeat):
            most = "" if item.most is None else item.most
            return f"({self._lark(item.items)}){{{item.least},{most}}}"
        return item


def _symbols(items: Iterable[Item]) -> Iterator[Symbol]:
    for item in items:
        if isinstance(item, Symbol):
            yield item
        elif isinstance(item, Repeat):
            yield from _symbols(item.items)
