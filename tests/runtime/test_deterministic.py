"""``deterministic=True``: the same bits whatever the batch, the cache and the threads."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from sglnb.runtime import Engine, scheduler
from sglnb.runtime.attention import Row, TorchAttention
from sglnb.runtime.attention.deterministic import DeterministicAttention
from sglnb.runtime.kv_cache import KVCache
from sglnb.runtime.models import Batch, invariant, load_model
from sglnb.runtime.models.linear import Linear
from sglnb.runtime.pool import runs_of

CPU = torch.device("cpu")
BASE = {
    "vocab_size": 8192, "num_hidden_layers": 2, "max_position_embeddings": 512,
    "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.1,
}  # fmt: skip
# Head counts and sizes of every kind: one query a key head, three, all on one; odd widths.
MODELS = {
    "groups of 2": LlamaConfig(
        **BASE, hidden_size=128, intermediate_size=352, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64,
    ),
    "groups of 3": LlamaConfig(
        **BASE, hidden_size=72, intermediate_size=100, num_attention_heads=6,
        num_key_value_heads=2, head_dim=12, attention_bias=True,
    ),
    "no groups": Qwen3Config(
        **BASE, hidden_size=64, intermediate_size=97, num_attention_heads=4,
        num_key_value_heads=4, head_dim=32,
    ),
    "one key head, window": MistralConfig(
        **BASE, hidden_size=64, intermediate_size=128, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, sliding_window=40,
    ),
}  # fmt: skip
LENGTH, SLOTS = 150, 800


class Subject:
    """A model, some texts, and the logits of each alone: one token after another for the first,
    all at once for the others."""

    def __init__(self, folder):
        self.attention = DeterministicAttention(CPU)
        with torch.inference_mode():
            self.model, _ = load_model(folder, deterministic=True)
            generator = torch.Generator().manual_seed(5)
            self.texts = torch.randint(3, 8000, (3, LENGTH), generator=generator)
            self.texts[1, :90] = self.texts[0, :90]  # a shared prefix
            steps = (1, LENGTH, LENGTH)
            self.want = [self.alone(t, n) for t, n in zip(self.texts, steps, strict=True)]

    def forward(self, kv: KVCache, rows: list[tuple[torch.Tensor, Row]]) -> torch.Tensor:
        ids = torch.cat([text[row.start : row.start + row.count] for text, row in rows])
        positions = torch.cat([torch.arange(r.start, r.start + r.count) for _, r in rows])
        plan = self.attention.plan([row for _, row in rows])
        batch = Batch(ids, positions, plan, torch.arange(len(ids)))
        return self.model.forward(batch, kv, self.attention)

    def alone(self, text: torch.Tensor, step: int) -> torch.Tensor:
        kv, slots = self.model.kv_cache(SLOTS), list(range(LENGTH))
        rows = [Row(i, step, slots[: i + step], [(0, i + step)]) for i in range(0, LENGTH, step)]
        return torch.cat([self.forward(kv, [(text, row)]) for row in rows])


@pytest.fixture(scope="module", params=sorted(MODELS))
def subject(request, tmp_path_factory, model_dir):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(MODELS[request.param]).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(folder)
    return Subject(folder)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), threads=st.sampled_from([1, 1, 1, 2]))
def test_logits_are_the_same_in_any_batch_and_chunking(subject, seed, threads):
    """Random chunks of random texts, side by side, on scattered slots; a prefix computed for one
    text is reused by another."""
    rng, most = random.Random(seed), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            kv = subject.model.kv_cache(SLOTS)
            kv.k.fill_(float("nan")), kv.v.fill_(float("nan"))
            free = list(range(SLOTS))
            if rng.random() < 0.7:
                rng.shuffle(free)
            slots = [[free.pop() for _ in range(LENGTH)] for _ in subject.texts]
            done = [0, 0, 0]
            while min(done) < LENGTH:
                rows = []
                for i in rng.sample(range(3), rng.randint(1, 3)):
                    left = LENGTH - done[i]
                    if not left:
                        continue
                    count = min(left, rng.choice([1, 1, 2, 3, 7, 30, 100]))
                    if i == 1 and done == [done[0], 0, done[2]] and done[0] >= 90:
                        slots[1][:90], done[1] = slots[0][:90], 90
                        count = min(count, LENGTH - 90)
                    mine = slots[i][: done[i] + count]
                    rows.append((i, Row(done[i], count, mine, runs_of(mine))))
                if not rows:
                    continue
                got = subject.forward(kv, [(subject.texts[i], row) for i, row in rows])
                for (i, row), part in zip(
                    rows, got.split([row.count for _, row in rows]), strict=True
                ):
                    stop = row.start + row.count
                    assert torch.equal(part, subject.want[i][row.start : stop]), (i, row[:2])
                    done[i] = stop
    finally:
        torch.set_num_threads(most)


def test_it_is_the_same_model(subject):
    """The bits differ from the other backend's, the numbers do not."""
    with torch.inference_mode():
        attention, text = TorchAttention(CPU), subject.texts[0]
        slots = list(range(LENGTH))
        plan = attention.plan([Row(0, LENGTH, slots, runs_of(slots))])
        everything = torch.arange(LENGTH)
        batch = Batch(text, everything, plan, everything)
        got = subject.model.forward(batch, subject.model.kv_cache(SLOTS), attention)
        torch.testing.assert_close(got, subject.want[0], rtol=1e-3, atol=1e-3)


