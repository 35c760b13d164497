"""From what the user wrote to a shared, compiled constraint."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.base import Constraint
from sglnb.runtime.constraints.budget import least_bytes, least_tokens
from sglnb.runtime.constraints.choices import check_choices, choices_dfa
from sglnb.runtime.constraints.determinize import Subsets, TooLarge
from sglnb.runtime.constraints.dfa import DFA
from sglnb.runtime.constraints.expressions import expression_spec
from sglnb.runtime.constraints.fsm import FSMConstraint
from sglnb.runtime.constraints.grammar import read_grammar
from sglnb.runtime.constraints.lazy import LazyDFA
from sglnb.runtime.constraints.llg import LLGConstraint
from sglnb.runtime.constraints.llg_vocabulary import LLGVocabulary
from sglnb.runtime.constraints.minimize import minimize
from sglnb.runtime.constraints.nfa import NFA
from sglnb.runtime.constraints.schema import Prepared, prepare
from sglnb.runtime.constraints.schema_check import check_text, validator_of
from sglnb.runtime.constraints.syntax import parse_regex
from sglnb.runtime.constraints.tools import tool_set
from sglnb.runtime.constraints.turns import GivenUp
from sglnb.runtime.constraints.types import schema_of, type_name
from sglnb.runtime.constraints.vocabulary import Vocabulary
from sglnb.runtime.tokenizer import Tokenizer

KINDS = ("regex", "choices", "json_schema", "type", "grammar", "ebnf", "tools", "expression")
"""The constraints there are; a text has one of them."""

MAX_CACHED = 128
"""Compiled constraints kept per tokenizer; the one unused for longest goes first."""
MAX_BYTES = 256 << 20
"""Memory that they may take, with their masks."""

_LOCK = threading.Lock()


def compile_constraint(
    *,
    regex: str | None = None,
    choices: Sequence[str] | None = None,
    json_schema: Any = None,
    type: Any = None,
    grammar: str | None = None,
    ebnf: str | None = None,
    tools: Any = None,
    tool_style: str | None = None,
    when: str | Sequence[str] | None = None,
    max_calls: int | None = None,
    expression: Any = None,
    scope: Mapping[str, Any] | None = None,
    whitespace: str | None = None,
    lenient: bool = False,
    tokenizer: Tokenizer,
) -> Constraint:
    """Compile one constraint for one tokenizer.

    Compiled constraints are cached and shared; two threads that ask for the same one at the
    same time compile it once. A failure is remembered too.

    With a SentencePiece tokenizer, a text that should begin with a word's own space has to
    say so (`` ?yes``): the space is part of the text.

    Args:
        regex: Python's syntax, matched as ``re.fullmatch`` does.
        choices: the texts to choose from.
        json_schema: a JSON Schema as a dict or as JSON, or a type as for ``type``. Object keys
            come in the schema's order; keys that it does not forbid are allowed, so write
            ``"additionalProperties": false``. Objects of types are closed without that.
        type: a Python type; the text is its JSON. See :mod:`.types` for which. Nothing closes
            a number that stands alone, so one space or line break may follow and end it.
        grammar: a context-free grammar: Lark (as llguidance reads it, with a rule ``start``),
            or EBNF as llama.cpp and SGLang write it (``root ::= ...``). As in any lexer, a
            terminal takes as much as it can.
        ebnf: only the latter.
        tools, tool_style, when, max_calls: a call of one of some functions; see
            :class:`.tools.ToolSet`.
        expression, scope: a Python expression of a type; see :class:`.expressions.ExpressionSpec`.
        whitespace: how JSON is laid out: ``"default"`` (``", "`` and ``": "``), ``"compact"``,
            ``"indent"`` or ``"free"``; see :mod:`.schema` for why not free.
        lenient: leave out what a schema says and what cannot be enforced while the text is
            written. It is in the constraint's ``warnings``, and its ``check`` tells.
        tokenizer: the tokenizer of the model that will write the text.

    Raises:
        ConstraintError: it is not what it should be, not supported, too large, or nothing can
            match it.
    """
    given = {
        "regex": regex,
        "choices": choices,
        "json_schema": json_schema,
        "type": type,
        "grammar": grammar,
        "ebnf": ebnf,
        "tools": tools,
        "expression": expression,
    }
    kind = only_one(given, whitespace, lenient)
    called, typed = tool_set(tools, tool_style, when, max_calls), expression_spec(expression, scope)
    if kind is None:
        raise ConstraintError(f"compile_constraint: give one of {', '.join(KINDS)}")
    spec = called or typed
    if spec is not None:
        key = (kind, spec.source, spec.grammar)
        special = {} if called is None else called.special(tokenizer.special_ids)
        for name in special:
            if special[name] in tokenizer.eos_ids:
                raise ConstraintError(
                    f"when: {name!r} ends the whole text with this model; take another token or a "
                    "text"
                )
        grammar = partial(called.grammar_for, special) if special else lambda: spec.grammar
        return _llg(key, lambda: Prepared(grammar()), None, tokenizer)
    if choices is not None:
        distinct = check_choices(choices)
        source = json.dumps(distinct, ensure_ascii=False)
        least = min(len(choice.encode()) for choice in distinct)
        return _fsm(kind, source, lambda: (choices_dfa(distinct), least), tokenizer)
    if kind in ("regex", "grammar", "ebnf"):
        source = given[kind]
        if not isinstance(source, str):
            raise ConstraintError(f"{kind}: expected a string, got {source.__class__.__name__}")
        if kind == "regex":
            return _fsm(kind, source, partial(_measured_dfa, source), tokenizer)
        return _llg((kind, source), lambda: Prepared(read_grammar(source, kind)), None, tokenizer)
    source, schema = schema_source(kind, given[kind])
    key = (kind, source, schema, whitespace or "", str(bool(lenient)))

    def read() -> Prepared:
        ready = prepare(schema, whitespace, lenient, kind)
        if ready.warnings:
            validator_of(schema)  # now, not when a text is there to be checked
        return ready

    return _llg(key, read, partial(check_text, schema), tokenizer)


def _fsm(
    kind: str, source: str, build: Callable[[], tuple[DFA, int]], tokenizer: Tokenizer
) -> Constraint:
    def make(built: tuple[DFA, int], vocabulary: Vocabulary) -> Constraint:
        dfa, least = built
        constraint = FSMConstraint(kind, source, dfa, least, tokenizer, vocabulary)
        constraint.min_tokens = least_tokens(least, vocabulary)
        constraint.masks(0, b"")  # the first step should not have to wait for it
        return constraint

    return _cache_of(tokenizer).get((kind, source), build, "vocabulary", make)


def _llg(
    key: tuple[str, ...],
    build: Callable[[], Prepared],
    check: Callable[[str], None] | None,
    tokenizer: Tokenizer,
) -> Constraint:
    def make(ready: Prepared, vocabulary: LLGVocabulary) -> Constraint:
        constraint = LLGConstraint(
            *key[:2],
            ready.grammar,
            vocabulary,
            tokenizer,
            warnings=ready.warnings,
            check=check if ready.warnings else None,
        )
        constraint.min_tokens = least_tokens(constraint.least_bytes, vocabulary.base)
        return constraint

    return _cache_of(tokenizer).get(key, build, "llg", make)


def only_one(given: dict[str, Any], whitespace: Any = None, lenient: Any = False) -> str | None:
    """Name of the one constraint of ``given``, None if there is none.

    Raises:
        ConstraintError: there are two, or an option that belongs to none of them.
    """
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ConstraintError(f"{names[0]} and {names[1]}: give only one of them")
    for name, value in (("whitespace", whitespace), ("lenient", lenient)):
        if value not in (None, False) and names not in (["json_schema"], ["type"]):
            raise ConstraintError(f"{name}: goes with json_schema or type only")
    return names[0] if names else None


def schema_source(kind: str, given: Any) -> tuple[str, str]:
    """(what to call it, the schema as JSON) of a ``json_schema`` or a ``type``.

    Raises:
        ConstraintError: a string that is no JSON, or a type that has none.
    """
    if kind == "json_schema" and isinstance(given, (str, dict, bool)):
        try:
            schema = json.dumps(
                json.loads(given) if isinstance(given, str) else given, ensure_ascii=False
            )
        except (TypeError, ValueError) as error:
            raise ConstraintError(f"json_schema: no JSON: {error}: {given!r:.100}") from None
        except RecursionError:
            raise ConstraintError("json_schema: the schema is nested too deep") from None
        return schema, schema
    if isinstance(given, (str, int, float, list, tuple, set)):
        also = "a JSON Schema (a dict, or JSON), or " if kind == "json_schema" else ""
        raise ConstraintError(f"{kind}: expected {also}a type such as list[int], got {given!r:.80}")
    return type_name(given), schema_of(given, kind)


def regex_dfa(regex: str) -> DFA:
    """The automaton of the texts that ``re.fullmatch(regex, text)`` accepts: the smallest one, or
    one that makes its states on demand, where the whole would be too large."""
    subsets = Subsets(NFA(parse_regex(regex)))
    try:
        return minimize(subsets.determinize())
    except TooLarge:
        return LazyDFA(subsets)


def _measured_dfa(regex: str) -> tuple[DFA, int]:
    dfa = regex_dfa(regex)
    return dfa, least_bytes(dfa)


class _Cache:
    """What was compiled for one tokenizer; it lives on the tokenizer and goes with it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._reading = threading.Lock()
        self._compiling: dict[tuple[str, ...], threading.Lock] = {}
        self._tokenizer = tokenizer
        self._results: OrderedDict[tuple[str, ...], Constraint | ConstraintError] = OrderedDict()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary as a trie, for automata."""
        return Vocabulary(self._tokenizer)

    @cached_property
    def llg(self) -> LLGVocabulary:
        """The vocabulary in llguidance's form."""
        return LLGVocabulary(self._tokenizer, self.vocabulary)

    def get(
        self,
        key: tuple[str, ...],
        build: Callable[[], Any],
        tool: str,
        make: Callable[[Any, Any], Constraint],
    ) -> Constraint:
        """The constraint of ``key``; if it is not there, ``make`` of what ``build`` gives and of
        the vocabulary in the form that ``tool`` names."""
        result = self._look(key)
        if result is None:
            with _LOCK:
                compiling = self._compiling.setdefault(key, threading.Lock())
            with compiling:  # only who wants the same one waits
                result = self._look(key)  # another thread may have been first
                if result is None:
                    try:
                        result = self._compile(build, tool, make)
                    except ConstraintError as error:
                        result = ConstraintError(str(error))  # without its traceback
                    except GivenUp:
                        with _LOCK:
                            self._compiling.pop(key, None)
                        raise
                    self._keep(key, result)
        if isinstance(result, ConstraintError):
            raise ConstraintError(str(result))
        return result

    def _look(self, key: tuple[str, ...]) -> Constraint | ConstraintError | None:
        with _LOCK:
            if key in self._results:
                self._results.move_to_end(key)
                self._trim()  # masks are added while a constraint is used
            return self._results.get(key)

    def _keep(self, key: tuple[str, ...], result: Constraint | ConstraintError) -> None:
        with _LOCK:
            self._results[key] = result
            self._compiling.pop(key, None)
            self._trim()

    def _trim(self) -> None:
        """Forget what was unused for longest; the newest stays whatever its size."""
        left = self.nbytes
        while len(self._results) > 1 and (len(self._results) > MAX_CACHED or left > MAX_BYTES):
            _, result = self._results.popitem(last=False)
            left -= _size(result)

    @property
    def nbytes(self) -> int:
        """Memory of what is kept."""
        return sum(map(_size, self._results.values()))

    def __len__(self) -> int:
        return len(self._results)

    def _compile(
        self, build: Callable[[], Any], tool: str, make: Callable[[Any, Any], Constraint]
    ) -> Constraint:
        started = time.perf_counter()
        built = build()
        seconds = time.perf_counter() - started
        with self._reading:
            vocabulary = getattr(self, tool)  # once per tokenizer, so not part of this one's time
        started = time.perf_counter()
        constraint = make(built, vocabulary)
        constraint.compile_ms = 1e3 * (seconds + time.perf_counter() - started)
        return constraint


def _size(result: Constraint | ConstraintError) -> int:
    return 1_000 if isinstance(result, ConstraintError) else result.nbytes


def cached(tokenizer: Tokenizer) -> dict[str, int]:
    """How many constraints are kept for ``tokenizer``, and the memory they take."""
    cache = _cache_of(tokenizer)
    with _LOCK:
        return {"constraints": len(cache), "constraint_bytes": cache.nbytes}


def _cache_of(tokenizer: Tokenizer) -> _Cache:
    with _LOCK:
        return vars(tokenizer).setdefault("_compiled_constraints", _Cache(tokenizer))
