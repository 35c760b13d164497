"""Traces of the paper's kinds: which prompts share what, and what depends on what.

Texts come from the evaluation data where a folder with it is given; otherwise they are made of
random words, with the same shape. Outputs are made up: only their lengths matter.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from sglnb import Tokenizer, TraceRequest

WORDS = ["the", "of", "to", "one", "two", "red", "green", "house", "river", "number", "apple"]


class Texts:
    """Questions, topics and worked examples, real or made up."""

    def __init__(self, tokenizer: Tokenizer, data: Path | None, rng: random.Random):
        self._tokenizer, self._data, self._rng = tokenizer, data, rng

    def ids(self, text: str) -> list[int]:
        """Token ids of ``text``."""
        return self._tokenizer.encode(text)

    def words(self, low: int, high: int) -> str:
        """That many random words."""
        return " ".join(self._rng.choices(WORDS, k=self._rng.randint(low, high)))

    def answer(self, low: int, high: int) -> list[int]:
        """Output tokens like no other's."""
        return [self._rng.randrange(300, 8000) for _ in range(self._rng.randint(low, high))]

    def _lines(self, name: str) -> list[dict]:
        if self._data is None:
            return []
        return [json.loads(line) for line in (self._data / name).read_text("utf-8").splitlines()]

    def sums(self, n: int) -> list[tuple[str, str]]:
        """Questions of grade-school mathematics with their answers (GSM8K)."""
        real = [(r["question"], r["answer"]) for r in self._lines("gsm8k/test.jsonl")[:n]]
        return real or [(self.words(30, 60), self.words(40, 80)) for _ in range(n)]

    def chats(self, n: int) -> list[list[str]]:
        """The user's turns of chats (MT-bench)."""
        real = [r["turns"] for r in self._lines("mt_bench/mt_bench_question.jsonl")[:n]]
        return real or [[self.words(30, 90), self.words(10, 40)] for _ in range(n)]

    def topics(self, n: int) -> list[str]:
        """Topics to give tips on."""
        real = [r["topic"] for r in self._lines("tips/topic.jsonl")[:n]]
        return real or [self.words(3, 8) for _ in range(n)]

    def agent(self, n: int) -> tuple[str, list[str]]:
        """An agent's worked example and its questions (ReAct, HotPotQA and FEVER)."""
        if self._data is None:
            return self.words(500, 500), [self.words(15, 30) for _ in range(n)]
        prompts = json.loads((self._data / "react" / "fever.json").read_text("utf-8"))
        path = self._data / "react" / "hotpot_dev_v1_simplified.json"
        questions = json.loads(path.read_text("utf-8"))
        return prompts["webthink_simple3"], [q["question"] for q in questions[:n]]


def few_shot(texts: Texts) -> list[TraceRequest]:
    """MMLU: 16 subjects, each with its 5 worked examples before 25 questions; one token out."""
    sums, out = texts.sums(16 * 30), []
    for subject in range(16):
        mine = sums[30 * subject : 30 * subject + 30]
        head = "".join(f"Question: {q}\nAnswer: {a}\n\n" for q, a in mine[:5])
        out += [
            TraceRequest(texts.ids(f"{head}Question: {q}\nAnswer:"), texts.answer(1, 1))
            for q, _ in mine[5:]
        ]
    return out


def endings(texts: Texts) -> list[TraceRequest]:
    """HellaSwag: two levels of sharing, worked examples and then the question, before each of
    its 4 endings; nothing but the prompt is computed."""
    sums, out = texts.sums(8 * 30), []
    for task in range(8):
        mine = sums[30 * task : 30 * task + 30]
        head = "".join(f"Question: {q}\nAnswer: {a}\n\n" for q, a in mine[:10])
        for q, _ in mine[10:]:
            shared = texts.ids(f"{head}Question: {q}\nAnswer:")
            out += [TraceRequest(shared + texts.answer(8, 20), 0) for _ in range(4)]
    return out


