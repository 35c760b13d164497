"""Tool calls as a constraint: every text is a call that fits the signature of its function.

Two styles: JSON as chat formats have it, and Python, where calls nest. With a trigger the model
writes freely until it begins a call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import typing_extensions

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.grammar import HEAD
from sglnb.runtime.constraints.literals import prepare_part
from sglnb.runtime.constraints.python_grammar import PythonGrammar
from sglnb.runtime.constraints.rules import text
from sglnb.runtime.constraints.signatures import Function, Same, read_function
from sglnb.runtime.constraints.types import for_pydantic, schema_of

STYLES = ("json", "python")


class ToolSet:
    """Some functions, and how a text calls them.

    Args:
        tools: functions, or a dict of functions by the name that texts use.
        style: ``"json"``: ``{"name": "f", "arguments": {"x": 1}}``; ``"python"``: ``f(1)`` or
            ``f(x=1)``, where calls of tools can be arguments.
        when: the text that begins a call, or that and the one that ends it. None: the text is
            calls and nothing else.
        max_calls: how many calls there may be. More than one without ``when`` are a list.

    Attributes:
        functions: the tools by name.
        grammar: of the texts, as Lark for llguidance.
        source: the tools in short.

    Raises:
        ConstraintError: a function cannot be called from a text; it and its parameter are named.
    """

    def __init__(
        self,
        tools: Sequence[Any] | Mapping[str, Any],
        style: str | None = None,
        when: str | Sequence[str] | None = None,
        max_calls: int | None = None,
    ):
        self.style = "json" if style is None else style
        if self.style not in STYLES:
            raise ConstraintError(f"tool_style: must be one of {', '.join(STYLES)}, got {style!r}")
        self.max_calls = 1 if max_calls is None else max_calls
        if not isinstance(self.max_calls, int) or isinstance(max_calls, bool) or self.max_calls < 1:
            raise ConstraintError(f"max_calls: must be a whole number from 1 on, got {max_calls!r}")
        self.when = None if when is None else _tag(when)
        self.functions = {f.name: f for f in _read(tools)}
        self.classes: dict[str, type] = {}
        self.source = ", ".join(map(str, self.functions.values()))
        self.grammar = self.grammar_for({})

    def __repr__(self) -> str:
        return f"ToolSet({self.source})"

    @property
    def is_one(self) -> bool:
        """Whether the text is one call and nothing else."""
        return self.when is None and self.max_calls == 1

    def special(self, ids: Mapping[str, int]) -> dict[str, int]:
        """Those of a tokenizer's special tokens that begin or end a call."""
        return {name: ids[name] for name in self.when or () if name in ids}

    def grammar_for(self, special: Mapping[str, int]) -> str:
        """The grammar for a tokenizer that has these special tokens, ids by name. A trigger that is
        one of them is written as that token, and no other way."""
        return self._python(special) if self.style == "python" else self._json(special)

    def _json(self, special: Mapping[str, int]) -> str:
        lines = []
        for i, function in enumerate(self.functions.values()):
            name = function.name
            for p in function.parameters:  # one by one, so that an error can tell which
                what = f"tools: {name}(): parameter {p.name!r}"
                prepare_part(schema_of(p.type, what), what)
            what = f"tools: {name}()"
            inside = prepare_part(schema_of(arguments_type(function), what), what)
            head = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": '
            lines.append(f'call_{i}: {text(head)} args_{i} "}}"\nargs_{i}: {inside}')
        calls = " | ".join(f"call_{i}" for i in range(len(lines)))
        return HEAD + "\n".join([*self._start(calls, special), *lines]) + "\n"

    def _python(self, special: Mapping[str, int]) -> str:
        grammar = PythonGrammar(tuple(self.functions.values()), "tools")
        calls = {name: grammar.call(f, grammar.depth) for name, f in self.functions.items()}
        alive = grammar.finish()
        for name, symbol in calls.items():
            if symbol not in alive:
                raise ConstraintError(f"tools: {grammar.why_not(self.functions[name], alive)}")
        self.classes = grammar.classes
        names = " | ".join(map(grammar.rules.name, calls.values()))
        return grammar.rules.lark(self._start(names, special), calls.values())

    def _start(self, calls: str, special: Mapping[str, int]) -> list[str]:
        """The rules of what stands around the calls."""
        most = self.max_calls
        if self.when is None:
            many = f'"[" call (", " call){{0,{most - 1}}} "]"'
            return [f"start: {'call' if most == 1 else many}", f"call: {calls}"]
        begin, end = map(text, self.when)
        rest = ["ANY: /(?s:.*)/", f"REST: ANY & ~(ANY {begin} ANY)"]
        before = f"before[lazy]: ANY {begin}"
        if self.when[0] in special:
            before = f"before: REST <[{special[self.when[0]]}]>"
        if self.when[1] in special:
            end = f"<[{special[self.when[1]]}]>"
        return [
            f'start: (before "\\n"? call "\\n"? {end}){{0,{most}}} REST',
            f"call: {calls}",
            before,
            *rest,
        ]


