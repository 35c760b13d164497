"""Checkpoints of many architectures: greedy ids equal transformers', cold and warm."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from transformers import AutoModelForCausalLM, AutoTokenizer

from sglnb.runtime import Engine

BASE = {
    "vocab_size": 8192,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # Large random weights: clear winners among the logits, so that rounding cannot swap them.
    "initializer_range": 0.3,
}
CONFIGS = {
    "llama": (hf.LlamaConfig(**BASE, head_dim=16, tie_word_embeddings=False), "native"),
    "mistral": (hf.MistralConfig(**BASE, sliding_window=None), "native"),
    "mistral-window": (hf.MistralConfig(**BASE, sliding_window=12), "native"),
    "qwen2": (hf.Qwen2Config(**BASE), "native"),
    "qwen3": (hf.Qwen3Config(**BASE, head_dim=16), "native"),
    "gemma2": (hf.Gemma2Config(**BASE, head_dim=16, sliding_window=12), "transformers"),
    "phi3": (hf.Phi3Config(**BASE), "transformers"),
    "olmo2": (hf.Olmo2Config(**BASE), "transformers"),
    "gpt2": (
        hf.GPT2Config(
            vocab_size=8192, n_embd=48, n_layer=3, n_head=4, n_positions=256,
            bos_token_id=None, eos_token_id=2, initializer_range=0.3,
        ),
        "transformers",
    ),
    "mixtral": (
        hf.MixtralConfig(**BASE, num_local_experts=4, sliding_window=None), "transformers",
    ),
}  # fmt: skip
PROMPTS = ["The quick brown fox jumps over the lazy dog", "One, two,", "The quick brown cat sat"]


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def checkpoint(request, tmp_path_factory, model_dir):
    config, kind = CONFIGS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(folder)
    return folder, kind


def test_greedy_equals_transformers(checkpoint):
    folder, kind = checkpoint
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    params = {"temperature": 0, "max_new_tokens": 12, "ignore_eos": True}
    with Engine(str(folder), kv_tokens=400) as engine:
        assert engine.status()["decoder"] == kind
        want = []
        for prompt in PROMPTS:
            ids = tokenizer(prompt, return_tensors="pt")
            with torch.no_grad():
                full = model.generate(**ids, do_sample=False, max_new_tokens=12, eos_token_id=None)[
                    0
                ]
            want.append(full[ids.input_ids.shape[1] :].tolist())
        for _ in ("cold, batched", "warm"):
            assert [r["output_ids"] for r in engine.generate(PROMPTS, params)] == want
        assert engine.generate(PROMPTS[0], params)["meta_info"]["cached_tokens"] > 5
        engine.check()


def test_an_architecture_without_kv_is_refused(tmp_path, model_dir):
    config = hf.MambaConfig(vocab_size=8192, hidden_size=32, num_hidden_layers=2, state_size=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="MambaForCausalLM"):
        Engine(str(tmp_path))


def test_padded_logits_are_never_sampled(tmp_path, model_dir):
    """A model wider than its tokenizer: the ids past it do not exist."""
    config = hf.LlamaConfig(**BASE | {"vocab_size": 8300})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path)
    with Engine(str(tmp_path), kv_tokens=4000) as engine:
        params = {"temperature": 5.0, "max_new_tokens": 100, "ignore_eos": True}
        for seed in range(3):
            ids = engine.generate("Hello", params | {"seed": seed})["output_ids"]
            assert max(ids) < 8192
        bound = {"regex": "[a-z]{5,20}", "temperature": 5.0, "seed": 1}
        assert engine.generate("Hello", bound)["text"].isalpha()
