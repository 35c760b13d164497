"""LoRA adapters: greedy ids equal those of merged weights, whatever else is in the batch."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from test_models import BASE
from vision_checkpoints import Reference, build, picture

from sglnb.runtime import Engine

GREEDY = {"max_new_tokens": 10, "temperature": 0, "ignore_eos": True}
NAMES = [None, "wide", "narrow"]
PROMPTS = ["The quick brown fox jumps over", "One, two,", "The quick brown cat sat"]
CONFIGS = {
    "native": hf.Qwen2Config(**BASE),
    "transformers": hf.Olmo2Config(**BASE),
    "gpt2": hf.GPT2Config(
        vocab_size=8192, n_embd=48, n_layer=2, n_head=4, n_positions=256,
        bos_token_id=None, eos_token_id=2, initializer_range=0.3,
    ),
}  # fmt: skip
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_adapter(folder, model, targets, rank=4, alpha=6, seed=0, **config):
    """Save a random adapter for ``model`` as PEFT does; returns the merged model's weights."""
    generator = torch.Generator().manual_seed(seed)
    tensors, merged = {}, {k: v.clone() for k, v in model.state_dict().items()}
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    for path, module in model.named_modules():
        if path.rpartition(".")[2] not in targets:
            continue
        weight = module.weight
        conv = not isinstance(module, torch.nn.Linear)
        inputs, outputs = weight.shape if conv else weight.shape[::-1]
        a = torch.randn(rank, inputs, generator=generator) * 0.3
        b = torch.randn(outputs, rank, generator=generator) * 0.3
        tensors[f"base_model.model.{path}.lora_A.weight"] = a
        tensors[f"base_model.model.{path}.lora_B.weight"] = b
        delta = b @ a * scale
        merged[f"{path}.weight"] += delta.T if conv else delta
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": list(targets),
        "bias": "none", "use_dora": False, "modules_to_save": None, **config,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return merged


def greedy(model, tokenizer, prompts):
    out = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer.encode(prompt)])
        with torch.inference_mode():
            done = model.generate(
                ids, max_new_tokens=10, min_new_tokens=10, do_sample=False, pad_token_id=0,
                attention_mask=torch.ones_like(ids),
            )  # fmt: skip
        out.append(done[0, ids.shape[1] :].tolist())
    return out


class Setup:
    """A checkpoint, two adapters, and what each of the three models writes."""

    def __init__(self, kind, folder, tokenizer_dir):
        torch.manual_seed(1)
        self.base = folder / "base"
        model = hf.AutoModelForCausalLM.from_config(CONFIGS[kind]).eval()
        model.save_pretrained(self.base)
        tokenizer = hf.AutoTokenizer.from_pretrained(tokenizer_dir)
        tokenizer.save_pretrained(self.base)
        conv = ("c_attn", "c_proj", "c_fc")
        self.paths = {"wide": folder / "wide", "narrow": folder / "narrow"}
        weights = {
            "wide": write_adapter(self.paths["wide"], model, conv if kind == "gpt2" else ALL),
            "narrow": write_adapter(
                self.paths["narrow"], model, ("c_attn",) if kind == "gpt2" else ("v_proj",),
                rank=2, alpha=9, seed=1, use_rslora=True,
            ),
        }  # fmt: skip
        self.expected = {None: greedy(model, tokenizer, PROMPTS)}
        self.model = model
        state = {k: v.clone() for k, v in model.state_dict().items()}
        for name, merged in weights.items():
            model.load_state_dict(merged)
            self.expected[name] = greedy(model, tokenizer, PROMPTS)
        model.load_state_dict(state)

    def engine(self, **options):
        engine = Engine(str(self.base), kv_tokens=1000, **options)
        for name, path in self.paths.items():
            engine.load_lora_adapter(name, path)
        return engine


@pytest.fixture(scope="module", params=list(CONFIGS))
def every(request, tmp_path_factory, model_dir):
    return Setup(request.param, tmp_path_factory.mktemp(request.param), model_dir)


@pytest.fixture(scope="module")
def setup(tmp_path_factory, model_dir):
    return Setup("native", tmp_path_factory.mktemp("lora"), model_dir)


@pytest.fixture
def engine(setup):
    with setup.engine() as engine:
        yield engine
        engine.check()


