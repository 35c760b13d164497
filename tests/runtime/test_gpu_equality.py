"""On a GPU the engine's text is transformers' text: exactly in float32, and in half precision with
log-probabilities as near to float32's as transformers' own are."""

from __future__ import annotations

import json

import pytest
import torch
from test_greedy import NEW, fifty_prompts
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from sglnb.runtime import Engine
from sglnb.runtime.attention.choose import obstacle
from sglnb.runtime.models.llama import LlamaModel
from sglnb.runtime.tokenizer import Tokenizer

pytestmark = pytest.mark.gpu
GREEDY = {"temperature": 0, "max_new_tokens": NEW}
ITEM = r'\{"name": "[A-Z][a-z]{1,8}", "age": [1-9][0-9]?, "city": "[A-Z][a-z]{1,8}"\}'


@pytest.fixture(scope="module", autouse=True)
def exact_products():
    """float32 products in float32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture(scope="module")
def expected(model_dir):
    """transformers' ids of each prompt's continuation, in float32 on the GPU."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).cuda()
    out = {}
    for prompt in fifty_prompts():
        ids = tokenizer(prompt, return_tensors="pt").to("cuda")
        full = model.generate(**ids, do_sample=False, max_new_tokens=NEW)
        out[prompt] = full[0, ids.input_ids.shape[1] :].tolist()
    return out


def need(backend, dtype, head_dim=64):
    """Skip when ``backend`` is not there."""
    why = obstacle(backend, torch.device("cuda"), dtype, head_dim)
    if why is not None:
        pytest.skip(f"attention={backend!r} {why}")


def run(engine, prompts, params=GREEDY):
    results = engine.generate(prompts, params)
    engine.check()
    return {p: r["output_ids"] for p, r in zip(prompts, results, strict=True)}


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "eager"])
@pytest.mark.parametrize("page_size", [1, 16])
@pytest.mark.parametrize("attention", ["torch", "triton"])
def test_float32_exactly(expected, attention, page_size, graphs):
    need(attention, torch.float32)
    with Engine(
        device="cuda",
        dtype="float32",
        attention=attention,
        page_size=page_size,
        cuda_graphs=graphs,
        kv_tokens=20_000,
    ) as engine:
        assert engine.status()["attention"] == attention
        some = list(expected)[::7]
        assert {p: run(engine, [p])[p] for p in some} == {p: expected[p] for p in some}, "alone"
        engine.cache.flush()
        assert run(engine, list(expected)) == expected, "batched, cold"
        assert run(engine, list(expected)) == expected, "batched, warm"
        constrained = {**GREEDY, "max_new_tokens": 60, "regex": ITEM}
        texts = [
            engine.generate("Data:", {**constrained, "jump_forward": jump})["text"]
            for jump in (True, False)
        ]
        assert texts[0] == texts[1]
        json.loads(texts[0])


BACKENDS = ["flashinfer", "triton", "torch"]


@pytest.mark.parametrize("shape", ["sgl-tiny", "0.5b", "8b-wide"])
@pytest.mark.parametrize("attention", BACKENDS)
@pytest.mark.parametrize("page_size", [1, 16])
def test_half_precision_is_as_good_as_transformers(
    random_checkpoint, model_dir, attention, shape, page_size
):
    """Teacher-forced log-probabilities of 24 greedy tokens after each of 24 prompts, prefilled,
    decoded in a batch, and again from a warm cache: the error against float32 is at most that of
    transformers in bfloat16, and a quarter more."""
    need(attention, torch.bfloat16, 128 if shape == "8b-wide" else 64)
    folder = model_dir if shape == "sgl-tiny" else random_checkpoint(shape)
    prompts = fifty_prompts()[::2][:24]
    with Engine(
        str(folder), device="cuda", dtype="bfloat16", attention=attention, page_size=page_size,
        kv_tokens=20_000,
    ) as engine:  # fmt: skip
        params = {"temperature": 0, "max_new_tokens": NEW, "ignore_eos": True}
        cold = engine.generate(prompts, params, return_logprob=True, logprob_start_len=0)
        warm = engine.generate(prompts, params, return_logprob=True)
        engine.check()
        ids = [engine.prompt_ids(p) for p in prompts]
    wide, half = (_score(folder, dtype, ids, cold) for dtype in (torch.float32, torch.bfloat16))
    allowed = max(_distance(half, wide)) * 1.25 + 0.02
    ours = []
    for result, prompt in zip(cold, ids, strict=True):
        parts = result["meta_info"]
        scores = parts["input_token_logprobs"][1:] + parts["output_token_logprobs"]
        assert len(scores) == len(prompt) - 1 + NEW
        ours.append([s[0] for s in scores])
    assert max(_distance(ours, wide)) <= allowed
    for result, again, prompt, row in zip(cold, warm, ids, wide, strict=True):
        same = 0
        for a, b in zip(result["output_ids"], again["output_ids"], strict=True):
            if a != b:
                break
            same += 1
        scores = [s[0] for s in again["meta_info"]["output_token_logprobs"][:same]]
        start = len(prompt) - 1
        assert max(_distance([scores], [row[start : start + same]]), default=0) <= allowed


