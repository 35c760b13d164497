"""The engines that ``benchmarks/constraints.py`` compares, behind one small interface.

xgrammar and outlines-core are installed for this only (``pip install sglnb[bench]``). Each engine
runs in a process of its own, so that the memory it takes can be told and one that takes too long
can be ended.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from sglnb.runtime.constraints import compile_constraint
from sglnb.runtime.tokenizer import Tokenizer

LIMIT = 20.0
"""Seconds for one constraint; one that takes longer is counted as too slow."""


class Item(NamedTuple):
    """A constraint, and the tokens of a text (or of a beginning of one) that keeps to it."""

    kind: str
    source: str
    ids: list[int]


class Line(NamedTuple):
    """What an item cost, in seconds of the processor. ``error``: it was refused, with the reason.

    Attributes:
        first: from the source to the first mask.
        visits: each mask on the way, the first time.
        later: each mask on the way, by another request.
        taken: how many of the tokens it allowed.
        memory: what the process grew by so far, bytes.
    """

    error: str = ""
    first: float = 0.0
    visits: tuple[float, ...] = ()
    later: tuple[float, ...] = ()
    taken: int = 0
    memory: int = 0


class Contender(ABC):
    """An engine with one vocabulary."""

    def __init__(self, file: Path, tokenizer: Tokenizer):
        self.file, self.tokenizer = file, tokenizer
        (self.eos,) = tokenizer.eos_ids
        self.words = np.zeros((1, -(-tokenizer.vocab_size // 32)), dtype=np.int32)

    @abstractmethod
    def compile(self, kind: str, source: str) -> object:
        """What requests share."""

    @abstractmethod
    def start(self, compiled: object) -> object:
        """A request's place in it."""

    @abstractmethod
    def mask(self, place: object) -> np.ndarray:
        """The legal tokens there, as packed bits."""

    @abstractmethod
    def take(self, place: object, token: int) -> None:
        """Go on by a legal token."""


class Ours(Contender):
    """sglnb: its own automaton for regexes; JSON schemas by llguidance behind one interface."""

    def __init__(self, file: Path, tokenizer: Tokenizer):
        super().__init__(file, tokenizer)
        compile_constraint(regex="a", tokenizer=tokenizer)
        compile_constraint(type=bool, tokenizer=tokenizer)

    def compile(self, kind, source):
        return compile_constraint(**{kind: source}, tokenizer=self.tokenizer)

    def start(self, compiled):
        return compiled.start()

    def mask(self, place):
        return place.allowed()

    def take(self, place, token):
        place.advance(token)


class LLGuidance(Contender):
    """llguidance as it comes, with its own settings."""

    def __init__(self, file: Path, tokenizer: Tokenizer):
        super().__init__(file, tokenizer)
        import llguidance
        import llguidance.numpy

        self._lib = llguidance
        self._vocabulary = llguidance.LLTokenizer(
            str(file), n_vocab=tokenizer.vocab_size, eos_token=self.eos
        )

    def compile(self, kind, source):
        matcher = self._lib.LLMatcher
        make = matcher.grammar_from_regex if kind == "regex" else matcher.grammar_from_json_schema
        compiled = matcher(self._vocabulary, make(source))
        if compiled.is_error():
            raise ValueError(compiled.get_error())
        return compiled

    def start(self, compiled):
        return compiled.deep_copy()

    def mask(self, place):
        self._lib.numpy.fill_next_token_bitmask(place, self.words, 0)
        return self.words[0]

    def take(self, place, token):
        place.consume_token(token)


class XGrammar(Contender):
    """xgrammar, on one thread, as the others are, and without its cache."""

    def __init__(self, file: Path, tokenizer: Tokenizer):
        super().__init__(file, tokenizer)
        import torch
        import xgrammar

        self._lib = xgrammar
        info = xgrammar.TokenizerInfo(
            [raw or b"" for raw in tokenizer.token_bytes],
            xgrammar.VocabType.RAW,
            vocab_size=tokenizer.vocab_size,
            stop_token_ids=[self.eos],
        )
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self._bits = torch.from_numpy(self.words)

    def compile(self, kind, source):
        if kind == "regex":
            return self._compiler.compile_regex(source)
        return self._compiler.compile_json_schema(source, any_whitespace=False)

    def start(self, compiled):
        return self._lib.GrammarMatcher(compiled)

    def mask(self, place):
        place.fill_next_token_bitmask(self._bits, 0)
        return self.words[0]

    def take(self, place, token):
        if not place.accept_token(token):
            raise ValueError("not accepted")


