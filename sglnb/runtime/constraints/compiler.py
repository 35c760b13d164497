"""From what the user wrote to a shared, compiled constraint."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from sglnb.errors import ConstraintError
from sglnb.runtime.constraints.base import Constraint
from sglnb.runtime.constraints.choices import check_choices, choices_dfa
from sglnb.runtime.constraints.determinize import determinize
from sglnb.runtime.constraints.dfa import DFA
from sglnb.runtime.constraints.fsm import FSMConstraint
from sglnb.runtime.constraints.minimize import minimize
from sglnb.runtime.constraints.nfa import NFA
from sglnb.runtime.constraints.syntax import parse_regex
from sglnb.runtime.constraints.vocabulary import Vocabulary
from sglnb.runtime.tokenizer import Tokenizer

MAX_CACHED = 128
"""Compiled constraints kept per tokenizer; the one unused for longest goes first."""

_LOCK = threading.Lock()


def compile_constraint(
    *,
    regex: str | None = None,
    choices: Sequence[str] | None = None,
    tokenizer: Tokenizer,
) -> Constraint:
    """Compile a regex or a list of choices for one tokenizer.

    Compiled constraints are cached and shared; two threads that ask for the same one at the
    same time compile it once. A failure is remembered too.

    With a SentencePiece tokenizer, a text that should begin with a word's own space has to
    say so (`` ?yes``): the space is part of the text.

    Args:
        regex: Python's syntax, matched as ``re.fullmatch`` does.
        choices: the texts to choose from.
        tokenizer: the tokenizer of the model that will write the text.

    Raises:
        ConstraintError: not a regex, not supported, too large, or nothing can match it.
    """
    if (regex is None) == (choices is None):
        raise ConstraintError("compile_constraint: give either regex or choices, not both or none")
    if choices is not None:
        distinct = check_choices(choices)
        source = json.dumps(distinct, ensure_ascii=False)
        return _cached("choices", source, tokenizer, lambda: choices_dfa(distinct))
    if not isinstance(regex, str):
        raise ConstraintError(f"regex: expected a string, got {type(regex).__name__}")
    return _cached("regex", regex, tokenizer, lambda: regex_dfa(regex))


def regex_dfa(regex: str) -> DFA:
    """The smallest automaton of the texts that ``re.fullmatch(regex, text)`` accepts."""
    return minimize(determinize(NFA(parse_regex(regex))))


class _Cache:
    """What was compiled for one tokenizer; it lives on the tokenizer and goes with it."""

    def __init__(self) -> None:
        self.compiling = threading.RLock()
        self.vocabulary: Vocabulary | None = None
        self._results: OrderedDict[tuple[str, str], Constraint | ConstraintError] = OrderedDict()

    def get(self, key: tuple[str, str]) -> Constraint | ConstraintError | None:
        with _LOCK:
            if key in self._results:
                self._results.move_to_end(key)
            return self._results.get(key)

    def put(self, key: tuple[str, str], result: Constraint | ConstraintError) -> None:
        with _LOCK:
            self._results[key] = result
            while len(self._results) > MAX_CACHED:
                self._results.popitem(last=False)


def _cached(kind: str, source: str, tokenizer: Tokenizer, build: Callable[[], DFA]) -> Constraint:
    with _LOCK:
        cache: _Cache = vars(tokenizer).setdefault("_compiled_constraints", _Cache())
    result = cache.get((kind, source))
    if result is None:
        with cache.compiling:
            result = cache.get((kind, source))  # another thread may have been first
            if result is None:
                try:
                    result = _compile(kind, source, tokenizer, cache, build)
                except ConstraintError as error:
                    result = ConstraintError(str(error))  # without its traceback
                cache.put((kind, source), result)
    if isinstance(result, ConstraintError):
        raise ConstraintError(str(result))
    return result


def _compile(
    kind: str, source: str, tokenizer: Tokenizer, cache: _Cache, build: Callable[[], DFA]
) -> Constraint:
    started = time.perf_counter()
    dfa = build()
    built = time.perf_counter() - started
    if cache.vocabulary is None:  # once per tokenizer, so not part of this constraint's time
        cache.vocabulary = Vocabulary(tokenizer)
    started = time.perf_counter()
    constraint = FSMConstraint(kind, source, dfa, tokenizer, cache.vocabulary)
    constraint.compile_ms = 1e3 * (built + time.perf_counter() - started)
    return constraint