def tree_of_thought(texts: Texts) -> list[TraceRequest]:
    """GSM8K: propose, execute, reflect, final, with 2 branches at each: 30 generations for each
    of 20 questions, each going on from the one before it."""
    out: list[TraceRequest] = []
    steps = [texts.ids(f" {step} the next step. ") for step in ("Do", "Check", "Conclude")]
    for question, _ in texts.sums(20):
        start = texts.ids(f"Solve this step by step, with care.\nQuestion: {question}\nPlan:")
        level: list[tuple[list[int], int | None]] = [(start, None)]
        for depth in range(4):
            below = []
            for prompt, parent in level:
                for _ in range(2):
                    answer = texts.answer(30, 80)
                    below.append((prompt + answer + steps[min(depth, 2)], len(out)))
                    out.append(TraceRequest(prompt, answer, after=parent))
            level = below
    return out


def chat(texts: Texts) -> list[TraceRequest]:
    """MT-bench: 80 chats of 4 turns (the questions go round) under one system prompt."""
    out: list[TraceRequest] = []
    system = texts.ids("You are a helpful assistant who answers at length and in detail. " * 4)
    chats = texts.chats(80)
    for at, turns in enumerate(chats):
        prompt, parent = system, None
        for turn in [*turns, *chats[at - 1]][:4]:
            prompt = prompt + texts.ids(f"\nUser: {turn}\nAssistant:")
            answer = texts.answer(40, 160)
            out.append(TraceRequest(prompt, answer, after=parent))
            prompt, parent = prompt + answer, len(out) - 1
    return out


def agents(texts: Texts) -> list[TraceRequest]:
    """ReAct: 60 agents of 5 steps; each appends an observation to all that came before."""
    out: list[TraceRequest] = []
    example, questions = texts.agent(60)
    head = texts.ids(example)
    for question in questions:
        prompt, parent = head + texts.ids(f"\nQuestion: {question}\nThought:"), None
        for _ in range(5):
            answer = texts.answer(20, 60)
            out.append(TraceRequest(prompt, answer, after=parent))
            seen = texts.ids(f"\nObservation: {texts.words(30, 80)}\nThought:")
            prompt, parent = prompt + answer + seen, len(out) - 1
    return out


def skeleton(texts: Texts) -> list[TraceRequest]:
    """Skeleton of thought: 50 topics, a list of tips and then each of 5 tips at length."""
    out: list[TraceRequest] = []
    for topic in texts.topics(50):
        prompt, tips = texts.ids(f"Give me 5 tips on {topic}. Only the list:"), texts.answer(40, 80)
        parent = len(out)
        out.append(TraceRequest(prompt, tips))
        for n in range(5):
            more = prompt + tips + texts.ids(f"\nTip {n + 1} at length:")
            out.append(TraceRequest(more, texts.answer(60, 120), after=parent))
    return out


def unshared(texts: Texts) -> list[TraceRequest]:
    """200 prompts that share nothing: the price of looking for it."""
    return [TraceRequest(texts.answer(100, 300), texts.answer(20, 60)) for _ in range(200)]


KINDS = {
    "few-shot (MMLU)": few_shot,
    "two levels (HellaSwag)": endings,
    "tree of thought": tree_of_thought,
    "multi-turn chat": chat,
    "agents (ReAct)": agents,
    "skeleton of thought": skeleton,
    "nothing shared": unshared,
}


def make_traces(tokenizer: Tokenizer, data: Path | None, seed: int) -> dict[str, list]:
    """Each kind's trace; those that depend on no other come at once, in random order."""
    out = {}
    for name, kind in KINDS.items():
        rng = random.Random(f"{seed} {name}")
        out[name] = shuffled(kind(Texts(tokenizer, data, rng)), rng)
    return out


def shuffled(trace: list[TraceRequest], rng: random.Random) -> list[TraceRequest]:
    """In random order, but each after the one it depends on."""
    place: dict[int, int] = {}
    out: list[TraceRequest] = []
    keys: dict[int, float] = {}
    for at, request in enumerate(trace):
        floor = 0.0 if request.after is None else keys[request.after]
        keys[at] = rng.uniform(floor, 1)
    for at in sorted(range(len(trace)), key=lambda at: (keys[at], at)):
        request = trace[at]
        place[at] = len(out)
        out.append(
            request if request.after is None else replace(request, after=place[request.after])
        )
    return out
