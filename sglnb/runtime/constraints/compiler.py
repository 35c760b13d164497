"""From what the user wrote to a shared, compiled constraint."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future

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
        self.vocabulary: Future[Vocabulary] | None = None
        self.constraints: OrderedDict[tuple[str, str], Future[Constraint]] = OrderedDict()


def _cached(kind: str, source: str, tokenizer: Tokenizer, build: Callable[[], DFA]) -> Constraint:
    key = (kind, source)
    with _LOCK:
        cache = vars(tokenizer).setdefault("_compiled_constraints", _Cache())
        future = cache.constraints.get(key)
        mine = future is None
        if mine:
            future = cache.constraints[key] = Future()
            while len(cache.constraints) > MAX_CACHED:
                cache.constraints.popitem(last=False)
        else:
            cache.constraints.move_to_end(key)
    if mine:
        try:
            future.set_result(_compile(kind, source, tokenizer, cache, build))
        except BaseException as error:
            if not isinstance(error, ConstraintError):
                with _LOCK:
                    cache.constraints.pop(key, None)
            future.set_exception(error)
            raise
    try:
        return future.result()
    except ConstraintError as error:  # a fresh one: a raised exception keeps its traceback
        raise ConstraintError(str(error)) from None


def _compile(
    kind: str, source: str, tokenizer: Tokenizer, cache: _Cache, build: Callable[[], DFA]
) -> Constraint:
    started = time.perf_counter()
    dfa = build()
    built = time.perf_counter() - started
    vocabulary = _vocabulary(tokenizer, cache)
    started = time.perf_counter()
    constraint = FSMConstraint(kind, source, dfa, tokenizer, vocabulary)
    constraint.compile_ms = 1e3 * (built + time.perf_counter() - started)
    return constraint


def _vocabulary(tokenizer: Tokenizer, cache: _Cache) -> Vocabulary:
    """The vocabulary trie of ``tokenizer``, built by whoever needs it first."""
    with _LOCK:
        future = cache.vocabulary
        mine = future is None
        if mine:
            future = cache.vocabulary = Future()
    if mine:
        try:
            future.set_result(Vocabulary(tokenizer))
        except BaseException as error:
            with _LOCK:
                cache.vocabulary = None
            future.set_exception(error)
            raise
    return future.result()