def arguments_type(function: Function) -> Any:
    """The arguments of a call as a type: a dict with the names of the parameters."""
    fields = {}
    for p in function.parameters:
        wrap = typing_extensions.Required if p.required else typing_extensions.NotRequired
        fields[p.name] = wrap[for_pydantic(p.type)]
    return typing_extensions.TypedDict(f"arguments of {function.name}()", fields)


def tool_set(
    tools: Any,
    style: str | None = None,
    when: str | Sequence[str] | None = None,
    max_calls: int | None = None,
) -> ToolSet | None:
    """The set that these arguments of ``gen`` make; None without ``tools``.

    Raises:
        ConstraintError: as :class:`ToolSet`, or options without tools.
    """
    options = {"tool_style": style, "when": when, "max_calls": max_calls}
    if tools is not None and not isinstance(tools, (ToolSet, Mapping, list, tuple)):
        raise ConstraintError(f"tools: expected a list of functions, got {tools!r:.80}")
    if tools is None or isinstance(tools, ToolSet):
        for name, value in options.items():
            if value is not None:
                raise ConstraintError(f"{name}: goes with a list of tools")
        return tools
    functions = tools.items() if isinstance(tools, Mapping) else enumerate(tools)
    key = tuple((name, Same(function)) for name, function in functions)
    tag = None if when is None else _tag(when)
    return _remembered(type(tools), key, style, tag, max_calls)


@lru_cache(maxsize=64)
def _remembered(kind: type, key: tuple[tuple[Any, Same], ...], *options: Any) -> ToolSet:
    given = [(name, function.it) for name, function in key]
    return ToolSet(dict(given) if issubclass(kind, Mapping) else [f for _, f in given], *options)


def _read(tools: Any) -> list[Function]:
    if isinstance(tools, Mapping):
        given = list(tools.items())
    else:
        given = [(None, function) for function in tools]
    if not given:
        raise ConstraintError("tools: there are none; give at least one function")
    functions = [read_function(function, "tools", name) for name, function in given]
    names = [function.name for function in functions]
    for name in names:
        if names.count(name) > 1:
            raise ConstraintError(
                f'tools: two are called {name}; give them names with a dict: {{"name": function}}'
            )
    return functions


def _tag(when: Any) -> tuple[str, str]:
    """(what begins a call, what ends it)."""
    pair = [when, None] if isinstance(when, str) else when
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise ConstraintError(f"when: expected a text or a pair of texts, got {when!r:.80}")
    begin, end = pair
    if end is None:
        named = re.fullmatch(r"<([\w|:.-]+)>", begin)
        end = f"</{named[1]}>" if named else ""
    for one in (begin, end):
        if not isinstance(one, str) or (one is begin and not one):
            raise ConstraintError(f"when: must be non-empty texts, got {when!r:.80}")
    return begin, end
