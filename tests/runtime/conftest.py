"""What the GPU tests need: a device, and models of real shapes with random weights."""

from __future__ import annotations

import shutil

import pytest
import torch

SHAPES = {
    # hidden, inner, layers, query heads, key heads, head size, vocabulary
    "0.5b": (896, 4864, 24, 14, 2, 64, 151_936),
    "8b-wide": (4096, 14_336, 4, 32, 8, 128, 128_256),
}
"""Qwen2.5-0.5B, and four layers of Llama-3-8B."""


def pytest_collection_modifyitems(items):
    why = None if torch.cuda.is_available() else "needs a CUDA device"
    for item in items:
        if item.get_closest_marker("gpu") and why:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory, model_dir):
    """Makes a checkpoint of one of :data:`SHAPES` with the embedded model's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    made = {}

    def make(shape):
        if shape in made:
            return made[shape]
        hidden, inner, layers, heads, kv_heads, size, vocab = SHAPES[shape]
        folder = tmp_path_factory.mktemp(shape)
        config = AutoConfig.for_model(
            "qwen2" if shape == "0.5b" else "llama",
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=size,
            vocab_size=vocab,
            max_position_embeddings=8192,
            eos_token_id=2,
            tie_word_embeddings=True,
            dtype="bfloat16",
        )
        torch.manual_seed(0)
        with torch.device("cuda"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(model_dir / name, folder)
        made[shape] = folder
        return folder

    return make
