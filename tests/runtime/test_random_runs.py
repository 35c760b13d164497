"""Long random runs over a pool that is always too small, against an engine without a cache."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from sglnb.errors import RequestAborted
from sglnb.runtime import Engine, scheduler
from sglnb.runtime.attention import Row
from sglnb.runtime.models import Batch
from sglnb.runtime.runner import ModelRunner

HEADS = [
    "In the beginning there was a word, and ",
    "The quick brown fox ",
    "1, 2, 3, 4, ",
    "Once there was a small red house at the end of a long road in a far land, and in it ",
    "",
]
REGEXES = ["[a-z]{3,8}", r"\d{1,3}(\.\d+)?", '"(yes|no|perhaps)"', "(ab|cd)+e"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, model_dir):
    """A very small random checkpoint with the embedded model's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    config = LlamaConfig(
        vocab_size=8192, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        bos_token_id=None, eos_token_id=2, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(folder)
    return str(folder)


class Pass(NamedTuple):
    """A decode step that was not recorded."""

    logits: torch.Tensor
    captured: None = None


class FlyingRunner(ModelRunner):
    """Takes decode steps ahead as on a GPU, but without a recorded graph."""

    flies = True
    flights = 0

    def fly(self, requests, tokens):
        FlyingRunner.flights += 1
        rows = [Row(r.computed, 1, r.table.slots, r.table.runs) for r in requests]
        positions = torch.tensor([row.start for row in rows])
        return Pass(self.forward(Batch(tokens, positions, self.attention.plan(rows), None)))


def random_request(rng: random.Random, words: int, earlier: list[str]) -> tuple[str, dict]:
    """A prompt of up to ``words`` words behind a common head, or one that goes on from an
    earlier one, as a chat's next turn or a fork does; and sampling parameters."""
    head = rng.choice(earlier) if earlier and rng.random() < 0.5 else rng.choice(HEADS)
    tail = rng.choices(["red", "green", "blue", "one", "two"], k=rng.randint(1, words))
    params = {
        "max_new_tokens": rng.randint(1, 25 if words < 50 else 150),
        "ignore_eos": rng.random() < 0.5,
    }
    if rng.random() < 0.5:
        params["temperature"] = 0
    else:
        params |= {"temperature": 1.3, "seed": rng.randint(0, 9), "top_p": rng.choice([1.0, 0.9])}
    if rng.random() < 0.3:
        params["regex"] = rng.choice(REGEXES)
        params["on_budget"] = "cut"  # also where no text fits in max_new_tokens
        params["jump_forward"] = rng.random() < 0.7
    if rng.random() < 0.2:
        params["stop"] = rng.choice(["a", "e ", "the"])
    if rng.random() < 0.1:
        params["stop_regex"] = rng.choice([r"[aeiou]{2}", r"\d|x.*z"])
    if rng.random() < 0.2:
        params["repetition_penalty"] = rng.choice([0.8, 1.5])
        params["frequency_penalty"] = rng.choice([0, 0.7])
    if rng.random() < 0.1:
        params |= {"top_k": 20, "min_p": 0.01, "logit_bias": {300: 2.5}}
    return (head + " ".join(tail))[: 6 * words], params


def soak(
    tiny: str,
    requests: int,
    seed: int,
    *,
    crowd: int = 12,
    words: int = 20,
    ahead: bool = False,
    **options,
) -> None:
    """Up to ``crowd`` requests at once, with priorities, some aborted; books checked after each
    step, and every answer compared with the one given alone and with an empty cache."""
    rng = random.Random(seed)
    with (
        Engine(tiny, chunk_tokens=40, **options) as crowded,
        Engine(tiny, kv_tokens=2000) as alone,
    ):
        core, step = crowded._core, crowded._core.step
        if ahead:
            core.runner.__class__ = FlyingRunner
        core.step = lambda: (step(), core.check())
        asked = lost = 0
        earlier: list[str] = []
        while asked < requests:
            some = [random_request(rng, words, earlier[-20:]) for _ in range(rng.randint(1, crowd))]
            asked += len(some)
            how = [
                {"priority": rng.randint(-1, 1), "return_logprob": rng.random() < 0.3} for _ in some
            ]
            live = [(crowded.submit(p, q, **o), p, q) for (p, q), o in zip(some, how, strict=True)]
            for request, _, _ in rng.sample(live, len(live) // 6):
                request.abort()
            for request, prompt, params in live:
                assert request.wait(60)
                if isinstance(request.error, RequestAborted):
                    lost += 1
                    continue
                assert request.error is None
                alone.cache.flush()
                want = alone.generate(prompt, params)
                assert request.output_ids == want["output_ids"], (prompt, params)
                assert request.text == want["text"]
                scores = request.meta_info.get("output_token_logprobs", ())
                assert None not in [logprob for logprob, _, _ in scores]
                earlier.append(prompt + request.text + " ")
            crowded.check()
        metrics = crowded.metrics()
        assert metrics["retractions"] > 0
        assert metrics["cached_tokens"] > 0
        assert lost < requests / 4
        crowded.cache.flush()
        assert crowded.metrics()["kv_used"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"kv_tokens": 100},
        {"kv_tokens": 160, "page_size": 16, "eviction": "cost"},
        {"kv_tokens": 100, "eviction": "lfu", "policy": "fcfs"},
        {"kv_tokens": 100, "ahead": True},
        {"kv_tokens": 192, "page_size": 16, "ahead": True},
    ],
    ids=str,
)
def test_random_runs(tiny, monkeypatch, options):
    before = FlyingRunner.flights
    monkeypatch.setattr(scheduler, "RESERVE", 2)
    soak(tiny, requests=100, seed=1, max_running=8, **options)
    assert FlyingRunner.flights > before + 100 or "ahead" not in options


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ahead": True},
        {"policy": "dfs-weight", "eviction": "lfu"},
        {"policy": "fcfs", "eviction": "cost", "page_size": 16},
        {"policy": "lof", "eviction": "priority"},
        {"policy": "random", "eviction": "fifo", "page_size": 16, "jump_forward": False},
    ],
    ids=str,
)
def test_ten_thousand_requests(tiny, monkeypatch, options):
    monkeypatch.setattr(scheduler, "RESERVE", 2)
    soak(tiny, 2000, 7, crowd=60, words=60, kv_tokens=2000, max_running=48, **options)
