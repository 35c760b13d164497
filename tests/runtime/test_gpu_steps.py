"""On a GPU: recorded steps that are started ahead, sampling by the kernel, other architectures."""

from __future__ import annotations

import warnings

import pytest
import torch
from test_flight import CASES, PROMPTS, close, told
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from sglnb.runtime import Engine

pytestmark = pytest.mark.gpu
SMALL = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
KINDS = {
    "gemma2": {**SMALL, "head_dim": 64, "sliding_window": 64, "num_hidden_layers": 4},
    "phi3": {**SMALL, "pad_token_id": 0},
    "gpt2": {"n_embd": 256, "n_layer": 2, "n_head": 4},
    "olmo2": SMALL,
    "mixtral": {**SMALL, "num_local_experts": 4},
    "qwen3_moe": {**SMALL, "moe_intermediate_size": 128, "head_dim": 64, "num_experts": 8,
                  "num_experts_per_tok": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def engines():
    """One that records its steps and takes them ahead, and one that does neither."""
    options = {"device": "cuda", "dtype": "float32", "attention": "triton", "kv_tokens": 20_000}
    with Engine(**options) as ahead, Engine(**options, cuda_graphs=False) as plain:
        yield ahead, plain


@pytest.mark.parametrize("names", [[n] * 3 for n in CASES] + [list(CASES)], ids=lambda n: n[0])
@pytest.mark.parametrize("watched", [False, True], ids=["", "watched"])
def test_the_same_comes_out(engines, names, watched):
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(len(names))]
    params = [{"max_new_tokens": 12 + 3 * i, **CASES[name]} for i, name in enumerate(names)]
    asked = {"return_logprob": True, "top_logprobs_num": 3} if watched else {}
    answers = []
    for engine in engines:
        engine.cache.flush()
        answers.append(told(engine.generate(prompts, params, **asked)))
        engine.check()
    for (text, ids, meta), (want, want_ids, want_meta) in zip(*answers, strict=True):
        assert (text, ids) == (want, want_ids)
        for name, value in want_meta.items():
            assert meta[name] == close(value), name
    assert engines[0]._core.runner.graphs._graphs


def test_what_a_run_is_told_is_the_same(engines):
    """Alternatives, entropy, mass: of a request that a view looks at."""
    found = []
    for engine in engines:
        engine.cache.flush()
        since = engine.events.next_seq
        params = {"max_new_tokens": 20, "temperature": 1, "seed": 4, "regex": "[a-z ]{8,30}"}
        engine.submit("Once upon a time", params, run="a run").result(60)
        engine.metrics()
        events = [e for e in engine.events.since(since) if e.kind == "tokens"]
        found.append([(e.ids, e.logprobs, e.top, e.allowed, e.mass, e.entropy) for e in events])
    assert found[0] == close(found[1])


@pytest.mark.parametrize("kind", KINDS)
def test_architectures_that_transformers_runs_are_recorded(tmp_path, model_dir, kind):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=8192, eos_token_id=2, bos_token_id=1, **KINDS[kind]
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path)
    params = {"temperature": 0, "max_new_tokens": 24, "ignore_eos": True}
    found = []
    for graphs in (True, False):
        with Engine(
            str(tmp_path), device="cuda", dtype="float32", kv_tokens=4000, cuda_graphs=graphs
        ) as engine:
            assert engine.status()["decoder"] == "transformers"
            results = engine.generate(PROMPTS, params)
            found.append([r["output_ids"] for r in results])
            assert engine.status()["cuda_graphs"] is graphs
            assert bool(engine._core.runner.graphs) is graphs
            engine.check()
    assert found[0] == found[1]


def test_a_step_that_cannot_be_recorded_runs_without(monkeypatch):
    params = {"temperature": 0, "max_new_tokens": 12}
    with Engine(device="cuda", dtype="float32", kv_tokens=4000) as engine:
        want = [r["text"] for r in engine.generate(PROMPTS, params)]
    with Engine(device="cuda", dtype="float32", kv_tokens=4000) as engine:
        model = engine._core.runner.model
        forward = model.forward

        def looks(batch, kv, attention):
            logits = forward(batch, kv, attention)
            logits.sum().item()  # waits for the GPU
            return logits

        monkeypatch.setattr(model, "forward", looks)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = [r["text"] for r in engine.generate(PROMPTS, params)]
        assert found == want
        assert any("cannot be recorded as CUDA graphs" in str(w.message) for w in caught)
        assert engine.status()["cuda_graphs"] is False
        torch.cuda.synchronize()
        engine.check()