PROMPTS = [
    "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "Once upon a time there was a " + "very " * 40 + "old man",
    "1, 2, 3,",
]
ASK = {"temperature": 0, "max_new_tokens": 30, "ignore_eos": True}


def outcome(result):
    meta = result["meta_info"]
    scores = [lp for lp, *_ in meta["input_token_logprobs"] + meta["output_token_logprobs"]]
    return result["output_ids"], scores


def ask(engine, prompts):
    results = engine.generate(prompts, ASK, return_logprob=True, logprob_start_len=0)
    engine.check()
    return [outcome(result) for result in results]


def test_logprobs_end_to_end(monkeypatch):
    """Alone and cold, warm, half evicted, batched with others, in small chunks, retracted."""
    monkeypatch.setattr(scheduler, "RESERVE", 1)
    with Engine(kv_tokens=4000, deterministic=True) as engine:
        assert engine.status()["deterministic"] is True
        want = []
        for prompt in PROMPTS:
            engine.cache.flush()
            want += ask(engine, [prompt])
        assert ask(engine, PROMPTS) == want, "warm"
        plain = engine.generate(PROMPTS, ASK, return_logprob=True)  # prefixes really reused
        for result, (ids, scores) in zip(plain, want, strict=True):
            assert result["meta_info"]["cached_tokens"] > 0
            assert outcome(result) == (ids, scores[-len(ids) :])
        tree = engine._core.memory.tree
        engine.call(lambda: tree.evict(tree.size // 2))
        assert ask(engine, PROMPTS) == want, "half evicted"
        others = [f"{word} and a story" for word in ("red", "green", "blue", "black", "white")]
        assert ask(engine, others + PROMPTS)[len(others) :] == want, "with others"
    with Engine(kv_tokens=170, chunk_tokens=7, deterministic=True) as engine:
        assert ask(engine, PROMPTS) == want, "chunks and retractions"
        assert engine.metrics()["retractions"] > 0


def test_silu_is_silu():
    x = torch.randn(700, 97)
    torch.testing.assert_close(invariant.silu(x), torch.nn.functional.silu(x))


@pytest.mark.parametrize("inputs", [64, 1408, 2048, 4864])
def test_products_have_the_same_bits_in_any_batch(inputs):
    torch.manual_seed(0)
    weight, bias = torch.randn(512, inputs), torch.randn(512)
    linear = invariant.InvariantLinear(weight, bias)
    invariant.prove([linear], torch.nn.functional.normalize, 64)
    x = torch.randn(1, inputs)
    want = torch.nn.functional.linear(x, weight, bias)
    torch.testing.assert_close(linear(x), want, atol=1e-3, rtol=1e-4)


def test_a_machine_that_rounds_otherwise_is_refused(monkeypatch):
    linear = Linear(torch.randn(64, 512))
    invariant.prove([linear], torch.nn.functional.normalize, 64)

    def by_size(self, x):
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, None, "none", [], "") * (
            1 + 1e-6 * (len(x) == 31)
        )

    monkeypatch.setattr(Linear, "__call__", by_size)
    with pytest.raises(ValueError, match=r"deterministic: .* 512 by 64 .* a batch of 31"):
        invariant.prove([linear], torch.nn.functional.normalize, 64)


def test_what_cannot_be_deterministic_is_refused(tmp_path, model_dir):
    with pytest.raises(ValueError, match="deterministic: only in float32 or int8 on a CPU"):
        Engine(dtype="bfloat16", deterministic=True)
    with pytest.raises(ValueError, match="attention: deterministic=True brings its own"):
        Engine(attention="torch", deterministic=True)
    config = GPT2Config(vocab_size=8192, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="deterministic: GPT2LMHeadModel is run by transformers"):
        Engine(str(tmp_path), deterministic=True)