def test_greedy_equals_merged_weights(every):
    assert len({str(ids) for ids in every.expected.values()}) == 3
    with every.engine(chunk_tokens=5) as engine:
        for _ in ("cold", "warm"):
            for name, expected in every.expected.items():
                results = engine.generate(PROMPTS, GREEDY, lora_path=name)
                assert [r["output_ids"] for r in results] == expected
        engine.cache.flush()
        names = [name for name in every.expected for _ in PROMPTS]
        mixed = engine.generate(PROMPTS * 3, GREEDY, lora_path=names)
        expected = [ids for name in every.expected for ids in every.expected[name]]
        assert [r["output_ids"] for r in mixed] == expected
        engine.check()


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 2)), max_size=9))
def test_any_mix_in_one_batch(shared_engine, jobs):
    setup, engine = shared_engine
    requests = [engine.submit(PROMPTS[i], GREEDY, lora=name) for name, i in jobs]
    for (name, i), request in zip(jobs, requests, strict=True):
        assert request.result(60).output_ids == setup.expected[name][i]


@pytest.fixture(scope="module")
def shared_engine(setup):
    with setup.engine() as engine:
        yield setup, engine
        engine.check()


def test_each_adapter_has_its_own_namespace(engine, setup):
    def cached(**options):
        return engine.generate(PROMPTS[0], GREEDY, **options)["meta_info"]["cached_tokens"]

    whole = len(engine.tokenizer.encode(PROMPTS[0])) - 1
    assert [cached(), cached()] == [0, whole]
    assert [cached(lora_path="wide"), cached(lora_path="wide")] == [0, whole]
    assert [cached(lora_path="narrow"), cached()] == [0, whole]
    info = engine.lora_adapters()["wide"]
    assert engine.cache.match(PROMPTS[0], extra_key=info["extra_key"]).cached >= whole
    engine.unload_lora_adapter("wide")
    engine.load_lora_adapter("wide", setup.paths["narrow"])  # another adapter, the same name
    result = engine.generate(PROMPTS[0], GREEDY, lora_path="wide")
    assert result["meta_info"]["cached_tokens"] == 0
    assert result["output_ids"] == setup.expected["narrow"][0]
    engine.unload_lora_adapter("wide")
    engine.load_lora_adapter("wide", setup.paths["wide"])
    assert cached(lora_path="wide") == whole, "the first one's KV is still right"


def test_unloading_leaves_requests_in_progress_alone(engine, setup):
    long = {**GREEDY, "max_new_tokens": 60}
    request = engine.submit(PROMPTS[0], long, lora="wide")
    engine.unload_lora_adapter("wide")
    with pytest.raises(ValueError, match=r"lora: no adapter 'wide' .*loaded: 'narrow'"):
        engine.submit(PROMPTS[0], GREEDY, lora="wide")
    assert request.result(60).output_ids[:10] == setup.expected["wide"][0]
    assert request.lora is None
    with pytest.raises(ValueError, match="no adapter 'wide'"):
        engine.unload_lora_adapter("wide")


def test_retraction_keeps_the_adapter(setup):
    with Engine(str(setup.base), kv_tokens=64) as engine:
        engine.load_lora_adapter("wide", setup.paths["wide"])
        params = {**GREEDY, "max_new_tokens": 45}
        names = ["wide", None, "wide"]
        prompts = [PROMPTS[1], PROMPTS[2], PROMPTS[2]]
        results = engine.generate(prompts, params, lora_path=names)
        expected = [setup.expected["wide"][1], setup.expected[None][2], setup.expected["wide"][2]]
        assert [r["output_ids"][:10] for r in results] == expected
        engine.check()


def test_programs_take_adapters(setup, engine):
    import sglnb.language as sgl

    @sgl.function
    def program(s):
        s += PROMPTS[0] + sgl.gen("a", max_tokens=10, ignore_eos=True)

    @sgl.function
    def mixed(s):
        s += PROMPTS[0] + sgl.gen("a", max_tokens=10, ignore_eos=True, lora="narrow")

    def text(name):
        return engine.tokenizer.decode(setup.expected[name][0])

    for name in (None, "wide", "narrow"):
        options = {} if name is None else {"lora": name}
        assert program.run(backend=engine, temperature=0, **options)["a"] == text(name)
    assert mixed.run(backend=engine, temperature=0, lora="wide")["a"] == text("narrow")
    scores = []
    for options in ({}, {"lora": "wide"}):
        s = sgl.start_state(engine, defaults=options)
        s += "It is" + sgl.select("x", [" a cat", " a dog"])
        scores.append(s.get_meta_info("x")["normalized_prompt_logprobs"])
        sgl.finish_run(s)
    assert scores[0] != scores[1]
    with pytest.raises(sgl.GenerationError, match="no adapter 'none'"):
        program.run(backend=engine, lora="none")["a"]