def _score(folder, dtype, prompts, results):
    """transformers' log-probabilities of each prompt and its continuation, among the ids that are
    tokens: the engine hides the logits past them."""
    tokens = len(AutoTokenizer.from_pretrained(folder))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).cuda()
    return _scores_by(model, prompts, results, tokens)


def _scores_by(model, prompts, results, tokens):
    out = []
    for prompt, result in zip(prompts, results, strict=True):
        ids = torch.tensor([prompt + result["output_ids"]], device="cuda")
        with torch.inference_mode():
            logits = model(ids).logits[0, :-1, :tokens].float().log_softmax(-1)
        out.append(logits.gather(1, ids[0, 1:, None])[:, 0].tolist())
    return out


def _distance(some, others):
    return [
        abs(a - b) for x, y in zip(some, others, strict=True) for a, b in zip(x, y, strict=True)
    ]


@pytest.mark.parametrize("attention", ["auto", "flashinfer", "triton"])
def test_graphs_and_cascade_change_nothing_but_rounding(model_dir, attention):
    """32 forks of a long prefix, with and without graphs: log-probabilities as near to float32's
    as transformers' in bfloat16."""
    need("triton" if attention == "auto" else attention, torch.bfloat16)
    prefix = " ".join(fifty_prompts())[:3000]
    prompts = [f"{prefix}\n{i}." for i in range(32)]
    params = {"temperature": 0, "max_new_tokens": 8, "ignore_eos": True}
    for graphs in (True, False):
        with Engine(
            device="cuda", dtype="bfloat16", attention=attention, cuda_graphs=graphs
        ) as engine:
            engine._core.runner.attention.least = 1  # these few tokens would not be worth a group
            engine.generate(prefix, {"max_new_tokens": 0})
            results = engine.generate(prompts, params, return_logprob=True)
            engine.check()
            ids = [engine.prompt_ids(p) for p in prompts]
        assert_as_good(model_dir, ids, results)


def assert_as_good(folder, prompts, results):
    """The error of the outputs' log-probabilities against float32 is at most that of transformers
    in bfloat16, and a quarter more."""
    wide, half = (_score(folder, d, prompts, results) for d in (torch.float32, torch.bfloat16))
    starts = [len(prompt) - 1 for prompt in prompts]
    wide, half = (
        [row[start:] for row, start in zip(rows, starts, strict=True)] for rows in (wide, half)
    )
    ours = [[s[0] for s in r["meta_info"]["output_token_logprobs"]] for r in results]
    assert max(_distance(ours, wide)) <= 1.25 * max(_distance(half, wide)) + 0.02


def test_llama_3_8b_at_full_depth(monkeypatch, model_dir):
    """32 layers with random weights: prefill, recorded decode alone and in a batch of 12."""
    if torch.cuda.mem_get_info()[0] < 60 * 2**30:
        pytest.skip("needs 60 GB of free GPU memory")
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=8, head_dim=128, vocab_size=128_256,
        max_position_embeddings=4096, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("cuda"):
        hf = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    weights = {name: w.clone() for name, w in hf.state_dict().items()}
    tokenizer = Tokenizer.from_pretrained(model_dir, vocab_size=128_256, eos_ids=(2,))
    with torch.inference_mode():
        made = [LlamaModel(hf), tokenizer]
    made[0].eos_ids = (2,)
    monkeypatch.setattr("sglnb.runtime.engine.load_model", lambda *_, **__: tuple(made))
    prompts = [tokenizer.encode(p) for p in fifty_prompts()[:12]]
    params = {"temperature": 0, "max_new_tokens": 12, "ignore_eos": True}
    with Engine("8b", device="cuda", kv_tokens=8000) as engine:
        batched = engine.generate(prompts, params, return_logprob=True)
        alone = [engine.generate(p, params, return_logprob=True) for p in prompts[:3]]
        engine.check()
    made.clear()
    del hf
    with torch.device("cuda"):
        hf = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    hf.load_state_dict(weights)
    del weights
    some, results = prompts + prompts[:3], batched + alone
    half = _scores_by(hf, some, results, 8192)
    wide = _scores_by(hf.float(), some, results, 8192)
    ours = [[s[0] for s in r["meta_info"]["output_token_logprobs"]] for r in results]
    half, wide = ([row[-12:] for row in rows] for rows in (half, wide))
    assert max(_distance(ours, wide)) <= 1.25 * max(_distance(half, wide)) + 0.02
