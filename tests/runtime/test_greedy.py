"""The engine's greedy text is transformers' greedy text."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sglnb.runtime import Engine, scheduler

NEW = 24
COUNTRIES = [
    "Italy",
    "France",
    "Spain",
    "Germany",
    "Japan",
    "Egypt",
    "Norway",
    "Greece",
    "Peru",
    "Canada",
]
WORDS = "river, city, lamp|dog, apple, cat|tea, sugar, milk|sun, moon, star|red, green, blue"


def chat(text, system=None):
    head = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return f"{head}<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def fifty_prompts() -> list[str]:
    """Chat, arithmetic, extraction, few-shot and plain text; some share long prefixes."""
    shots = (
        "Review: I loved it.\nSentiment: positive\n\nReview: A waste of time.\nSentiment: negative"
    )
    extract = "You extract information from text. Answer with JSON only."
    prompts = [chat(f"What is the capital of {c}?") for c in COUNTRIES]
    prompts += [
        chat(f"What is {a} + {b}?") for a, b in zip(range(3, 13), range(20, 30), strict=True)
    ]
    prompts += [chat(f"Sort this list: {w}") for w in WORDS.split("|")]
    prompts += [
        chat(
            f"Extract name, age, city from the text as JSON.\n\nText: My name is {n}, I am {a} "
            f"years old and I live in {c}.",
            extract,
        )
        for n, a, c in [
            ("Maria Lopez", 34, "Lisbon"),
            ("Tom Hill", 7, "Oslo"),
            ("Ann Bird", 61, "Rome"),
            ("Li Wei", 25, "Paris"),
            ("Eva Berg", 48, "Bern"),
        ]
    ]
    prompts += [
        f"{shots}\n\nReview: {r}\nSentiment:"
        for r in [
            "Great food.",
            "The waiter was rude.",
            "Boring from start to end.",
            "I would go again.",
            "The best day of my life.",
            "It broke after a week.",
        ]
    ]
    prompts += [
        f"{s} {t}"
        for s in ("Once upon a time", "The old man")
        for t in ("there was a", "walked to the", "said that he", "saw a small", "")
    ]
    prompts += ["In the year 1900", "The cat", "2, 4, 6, 8,", "Dear Sir,"]
    assert len(prompts) == 50
    return [p.rstrip(" ") for p in prompts]


@pytest.fixture(scope="module")
def expected(model_dir):
    """transformers' ids of each prompt's continuation, in float32."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    out = {}
    for prompt in fifty_prompts():
        ids = tokenizer(prompt, return_tensors="pt")
        full = model.generate(**ids, do_sample=False, max_new_tokens=NEW)
        out[prompt] = full[0, ids.input_ids.shape[1] :].tolist()
    return out


def run(engine, prompts):
    params = {"temperature": 0, "max_new_tokens": NEW}
    results = engine.generate(prompts, params)
    engine.check()
    return {p: r["output_ids"] for p, r in zip(prompts, results, strict=True)}


def test_alone_cold_and_warm(engine, expected):
    engine.cache.flush()
    for prompt, want in expected.items():
        assert run(engine, [prompt])[prompt] == want, "cold"
        warm = engine.generate(prompt, {"temperature": 0, "max_new_tokens": NEW})
        assert warm["output_ids"] == want, "warm"
        assert warm["meta_info"]["cached_tokens"] == warm["meta_info"]["prompt_tokens"] - 1


def test_half_evicted(engine, expected):
    run(engine, list(expected))
    core = engine._core
    tree = core.memory.tree
    engine.call(lambda: tree.evict(tree.size // 2))
    engine.check()
    assert run(engine, list(expected)) == expected


def test_batched_with_fifteen_others(engine, expected):
    engine.cache.flush()
    prompts = list(expected)
    for at in range(0, 50, 16):
        group = (prompts[at:] + prompts)[:16]
        assert run(engine, group) == {p: expected[p] for p in group}


@pytest.mark.parametrize(("page_size", "kv_tokens"), [(1, 150), (16, 320)])
def test_every_batch_in_a_tiny_pool(expected, monkeypatch, page_size, kv_tokens):
    """Evictions and retractions all the time: the text stays the same, nothing is lost."""
    monkeypatch.setattr(scheduler, "RESERVE", 1)
    with Engine(
        kv_tokens=kv_tokens, page_size=page_size, chunk_tokens=48, max_running=12
    ) as engine:
        assert run(engine, list(expected)) == expected
        metrics = engine.metrics()
        assert metrics["retractions"] > 0
        assert metrics["kv_used"] == metrics["kv_cached"]


def test_pages_of_sixteen(expected):
    with Engine(page_size=16, kv_tokens=5000) as engine:
        prompts = list(expected)
        assert run(engine, prompts) == expected
        assert run(engine, prompts) == expected
        for prompt in prompts:
            info = engine.generate(prompt, {"temperature": 0, "max_new_tokens": 1})["meta_info"]
            assert info["cached_tokens"] == (info["prompt_tokens"] - 1) // 16 * 16
        engine.check()


def test_stories260k_reproduces_its_reference(shared_data):
    folder = shared_data / "checkpoints" / "stories260K"
    reference = json.loads((folder / "reference.json").read_text())
    want = reference["greedy_from_bos"]
    with Engine(str(folder)) as engine:
        for _ in ("cold", "warm"):
            params = {"temperature": 0, "max_new_tokens": len(want) - 1, "ignore_eos": True}
            result = engine.generate([1], params, return_logprob=True)
            assert [1, *result["output_ids"]] == want
            scores = [lp for lp, _, _ in result["meta_info"]["output_token_logprobs"]]
            expected = reference["logprob_of_greedy"]
            assert scores[: len(expected)] == pytest.approx(expected, abs=2e-4)
        for case in (c for c in reference.values() if isinstance(c, dict)):
            prompt, want = case["prompt_ids"], case["greedy"]
            params = {"temperature": 0, "max_new_tokens": len(want) - len(prompt)}
            params["ignore_eos"] = True
            assert prompt + engine.generate(prompt, params)["output_ids"] == want
        engine.check()
