"""The engine on a GPU, beside what the GPU can do: one command, one table.

    python benchmarks/gpu.py [--shapes 0.5b,1b,8b] [--attention auto,flashinfer,triton]

Random checkpoints of real shapes in bfloat16, made on the device. Measured are

* decode: milliseconds a step as the engine takes them (scheduling and sampling with it), and those
  of the recorded step alone, beside the time that reading weights and KV once takes at the rate
  of a device-to-device copy;
* prefill: tokens/s of steps of 8,192 tokens, beside the FLOP at the rate of a large product;
* 32 forks behind 4,000 shared tokens, the prefix read once a step and 32 times: the step, and the
  attention's kernels in it;
* a JSON regex with and without jump-forward;
* 32 prompts behind 1,000 shared tokens, beside one batch in transformers' ``generate`` and its
  continuous batching (warm: its graphs are recorded and its manager is kept).
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from sglnb.events import StepRan
from sglnb.runtime import Engine
from sglnb.runtime import engine as engine_module
from sglnb.runtime.models import EMBEDDED, resolve_model
from sglnb.runtime.models.llama import LlamaModel
from sglnb.runtime.tokenizer import Tokenizer

SHAPES = {
    # model, hidden, inner, layers, query heads, key heads, head size, vocabulary, tied
    "0.5b": ("qwen2", 896, 4864, 24, 14, 2, 64, 151_936, True),
    "1b": ("llama", 2048, 8192, 16, 32, 8, 64, 128_256, True),
    "8b": ("llama", 4096, 14_336, 32, 32, 8, 128, 128_256, False),
}
"""Qwen2.5-0.5B, Llama-3.2-1B, Llama-3-8B."""

ITEM = r'\{"name": "[A-Z][a-z]{2,6}", "age": [1-9][0-9], "occupation": "(teacher|doctor)"\}'
BATCHES = (1, 8, 32, 128)
PROMPT, NEW = 512, 48


class Limits:
    """What this GPU does, measured: bytes/s of a copy (read and written), FLOP/s of a product."""

    def __init__(self) -> None:
        big = torch.empty(2**32, dtype=torch.uint8, device="cuda").random_()
        self.bytes_per_s = 2 * big.numel() / _timed(partial(torch.empty_like(big).copy_, big))
        a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda") for _ in range(2))
        self.flop_per_s = 2 * 8192**3 / _timed(partial(torch.matmul, a, b))


def _timed(what: Any, times: int = 10) -> float:
    """Seconds of one call on the device."""
    for _ in range(3):
        what()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        what()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / times


def checkpoint(shape: str) -> Any:
    """A random transformers model on the device."""
    kind, hidden, inner, layers, heads, kv_heads, size, vocab, tied = SHAPES[shape]
    config = AutoConfig.for_model(
        kind,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=size,
        vocab_size=vocab,
        max_position_embeddings=16_384,
        eos_token_id=2,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        hf = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return hf.eval().requires_grad_(False)


class Bench:
    """One shape's model and the table's rows about it."""

    def __init__(self, shape: str, limits: Limits):
        self.shape, self.limits, self.rows = shape, limits, []
        self._numbers = torch.Generator().manual_seed(0)
        self._generate(checkpoint(shape))
        gc.collect()
        torch.cuda.empty_cache()  # what continuous batching kept
        with torch.inference_mode():
            self.model = LlamaModel(checkpoint(shape))
        self.model.eos_ids = (2,)
        self.tokenizer = Tokenizer.from_pretrained(
            resolve_model(EMBEDDED), vocab_size=self.model.vocab_size, eos_ids=(2,)
        )
        linears = list(self.model.linears())
        self.weights = sum(linear.weight.numel() for linear in linears)
        self.inside = self.weights - linears[0].weight.numel()  # without the output layer
        engine_module.load_model = lambda *_, **__: (self.model, self.tokenizer)

    def engine(self, attention: str, **options: Any) -> Engine:
        """An engine on this model."""
        return Engine(self.shape, device="cuda", attention=attention, kv_tokens=150_000, **options)

    def ids(self, n: int) -> list[int]:
        """A prompt of ``n`` random tokens."""
        return torch.randint(10, 8000, (n,), generator=self._numbers).tolist()

    def add(self, what: str, measured: str, limit: str = "", share: float | None = None) -> None:
        """A row of the table."""
        shown = "" if share is None else f"{share:.0%}"
        self.rows.append((self.shape, what, measured, limit, shown))
        print("|", " | ".join(self.rows[-1]), "|", flush=True)

    # -- measurements ----------------------------------------------------------------------

    def decode(self, attention: str) -> None:
        """Milliseconds a step."""
        with self.engine(attention) as engine:
            for batch in BATCHES:
                step, replay = self._step(engine, [self.ids(PROMPT) for _ in range(batch)])
                positions = batch * (PROMPT + NEW / 2)
                moved = 2 * self.weights + positions * self.model.kv_bytes_per_token
                limit = 1e3 * moved / self.limits.bytes_per_s
                self.add(
                    f"decode, {attention}, batch {batch}",
                    f"{step:.2f} ms/step ({replay:.2f} recorded)",
                    f"{limit:.2f} ms",
                    limit / step,
                )

    def _step(self, engine: Engine, prompts: list[list[int]]) -> tuple[float, float]:
        """Median milliseconds of a decode step of all prompts, and of its graph alone."""
        seen = engine.events.since(0)[-1].seq + 1 if engine.events.since(0) else 0
        params = {"max_new_tokens": NEW, "temperature": 0, "ignore_eos": True}
        engine.generate(prompts, params)
        steps = [e for e in engine.events.since(seen) if isinstance(e, StepRan)]
        full = [e.seconds for e in steps if len(e.decode) == len(prompts) and not e.prefill]
        graph = _last_graph(engine)
        return 1e3 * statistics.median(full[3:]), 1e3 * engine.call(lambda: _timed(graph.replay))

    def prefill(self, attention: str) -> None:
        """Tokens/s of steps of 4 prompts of 2,048 tokens."""
        with self.engine(attention) as engine:
            seen = 0
            for _ in range(4):
                seen = engine.events.since(0)[-1].seq + 1 if engine.events.since(0) else 0
                prompts = [self.ids(2048) for _ in range(4)]
                engine.generate(prompts, {"max_new_tokens": 1, "temperature": 0})
            engine.metrics()  # the answer is there before its step is told of
            steps = [e for e in engine.events.since(seen) if isinstance(e, StepRan) and e.prefill]
            seconds = sum(e.seconds for e in steps)
            model = self.model
            pairs = 4 * 2048**2 / 2
            flop = 2 * self.inside * 8192 + 4 * pairs * model.layers * model.heads * model.head_dim
            limit = flop / self.limits.flop_per_s
            self.add(
                f"prefill, {attention}",
                f"{8192 / seconds:,.0f} tokens/s",
                f"{8192 / limit:,.0f} tokens/s",
                limit / seconds,
            )

    def forks(self, attention: str) -> None:
        """32 forks of a prefix of 4,000 tokens."""
        prefix = self.ids(4000)
        prompts = [[*prefix, 10 + i] for i in range(32)]
        steps = []
        for least in (1, 1 << 62):
            with self.engine(attention) as engine:
                engine._core.runner.attention.least = least
                engine.generate(prefix, {"max_new_tokens": 0})
                steps.append((*self._step(engine, prompts), self._attention_time(engine)))
        (step, replay, own), (plain, plain_replay, plain_own) = steps
        self.add(
            f"32 forks of 4,000 tokens, {attention}",
            f"{step:.2f} ms/step ({replay:.2f} recorded), {own:.2f} of it attention",
            f"without cascade {plain:.2f} ({plain_replay:.2f}), {plain_own:.2f}: "
            f"{plain_own / own:.1f}x",
        )

    def _attention_time(self, engine: Engine) -> float:
        """Milliseconds of the attention's kernels in the step that was recorded last."""
        graph = _last_graph(engine)

        def run() -> Any:
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                for _ in range(3):
                    graph.replay()
                torch.cuda.synchronize()
            return seen.key_averages()

        kernels = engine.call(run)
        return sum(k.device_time_total for k in kernels if _attends(k.key)) / 3e3

    def jump(self, attention: str) -> None:
        """A JSON regex, 32 at a time."""
        found = []
        with self.engine(attention) as engine:
            for jump in (True, False, True, False):
                engine.cache.flush()
                prompts = [self.ids(64) for _ in range(32)]
                params = {"max_new_tokens": 80, "regex": ITEM, "jump_forward": jump}
                began = time.monotonic()
                engine.generate(prompts, params)
                found.append(time.monotonic() - began)
        self.add(
            f"JSON regex, {attention}, 32 texts",
            f"{1e3 * found[2]:.0f} ms with jump-forward",
            f"{1e3 * found[3]:.0f} ms without",
        )

    def _generate(self, hf: Any) -> None:
        """transformers on the prompts of :meth:`shared_prefix`."""
        self.prefix = self.ids(1000)
        self.prompts = [self.prefix + self.ids(24) for _ in range(32)]
        batch = torch.tensor(self.prompts, device="cuda")
        options = {"do_sample": False, "max_new_tokens": NEW, "min_new_tokens": NEW}
        for _ in range(2):
            began = time.monotonic()
            with torch.inference_mode():
                hf.generate(batch, attention_mask=torch.ones_like(batch), **options)
            torch.cuda.synchronize()
            self.theirs = time.monotonic() - began
        options = GenerationConfig(
            max_new_tokens=NEW, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        for _ in range(2):
            began = time.monotonic()
            hf.generate_batch(self.prompts, generation_config=options, persistent_manager=True)
            torch.cuda.synchronize()
            self.continuous = time.monotonic() - began
        hf.destroy_cached_continuous_batching_manager()

    def shared_prefix(self, attention: str) -> None:
        """32 prompts behind one prefix, cold."""
        with self.engine(attention) as engine:
            params = {"max_new_tokens": NEW, "temperature": 0, "ignore_eos": True}
            for _ in range(2):
                engine.cache.flush()
                began = time.monotonic()
                engine.generate(self.prompts, params)
                ours = time.monotonic() - began
        self.add(
            f"32 prompts, 1,000 of 1,024 tokens shared, {NEW} new, {attention}",
            f"{1e3 * ours:.0f} ms",
            f"transformers generate {1e3 * self.theirs:.0f} ms, its continuous batching "
            f"{1e3 * self.continuous:.0f} ms",
        )


def _last_graph(engine: Engine) -> torch.cuda.CUDAGraph:
    """The decode step that was recorded last."""
    return next(reversed(engine._core.runner.graphs._graphs.values())).graph


def _attends(kernel: str) -> bool:
    names = "attend_kernel", "merge_kernel", "PagedKVCache", "MergeState", "plan_kernel"
    return any(name in kernel for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--attention", default="auto,flashinfer,triton")
    args = parser.parse_args()
    limits = Limits()
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}: copy "
        f"{limits.bytes_per_s / 1e12:.2f} TB/s, product {limits.flop_per_s / 1e12:.0f} TFLOP/s\n"
    )
    print("| shape | what | measured | limit, or the other way | share of the limit |")
    print("|---|---|---|---|---|")
    for shape in args.shapes.split(","):
        bench = Bench(shape, limits)
        for attention in args.attention.split(","):
            bench.decode(attention)
            bench.prefill(attention)
            bench.forks(attention)
            bench.jump(attention)
            bench.shared_prefix(attention)
        del bench
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
