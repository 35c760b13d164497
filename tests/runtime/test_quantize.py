"""Other precisions than float32: how far the logits move, and what is refused."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from sglnb.runtime import Engine
from sglnb.runtime.attention import Row, TorchAttention
from sglnb.runtime.models import Batch, int8, load_model
from sglnb.runtime.models.int8 import Int8Linear
from sglnb.runtime.models.linear import Linear

TEXT = (
    "<|im_start|>user\nWeng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes "
    "of babysitting. How much did she earn?<|im_end|>\n<|im_start|>assistant\nThe capital of Italy "
    "is Rome. Once upon a time there was a little girl who lived in a house near the river."
)


def logits(model, tokenizer) -> torch.Tensor:
    """[tokens, vocab] of the text, the second half over the pool's KV of the first."""
    attention = TorchAttention(torch.device("cpu"))
    ids = torch.tensor(tokenizer.encode(TEXT))
    slots, half = list(range(len(ids))), len(ids) // 2
    kv, out = model.kv_cache(len(ids)), []
    with torch.inference_mode():
        for start, stop in ((0, half), (half, len(ids))):
            plan = attention.plan([Row(start, stop - start, slots[:stop], [(0, stop)])])
            at = torch.arange(start, stop)
            out.append(
                model.forward(Batch(ids[at], at, plan, torch.arange(len(at))), kv, attention)
            )
    return torch.cat(out)


@pytest.fixture(scope="module")
def exact(model_dir):
    return logits(*load_model(model_dir, dtype="float32"))


@pytest.mark.parametrize(
    ("dtype", "mean", "agreement"),
    [("bfloat16", 0.1, 0.94), ("float16", 0.02, 0.98), ("int8", 0.1, 0.96)],
)
def test_logits_stay_near_float32(dtype, mean, agreement, exact, model_dir, monkeypatch):
    monkeypatch.setattr(int8, "SMALLEST", 0)  # every layer, also those too small to win
    got = logits(*load_model(model_dir, dtype=dtype))
    assert got.dtype == torch.float32
    error = (got - exact).abs()
    assert error.mean() < mean
    assert error.max() < 30 * mean
    same = (got.argmax(-1) == exact.argmax(-1)).float().mean()
    assert same >= agreement


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_the_engine_runs_in_it(dtype, monkeypatch):
    prompt = "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n<|im_start|>assistant\n"
    monkeypatch.setattr(int8, "SMALLEST", 0)
    with Engine(dtype=dtype, kv_tokens=500) as engine:
        for _ in ("cold", "warm"):
            text = engine.generate(prompt, {"temperature": 0})["text"]
            assert text == "The capital of Italy is Rome."
        status = engine.status()
        assert status["dtype"] == ("float32" if dtype == "int8" else dtype)
        engine.check()


@pytest.mark.parametrize("name", ["gemma2", "gpt_neox", "mixtral"])
def test_transformers_models_in_half_precision(name, tmp_path, model_dir):
    config = {
        "gemma2": hf.Gemma2Config, "gpt_neox": hf.GPTNeoXConfig, "mixtral": hf.MixtralConfig,
    }[name](
        vocab_size=8192, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, eos_token_id=2,
        max_position_embeddings=256, num_local_experts=2,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path)
    want = logits(*load_model(tmp_path, dtype="float32"))
    got = logits(*load_model(tmp_path, dtype="bfloat16"))
    assert (got - want).norm() < 0.05 * want.norm()


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 40),
    shape=st.sampled_from([(5, 3), (64, 48), (100, 97), (16, 512)]),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_int8_layer(rows, shape, bias, seed):
    """Weights are off by half a step at most, activations by next to nothing, and a row's
    result is the same bits in every batch."""
    torch.manual_seed(seed)
    weight = torch.randn(shape) * torch.logspace(-3, 1, shape[0])[:, None]
    weight[0] = 0
    b = torch.randn(shape[0]) if bias else None
    layer = Int8Linear(weight, b)
    x = torch.randn(rows, shape[1]) * torch.logspace(-4, 3, rows)[:, None]
    x[-1, 0] = 100 * x[-1].abs().max()  # an outlier
    got, step = layer(x), weight.abs().amax(1).clamp_min(1e-30) / 127
    rounded = (weight / step[:, None]).round() * step[:, None]
    want = x.double() @ rounded.double().T + (0 if b is None else b.double())
    largest = x.abs().amax(1, keepdim=True) * weight.abs().sum(1) / 126**2
    assert ((got - want).abs() <= largest + 1e-5 * want.abs().clamp_min(1)).all()
    assert torch.equal(layer(x[-1:]), got[-1:])
    other = torch.randn(rows, shape[0])
    torch.testing.assert_close(layer.plus(x, other), got + other)


def test_int8_takes_a_quarter_of_the_memory(model_dir, monkeypatch):
    model, _ = load_model(model_dir)
    kinds = {type(linear) for linear in load_model(model_dir, dtype="int8")[0].linears()}
    assert kinds == {Int8Linear, Linear}, "small layers stay as they are"
    monkeypatch.setattr(int8, "SMALLEST", 0)
    small, _ = load_model(model_dir, dtype="int8")
    embeddings = 8192 * 512 * 4
    ratio = (model.weights_bytes - embeddings) / (small.weights_bytes - embeddings)
    assert ratio == pytest.approx(4, rel=0.01)
    with Engine(dtype="int8", kv_tokens=50, deterministic=True) as engine:
        assert engine.status()["weights_bytes"] == small.weights_bytes


def test_what_has_no_int8_is_refused(tmp_path, model_dir, monkeypatch):
    config = hf.GPT2Config(vocab_size=8192, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"dtype: GPT2LMHeadModel .* 'int8' is not there"):
        Engine(str(tmp_path), dtype="int8")
    monkeypatch.setattr(int8, "available", lambda: False)
    with pytest.raises(ValueError, match="dtype: 'int8' is for x86 CPUs"):
        Engine(dtype="int8")
    with pytest.raises(ValueError, match=r"dtype: must be 'auto', 'int8' or one of .*'int4'"):
        Engine(dtype="int4")
