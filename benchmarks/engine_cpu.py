"""One engine against another on a CPU: prefill and decode at several batch sizes, and the limit.

    python benchmarks/engine_cpu.py [--models sgl-tiny qwen2-0.5b] [--batches 1 8 32] [--busy]

Each side runs in a process of its own on the same weights (float32), threads and token ids, and
must give the same greedy tokens. ``qwen2-0.5b`` is a random checkpoint of Qwen2-0.5B's shape,
made in a temporary folder. ``llama.cpp`` takes part when llama-cpp-python and gguf are installed.

The limit of a decode step is the time to read the weights once, or to do the arithmetic of the
batch, whichever is longer; both rates are measured in the same run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TINY = Path(__file__).resolve().parents[1] / "sglnb" / "assets" / "sgl-tiny"
MODELS = ("sgl-tiny", "qwen2-0.5b")
SIDES = ("sglnb", "transformers", "llama.cpp")
PROMPT = 32
"""Prompt tokens before the decode that is timed."""


def prompts(batch: int, length: int) -> list[list[int]]:
    """Token ids that share no prefix."""
    return [[5 + (i * 131 + at * 7) % 4000 for at in range(length)] for i in range(batch)]


def timed(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(generate, args, before_prefill=lambda: None) -> dict:
    """Seconds of a decode step per batch size, seconds of a prefill, and the first tokens.

    Args:
        generate: (prompts, new tokens) -> ids of each prompt's continuation.
    """
    out: dict = {"decode": {}}
    for batch in args.batches:
        some = prompts(batch, PROMPT)
        tokens = generate(some, args.new + 1)  # a cache holds the prompts from here on
        first = timed(lambda some=some: generate(some, 1))
        rest = timed(lambda some=some: generate(some, args.new + 1))
        out["decode"][batch] = (rest - first) / args.new
        out.setdefault("tokens", tokens[0])
    before_prefill()
    out["prefill"] = timed(lambda: generate(prompts(1, args.prefill), 1))
    return out


# -- the sides: each gives {"prefill": s, "decode": {batch: s a step}, "tokens": first prompt's} --


def run_sglnb(model: str, args) -> dict:
    from sglnb.runtime import Engine
    from sglnb.runtime import engine as module

    module.most_threads = lambda: args.threads
    with Engine(model, dtype="float32", kv_tokens=8192) as engine:

        def generate(batch, new):
            params = {"temperature": 0, "max_new_tokens": new, "ignore_eos": True}
            return [r["output_ids"] for r in engine.generate(batch, params)]

        result = measure(generate, args, before_prefill=engine.cache.flush)
        engine.check()
    return result


def run_transformers(model: str, args) -> dict:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(args.threads)
    hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    hf.generation_config.eos_token_id = None

    def generate(batch, new):
        ids = torch.tensor(batch)
        options = {"do_sample": False, "max_new_tokens": new, "pad_token_id": 0}
        out = hf.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        return out[:, ids.shape[1] :].tolist()

    return measure(generate, args)


def run_llama_cpp(model: str, args) -> dict:
    import llama_cpp as lc
    import numpy as np

    lc.llama_backend_init()
    path = to_gguf(model)
    mp = lc.llama_model_default_params()
    handle = lc.llama_model_load_from_file(path.encode(), mp)
    cp = lc.llama_context_default_params()
    cp.n_seq_max = max(args.batches)
    cp.n_ctx = cp.n_seq_max * (max(args.prefill, PROMPT + args.new) + 8)  # split evenly
    cp.n_batch, cp.n_ubatch = 2048, 512
    cp.n_threads = cp.n_threads_batch = args.threads
    cp.type_k = cp.type_v = 0  # float32, as the others
    context = lc.llama_init_from_model(handle, cp)
    vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(handle))
    memory = lc.llama_get_memory(context)
    batch_ = lc.llama_batch_init(2048, 0, 1)

    def decode(rows: list[tuple[int, int, int, bool]]) -> None:
        """One pass over (token, position, sequence, wanted) rows."""
        batch_.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch_.token[i], batch_.pos[i] = token, position
            batch_.n_seq_id[i], batch_.seq_id[i][0] = 1, sequence
            batch_.logits[i] = wanted
        if lc.llama_decode(context, batch_):
            raise RuntimeError("llama_decode failed")

    def best(i: int) -> int:
        logits = lc.llama_get_logits_ith(context, i)
        return int(np.ctypeslib.as_array(logits, shape=(vocab,)).argmax())

    def generate(batch, new):
        lc.llama_memory_clear(memory, True)
        length, last = len(batch[0]), []
        for s, ids in enumerate(batch):  # a prompt a pass: the timed part is what comes behind
            decode([(token, p, s, p == length - 1) for p, token in enumerate(ids)])
            last.append(best(length - 1))
        out = [[token] for token in last]
        for step in range(new - 1):
            decode([(token, length + step, s, True) for s, token in enumerate(last)])
            last = [best(s) for s in range(len(batch))]
            for ids, token in zip(out, last, strict=True):
                ids.append(token)
        return out

    return measure(generate, args)


def to_gguf(model: str) -> str:
    """The checkpoint as a float32 GGUF file without a vocabulary, beside it or in /tmp."""
    import gguf
    from safetensors.torch import load_file

    config = json.loads((Path(model) / "config.json").read_text())
    kind = config["model_type"]
    path = Path(tempfile.gettempdir()) / f"sglnb-bench-{Path(model).name}.gguf"
    writer = gguf.GGUFWriter(path, {"qwen2": "qwen2", "llama": "llama", "qwen3": "qwen3"}[kind])
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    kv_heads = config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or config
    writer.add_block_count(layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(0)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind.upper()], layers)

    def interleave(weight, n):
        """Rotary pairs as neighbours, as llama.cpp wants them for Llama."""
        return (
            weight.reshape(n, 2, weight.shape[0] // n // 2, -1).swapaxes(1, 2).reshape(weight.shape)
        )

    for file in sorted(Path(model).glob("*.safetensors")):
        for name, value in load_file(file).items():
            value = value.float().numpy()
            if kind == "llama" and "q_proj" in name:
                value = interleave(value, heads)
            if kind == "llama" and "k_proj" in name:
                value = interleave(value, kv_heads)
            writer.add_tensor(names.get_name(name, (".weight", ".bias")), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


RUN = {"sglnb": run_sglnb, "transformers": run_transformers, "llama.cpp": run_llama_cpp}


# -- the models and the limit -----------------------------------------------------------------


def make_qwen(folder: str) -> str:
    """A random checkpoint of Qwen2-0.5B's shape, with the embedded model's tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

    config = Qwen2Config(
        vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32_768,
        tie_word_embeddings=True, eos_token_id=2, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    with torch.no_grad():  # ids that the tokenizer lacks, which our engine never writes, score 0
        model.get_input_embeddings().weight[len(tokenizer) :] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def measure_limit(model: str, args) -> dict:
    """Bytes of the weights a token reads, and this machine's rates."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(args.threads)
    hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    # Each weight matrix is read once a step; of the input embedding only the rows looked up.
    matrices = sum(p.numel() for n, p in hf.named_parameters() if "embed_tokens" not in n)
    if hf.config.tie_word_embeddings:
        matrices += hf.get_input_embeddings().weight.numel()
    del hf
    block = torch.ones(128 * 2**20)
    read = min(timed(block.sum) for _ in range(5))
    a, b = torch.randn(1024, 2048), torch.randn(2048, 2048)
    multiply = min(timed(lambda: a @ b) for _ in range(5))
    return {
        "bytes": matrices * 4,
        "bandwidth": block.nbytes / read,
        "flops": 2 * 1024 * 2048 * 2048 / multiply,
    }


def limit_seconds(limit: dict, tokens: int) -> float:
    """The least time of a pass over ``tokens`` tokens."""
    return max(limit["bytes"] / limit["bandwidth"], tokens * limit["bytes"] / 2 / limit["flops"])


def burn() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--new", type=int, default=16, help="decode steps that are timed")
    parser.add_argument("--prefill", type=int, default=512, help="tokens of the prefill")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--busy", action="store_true", help="keep one core busy meanwhile")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        run = measure_limit if args.side == "limit" else RUN[args.side]
        json.dump(run(args.path, args), sys.stdout)
        return
    sides = ["limit", *SIDES]
    if not all(importlib.util.find_spec(name) for name in ("llama_cpp", "gguf")):
        sides.remove("llama.cpp")
        print("llama.cpp is left out: pip install llama-cpp-python gguf", file=sys.stderr)
    neighbour = multiprocessing.Process(target=burn, daemon=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            path = str(TINY) if name == "sgl-tiny" else make_qwen(f"{folder}/{name}")
            if args.busy and not neighbour.is_alive():
                neighbour.start()
            results = {}
            for side in sides:
                print(f"  running: {name}, {side} ...", end="\r", file=sys.stderr)
                extra = ["--side", side, "--path", path]
                command = [sys.executable, __file__, *sys.argv[1:], *extra]
                environment = os.environ | {"TQDM_DISABLE": "1"}
                done = subprocess.run(
                    command, stdout=subprocess.PIPE, text=True, check=True, env=environment
                )
                results[side] = json.loads(done.stdout)
            report(name, results, args)
    if args.busy:
        neighbour.kill()


def report(name: str, results: dict, args) -> None:
    limit = results.pop("limit")
    gb, gflops = limit["bandwidth"] / 1e9, limit["flops"] / 1e9
    print(
        f"{name}, float32, {limit['bytes'] / 1e6:,.0f} MB of weights a step, {args.threads} "
        f"threads{', one core kept busy' if args.busy else ''}; this machine reads {gb:.1f} GB/s "
        f"and does {gflops:.0f} GFLOP/s"
    )
    sizes = [f"decode x{batch}" for batch in args.batches]
    print(" " * 14 + "".join(f"{c:>18}" for c in (*sizes, f"prefill {args.prefill}")))
    best = [batch / limit_seconds(limit, batch) for batch in args.batches]
    best.append(args.prefill / limit_seconds(limit, args.prefill))
    print(f"{'limit':14}" + "".join(f"{rate:12.1f} tok/s" for rate in best))
    ours = None
    for side, result in results.items():
        rates = [batch / result["decode"][str(batch)] for batch in args.batches]
        rates.append(args.prefill / result["prefill"])
        ours = ours or rates
        cells = [f"{r:.1f} ({r / b:.0%})" for r, b in zip(rates, best, strict=True)]
        print(f"{side:14}" + "".join(f"{cell:>18}" for cell in cells))
        if side != "sglnb":
            ratios = [f"ours {a / b:.2f}x" for a, b in zip(ours, rates, strict=True)]
            print(" " * 14 + "".join(f"{ratio:>18}" for ratio in ratios))
            same = result["tokens"] == results["sglnb"]["tokens"]
            print(" " * 14 + f"greedy tokens {'equal' if same else 'DIFFER from'} ours")
    print()


if __name__ == "__main__":
    main()