class OutlinesCore(Contender):
    """outlines-core: a regex is an index of all its states over all tokens."""

    def __init__(self, file: Path, tokenizer: Tokenizer):
        super().__init__(file, tokenizer)
        import outlines_core

        self._lib = outlines_core
        table: dict[bytes, list[int]] = {}
        for i, raw in enumerate(tokenizer.token_bytes):
            if raw:
                table.setdefault(raw, []).append(i)
        self._vocabulary = outlines_core.Vocabulary(self.eos, table)

    def compile(self, kind, source):
        if kind != "regex":
            source = self._lib.json_schema.build_regex_from_schema(source)
        return self._lib.Index(source, self._vocabulary)

    def start(self, compiled):
        return self._lib.Guide(compiled)

    def mask(self, place):
        self.words.fill(0)
        place.write_mask_into(self.words.ctypes.data, self.words.size, ctypes.sizeof(ctypes.c_int))
        return self.words[0]

    def take(self, place, token):
        place.advance(token, return_tokens=False)


CONTENDERS = {
    "sglnb": Ours,
    "llguidance": LLGuidance,
    "xgrammar": XGrammar,
    "outlines-core": OutlinesCore,
}


def run(name: str, file: Path, items: list[Item]) -> list[Line]:
    """What each item costs an engine."""
    out: list[Line] = []
    spent = 0  # memory of processes that were ended
    while len(out) < len(items):
        todo = json.dumps([name, str(file), items[len(out) :]])
        worker = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=_send, args=(worker, todo), daemon=True).start()
        line = worker.stdout.readline()  # it is ready
        while line and len(out) < len(items):
            timer = threading.Timer(LIMIT, worker.kill)
            timer.start()
            line = worker.stdout.readline()
            timer.cancel()
            if line:
                got = Line(*json.loads(line))
                out.append(got._replace(memory=spent + got.memory))
        worker.kill()
        worker.wait()
        if len(out) < len(items):
            spent = out[-1].memory if out else 0
            out.append(Line(error=f"over {LIMIT:.0f} s", memory=spent))
    return out


def _send(worker: subprocess.Popen, text: str) -> None:
    worker.stdin.write(text)
    worker.stdin.close()


def load(file: Path) -> Tokenizer:
    """The tokenizer of a file, ended by the first of its special tokens."""
    plain = Tokenizer.from_file(file)
    eos = next(i for i, raw in enumerate(plain.token_bytes) if raw is None)
    return Tokenizer.from_file(file, eos_ids=(eos,))


def _work() -> None:
    name, path, items = json.loads(sys.stdin.read())
    engine = CONTENDERS[name](Path(path), load(Path(path)))
    before = _memory()
    print("ready", flush=True)
    kept = []
    for item in items:
        line = _measure(engine, Item(*item), kept)
        grown = max(0, _memory() - before)
        print(json.dumps(line._replace(memory=grown)), flush=True)


def _memory() -> int:
    """Bytes that this process takes, without what it has given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


def _measure(engine: Contender, item: Item, kept: list) -> Line:
    started = time.process_time()
    try:
        compiled = engine.compile(item.kind, item.source)
        place = engine.start(compiled)
        engine.mask(place)
    except Exception as error:  # whatever a foreign engine raises: it does not take the item
        return Line(error=f"{type(error).__name__}: {error}")
    first = time.process_time() - started
    kept.append(compiled)
    visits, taken = _follow(engine, engine.start(compiled), item.ids, time.process_time)
    later, _ = _follow(engine, engine.start(compiled), item.ids, time.perf_counter)
    return Line("", first, tuple(visits[1:]), tuple(later[1:]), taken)


def _follow(
    engine: Contender, place: object, ids: list[int], clock: Callable[[], float]
) -> tuple[list[float], int]:
    """Seconds of each mask, and how many tokens were legal. The clock of the processor is right on
    a busy machine, but takes half a microsecond itself."""
    seconds = []
    for n, token in enumerate(ids):
        started = clock()
        words = engine.mask(place)
        seconds.append(clock() - started)
        if not words[token >> 5] >> (token & 31) & 1:
            return seconds, n
        engine.take(place, token)
    return seconds, len(ids)


if __name__ == "__main__":
    _work()