# -- what is refused -----------------------------------------------------------------------


def test_mistakes_name_the_argument(setup, engine, tmp_path):
    def broken(name, change=None, tensors=None):
        folder = tmp_path / name
        write_adapter(folder, setup.model, ("q_proj",))
        file = folder / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **(change or {})}))
        if tensors is not None:
            path = folder / "adapter_model.safetensors"
            save_file(tensors(load_file(path)), path)
        return folder

    def without_b(tensors):
        return {k: v for k, v in tensors.items() if "layers.0" not in k or "lora_A" in k}

    def renamed(old, new):
        return lambda tensors: {k.replace(old, new): v for k, v in tensors.items()}

    to_head = renamed("model.layers.0.self_attn.q_proj", "lm_head")

    def with_tensor(name):
        return lambda tensors: {**tensors, name: torch.zeros(3)}

    def larger(tensors):
        return {k: torch.zeros(4, 64) if "lora_A" in k else v for k, v in tensors.items()}

    cases = [
        (tmp_path / "nothing", "no adapter at"),
        (broken("type", {"peft_type": "IA3"}), "of type 'IA3'"),
        (broken("dora", {"use_dora": True}), "uses DoRA"),
        (broken("save", {"modules_to_save": ["lm_head"]}), "modules_to_save"),
        (broken("bias", {"bias": "all"}), "trains biases"),
        (broken("alpha", {"alpha_pattern": {"q_proj": 3}}), "alpha_pattern"),
        (broken("nan", {"lora_alpha": None}), "lora_alpha must be a number"),
        (broken("half", tensors=without_b), "do not go together"),
        (
            broken("head", tensors=to_head),
            "'lm_head'",
        ),
        (broken("unknown", tensors=renamed("layers.1", "layers.77")), "'model.layers.77"),
        (broken("vector", tensors=with_tensor("x.lora_magnitude_vector")), "magnitude_vector"),
        (broken("shape", tensors=larger), "trained on another model"),
        (broken("empty", tensors=lambda t: {}), "holds no matrices"),
    ]
    for path, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            engine.load_lora_adapter("new", path)
        assert str(caught.value).startswith("lora_path: ")
    for content, message in ((b"junk", "cannot be read"), (None, "other formats are not read")):
        folder = broken(message[:5])
        file = folder / "adapter_model.safetensors"
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            engine.load_lora_adapter("new", folder)
    with pytest.raises(ValueError, match="'wide' is loaded already"):
        engine.load_lora_adapter("wide", setup.paths["wide"])
    with pytest.raises(ValueError, match="lora_name: must be"):
        engine.load_lora_adapter("", setup.paths["wide"])
    with pytest.raises(ValueError, match="lora_path: 1 given for 2 prompts"):
        engine.generate(["a", "b"], GREEDY, lora_path=["wide"])
    assert sorted(engine.lora_adapters()) == ["narrow", "wide"]
    assert engine.generate(PROMPTS[0], GREEDY)["output_ids"] == setup.expected[None][0]


def test_peft_reads_the_same_numbers(setup):
    """The oracle where it is installed."""
    peft = pytest.importorskip("peft")
    model = peft.PeftModel.from_pretrained(copy.deepcopy(setup.model), setup.paths["narrow"]).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(setup.base)
    assert greedy(model, tokenizer, PROMPTS) == setup.expected["narrow"]


def test_an_adapter_on_a_model_that_sees(tmp_path, model_dir):
    folder = build("qwen2-vl", tmp_path / "base", model_dir)
    reference = Reference("qwen2-vl", folder)
    prompt, image = f"See {reference.placeholder} there", picture(3)
    plain = reference.generate(prompt, [image])
    write_adapter(tmp_path / "eyes", reference.model, ("qkv",))
    merged = write_adapter(tmp_path / "words", reference.model, ("q_proj", "down_proj"))
    with Engine(str(folder), kv_tokens=500) as engine:
        engine.load_lora_adapter("words", tmp_path / "words")
        with pytest.raises(ValueError, match=r"changes 'model\.visual.*qkv'"):
            engine.load_lora_adapter("eyes", tmp_path / "eyes")
        results = [
            engine.generate(prompt, {**GREEDY, "max_new_tokens": 12}, image_data=image, **lora)
            for lora in ({}, {"lora_path": "words"})
        ]
        assert engine.metrics()["images_encoded"] == 1
        engine.check()
    reference.model.load_state_dict(merged)
    expected = [plain, reference.generate(prompt, [image])]
    assert [r["output_ids"] for r in results] == expected
    assert plain != expected[1]
