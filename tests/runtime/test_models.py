"""Checkpoints of many architectures: greedy ids equal transformers', cold and warm."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import transformers as hf
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from sglnb.runtime import Engine
from sglnb.runtime.attention import TorchAttention
from sglnb.runtime.models.hf import TransformersModel

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
OTHER = {k: BASE[k] for k in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
MOE |= {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}
LOCAL = {"head_dim": 16, "sliding_window": 12}
LAYERS = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
LONG = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 64,
    "short_factor": [1.0, 1.1, 1.2, 1.4, 1.7, 2.0], "long_factor": [1.0, 2, 4, 8, 16, 32],
}  # fmt: skip
GPT2 = {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 256}
MLA = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8, "v_head_dim": 12, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
}  # fmt: skip
OPT = {"ffn_dim": 96, "word_embed_proj_dim": 48, "hidden_size": 48, "num_hidden_layers": 3}
OPT |= {"num_attention_heads": 4, "max_position_embeddings": 256, "init_std": 0.3}
NATIVE = {
    "llama": hf.LlamaConfig(**BASE, head_dim=16, tie_word_embeddings=False),
    "llama-dynamic-rope": hf.LlamaConfig(**BASE, rope_parameters=DYNAMIC),
    "mistral": hf.MistralConfig(**BASE, sliding_window=None),
    "mistral-window": hf.MistralConfig(**BASE, sliding_window=12),
    "qwen2": hf.Qwen2Config(**BASE),
    "qwen3": hf.Qwen3Config(**BASE, head_dim=16),
}
OTHERS = {
    "cohere": hf.CohereConfig(**BASE),
    "cohere2": hf.Cohere2Config(**BASE | LOCAL),
    "deepseek_v3": hf.DeepseekV3Config(**BASE | MOE | MLA | {"first_k_dense_replace": 1}),
    "gemma": hf.GemmaConfig(**BASE, head_dim=16),
    "gemma2": hf.Gemma2Config(**BASE | LOCAL, attn_logit_softcapping=4.0),
    "gemma3": hf.Gemma3TextConfig(**BASE | LOCAL | LAYERS),
    "gpt2": hf.GPT2Config(**OTHER | GPT2, initializer_range=0.3),
    "gpt_neox": hf.GPTNeoXConfig(**BASE | {"rotary_pct": 0.5}),
    "gpt_oss": hf.GptOssConfig(**BASE | MOE | LOCAL | LAYERS),
    "granite": hf.GraniteConfig(**BASE, attention_multiplier=0.1, residual_multiplier=0.7),
    "llama4": hf.Llama4TextConfig(**BASE | MOE, head_dim=16, intermediate_size_mlp=96),
    "mixtral": hf.MixtralConfig(**BASE | MOE | {"sliding_window": None}),
    "olmo2": hf.Olmo2Config(**BASE),
    "olmo3": hf.Olmo3Config(**BASE | {"sliding_window": 12}),
    "opt": hf.OPTConfig(**OTHER | OPT),
    "phi": hf.PhiConfig(**BASE),
    "phi3": hf.Phi3Config(**BASE | {"sliding_window": 12}),
    "phi3-longrope": hf.Phi3Config(
        **BASE, original_max_position_embeddings=64, rope_parameters=LONG
    ),
    "qwen2_moe": hf.Qwen2MoeConfig(**BASE | MOE),
    "qwen3_moe": hf.Qwen3MoeConfig(**BASE | MOE, head_dim=16),
    "smollm3": hf.SmolLM3Config(**BASE),
    "stablelm": hf.StableLmConfig(**BASE | {"partial_rotary_factor": 0.5}),
    "starcoder2": hf.Starcoder2Config(**BASE | {"sliding_window": 12}),
}
CONFIGS = {name: (config, "native") for name, config in NATIVE.items()}
CONFIGS |= {name: (config, "transformers") for name, config in OTHERS.items()}
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


TINY = {"vocab_size": 8192, "hidden_size": 32, "num_hidden_layers": 2}
FLAT = {"num_attention_heads": 4, "intermediate_size": 64}
T5 = {"vocab_size": 8192, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64}
REFUSED = {
    "mamba": (hf.MambaConfig(**TINY, state_size=4), "MambaFor.* replaceable attention"),
    "bloom": (hf.BloomConfig(**TINY | {"n_head": 4}), "BloomFor.* replaceable attention"),
    "bert": (hf.BertConfig(**TINY | FLAT), "BertLMHead.* tokens that come later"),
    "lfm2": (
        hf.Lfm2Config(**TINY | FLAT, num_key_value_heads=2, layer_types=["conv", "full_attention"]),
        "Lfm2For.* 1 of its 2 layers attend",
    ),
    "t5": (hf.T5Config(**T5), "no decoder-only language model"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_served_is_refused_at_load(name, tmp_path, model_dir):
    config, why = REFUSED[name]
    auto = AutoModelForSeq2SeqLM if name == "t5" else AutoModelForCausalLM
    auto.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"model: .*{why}"):
        Engine(str(tmp_path))


def from_config(config) -> TransformersModel:
    torch.manual_seed(1)
    with torch.inference_mode():
        return TransformersModel(AutoModelForCausalLM.from_config(config).eval())


def test_windows_are_read_from_the_masks():
    model = from_config(hf.Gemma2Config(**BASE | {"head_dim": 16, "sliding_window": 100}))
    assert [layer.window for layer in model._layers.values()] == [100, None, 100]


def test_an_attention_that_ignores_something_is_found_out(monkeypatch):
    """Were the sinks forgotten, or a window wrong, the check at load would tell."""
    real = TorchAttention.attend

    def forgetful(self, *args):
        return real(self, *args[:-1], args[-1]._replace(sinks=None))

    monkeypatch.setattr(TorchAttention, "attend", forgetful)
    with pytest.raises(ValueError, match=r"GptOssForCausalLM .* logits differ .* by \d"):
        from_config(hf.GptOssConfig(**BASE | MOE | LOCAL | LAYERS))


@pytest.mark.parametrize("name", ["phi3-longrope", "llama4-chunks"])
def test_no_text_goes_on_to_where_its_cached_keys_would_be_wrong(name):
    """All rotations change past the original context; a chunk sees nothing of the last one."""
    config = OTHERS["phi3-longrope"]
    if name == "llama4-chunks":
        config = hf.Llama4TextConfig(
            **BASE | MOE, intermediate_size_mlp=96, attention_chunk_size=64
        )
    assert from_config(config).context_length == 64


def test_a_closed_model_is_not_kept_alive():
    config = hf.Phi3Config(**BASE)
    model = AutoModelForCausalLM.from_config(config)
    there = weakref.ref(model)
    with torch.inference_mode():
        TransformersModel(model)
    del model
    gc.collect()
    assert there() is None


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


@pytest.mark.parametrize("small", [False, True], ids=["fused", "few rows"])
def test_the_fused_decoder_is_the_plain_one(monkeypatch, small):
    """With the kernels' references: the same text, and logits as near as rounding lets them be."""
    monkeypatch.setattr("sglnb.runtime.models.linear.packable", lambda dtype: False)
    prompts = ["The old man walked to the", "2, 4, 6, 8,", "Once upon a time"]
    params = {"temperature": 0, "max_new_tokens": 16}
    found = []
    with Engine(kv_tokens=1000) as engine:
        model = engine._core.runner.model
        for fused in (False, True):
            engine.cache.flush()
            model._fused, model._small = fused, fused and small
            found.append(engine.generate(prompts, params, return_logprob=True))
    for plain, fused in zip(*found, strict=True):
        assert plain["output_ids"] == fused["output_ids"]
        scores = [
            torch.tensor([s[0] for s in r["meta_info"]["output_token_logprobs"]])
            for r in (plain, fused)
        ]
        torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)


def test_a_hub_name_out_of_reach_fails_at_once(monkeypatch):
    def unknown(host, port):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("sglnb.runtime.models.load.getproxies", dict)
    monkeypatch.setattr("sglnb.runtime.models.load.socket.getaddrinfo", unknown)
    with pytest.raises(ValueError, match=r"'no/such' is no folder and not in the cache.*cannot be"):
        Engine(model="no/such")
