"""The engine: one thread that owns the model, the KV pool and the radix tree."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import EngineError
from ..events import EventLog, Preparing
from . import settings
from .arguments import at_least_one, one_of
from .attention.choose import BACKENDS, make_attention
from .cache import Cache
from .core import EngineCore
from .eviction import EVICTIONS
from .generate import generate
from .intake import Intake
from .lora import LoraWeights
from .lora_batch import Adapter
from .lora_registry import LoraRegistry
from .models import EMBEDDED, Model, load_model
from .policy import POLICIES
from .progress import Progress
from .request import Request
from .sampling_params import RETOKENIZE, SamplingParams
from .threads import most_threads
from .tokenizer import Tokenizer
from .worker import Worker

_numbers = itertools.count()
_living: weakref.WeakSet[Engine] = weakref.WeakSet()
"""To be listed only: engines share nothing."""


class Engine:
    """Runs requests on a model, many at a time, and keeps their KV for the next ones.

    All work happens on one background thread; every method may be called from any thread.

    Args:
        model: "sgl-tiny" (embedded, no download), a checkpoint folder, or a hub name.
        device: "auto", "cpu", "cuda", ...
        dtype: "auto": float32 on a CPU, which has no fast half precision, else the
            checkpoint's. Or "float32", "bfloat16", "float16"; or "int8": on a CPU the large
            layers of the Llama family keep their weights in one byte each, the rest is float32.
        attention: "flashinfer" (its kernels, half precision), "triton" (ours) or "torch";
            "auto" takes the first that is there and fits the model, and where both of the first
            two do, flashinfer for passes over prompts and triton for recorded decode steps.
        kv_tokens: capacity of the KV pool in tokens; default: from free memory.
        page_size: tokens that are cached together, 1 or 16. With 16 a prefix is reused in
            whole pages.
        policy: which waiting request is admitted first: "lpm" (longest cached prefix),
            "dfs-weight" (depth first through the cached tree), "fcfs" (first come), "lof"
            (longest output) or "random". Under each, those of a larger priority go first, and
            no one starves.
        eviction: what leaves the cache first: "lru" (least recently used), "lfu" (fewest
            hits), "fifo" (oldest), "mru", "priority" (lowest) or "cost" (cheapest to compute
            again).
        jump_forward: write text that a constraint forces without sampling it.
        retokenize: how jump-forward makes tokens of a certain text: "hold-back" writes those that
            no continuation can change, and takes nothing back; "rewind" is the SGLang paper's way,
            for comparison: text and certain text are tokenized again, and the KV is truncated to
            the tokens they have in common. It may replace the prompt's last tokens too.
        chunk_tokens: prompt tokens computed in one step at most.
        max_running: requests in one batch at most.
        cuda_graphs: on a GPU, record decode steps, and start each before the tokens of the last
            one are read.
        seed: of the draws of requests that bring no seed of their own.
        deterministic: the logits of a text are the same bit by bit, whatever else is in the
            batch and in the cache (float32 on a CPU, Llama family, no LoRA). It costs some speed.

    Raises:
        ValueError: an argument is out of range, or the model cannot be loaded.
    """

    def __init__(
        self,
        model: str = EMBEDDED,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        kv_tokens: int | None = None,
        page_size: int = 1,
        policy: str = "lpm",
        eviction: str = "lru",
        jump_forward: bool = True,
        retokenize: str = "hold-back",
        chunk_tokens: int | None = None,
        max_running: int | None = None,
        cuda_graphs: bool = True,
        seed: int | None = None,
        deterministic: bool = False,
    ):
        one_of("attention", attention, BACKENDS)
        if deterministic and attention != "auto":
            raise ValueError(
                f"attention: deterministic=True brings its own, got {attention!r}; use 'auto'"
            )
        one_of("retokenize", retokenize, RETOKENIZE)
        one_of("page_size", page_size, (1, 16))
        one_of("policy", policy, tuple(POLICIES))
        one_of("eviction", eviction, tuple(EVICTIONS))
        at_least_one("kv_tokens", kv_tokens)
        at_least_one("chunk_tokens", chunk_tokens)
        at_least_one("max_running", max_running)
        self.model_name = str(model)
        self.events = EventLog()
        self.deterministic = deterministic
        self._most_threads = most_threads()

        def load() -> tuple[Model, Tokenizer]:
            return load_model(model, device=device, dtype=dtype, deterministic=deterministic)

        self._load = load

        self._progress = progress = Progress(self.events.emit)

        def build() -> EngineCore:
            loaded, tokenizer = load()
            on_cpu = loaded.device.type == "cpu"
            return EngineCore(
                loaded,
                tokenizer,
                make_attention(
                    attention,
                    loaded.device,
                    loaded.dtype,
                    loaded.head_dim,
                    page_size,
                    loaded.kv_bytes_per_token // loaded.layers,
                    progress,
                    deterministic,
                ),
                self.events,
                kv_tokens=kv_tokens,
                page_size=page_size,
                policy=policy,
                eviction=eviction,
                chunk_tokens=chunk_tokens or (512 if on_cpu else 8192),
                max_running=max_running or (64 if on_cpu else 256),
                cuda_graphs=cuda_graphs,
                seed=seed,
                progress=progress,
            )

        self._worker = Worker(build, self._most_threads)
        self._core = self._worker.core
        self.tokenizer = self._core.tokenizer
        self._made_of = self._core.runner.made_of()
        self._loras = LoraRegistry(self._prepare_lora)
        self._intake = Intake(self._core, self.model_name, jump_forward, retokenize, self._loras)
        self.context_length = self._intake.context_length
        self.cache = Cache(self)
        self._number = next(_numbers)
        _living.add(self)
        # The thread must not be inside torch when the interpreter goes down.
        self_ref = weakref.ref(self)
        atexit.register(lambda: (engine := self_ref()) and engine.shutdown())

    # -- requests --------------------------------------------------------------------------

    def submit(
        self,
        prompt: str | list[int],
        params: SamplingParams | dict[str, Any] | None = None,
        *,
        image_data: Any = None,
        run: str = "",
        state: str = "",
        name: str = "",
        purpose: str = "gen",
        lora: str | None = None,
        extra_key: str = "",
        priority: int = 0,
        on_update: Callable[[Request], None] | None = None,
        **report: Any,
    ) -> Request:
        """Queue a generation and return at once.

        Args:
            prompt: text, or token ids.
            params: sampling parameters.
            image_data: an image or a list of them, one for each of the model's image placeholders
                in the prompt: paths, http(s) URLs, base64 text, bytes, ``PIL.Image`` or arrays.
            run, state, name, purpose: labels for the events.
            lora: name of the adapter to run with, see :meth:`load_lora_adapter`.
            extra_key: namespace in the cache: KV is shared only within one.
            priority: requests with a larger one are served first.
            on_update: called on the engine's thread when there is new text and at the end. It
                must be quick and must not raise.
            report: log-probabilities to report: return_logprob, logprob_start_len,
                top_logprobs_num, token_ids_logprob, return_text_in_logprobs, return_entropy
                (see :class:`~sglnb.runtime.report.Report`).

        Raises:
            ValueError: a parameter or an image is wrong (:class:`ConstraintError` for a regex or
                choices, :class:`ContextLengthError` for a prompt that does not fit). A constraint
                that takes longer than 50 ms to compile is compiled while this returns; what is
                wrong with it fails the request.
            EngineError: the engine was shut down.
        """
        request, arrived = self._intake.request(
            prompt,
            params,
            image_data=image_data,
            lora=lora,
            extra_key=extra_key,
            report=report,
            run=run,
            state=state,
            name=name,
            purpose=purpose,
            priority=priority,
            on_update=on_update,
            abort=self._abort_one,
        )

        def enqueue() -> None:
            self.events.emit(arrived)
            if request.compiling is None:
                self._core.add(request)
            else:
                self._wait_for_constraint(request, f"compiling {arrived.constraint[:100]}")

        self._worker.post(enqueue)
        return request

    def _wait_for_constraint(self, request: Request, what: str) -> None:
        """On the engine's thread: go on with ``request`` when its constraint is compiled."""
        began = time.monotonic()
        self._core.compiling.append(request)
        self.events.emit(Preparing(what=what, rid=request.rid))

        def go_on() -> None:
            if not request.done:
                seconds = time.monotonic() - began
                self.events.emit(Preparing(what=what, rid=request.rid, seconds=seconds))
                self._core.compiled(request)

        def compiled(_: object) -> None:
            """On a thread that compiles."""
            with contextlib.suppress(EngineError):  # shut down meanwhile, and the request with it
                self._worker.post(go_on)

        request.compiling.add_done_callback(compiled)

    def prompt_ids(self, prompt: str | list[int], image_data: Any = None) -> list[int]:
        """The tokens that :meth:`submit` would compute: each image's placeholder becomes as many
        as the image takes.

        Raises:
            ValueError: as :meth:`submit`.
        """
        return self._intake.read(prompt, image_data)[0]

    def prompt_keys(self, prompt: str | list[int], image_data: Any = None) -> list[int]:
        """What the radix tree knows a prompt by: :meth:`prompt_ids` with negative numbers, which
        tell one image from another, in place of the images' tokens."""
        return self._intake.read(prompt, image_data)[1]

    @property
    def image_text(self) -> str:
        """What a prompt holds in place of an image; "" when the model takes none."""
        return self._intake.image_text

    def generate(
        self,
        prompt: str | list[str] | list[int] | list[list[int]],
        sampling_params: dict[str, Any] | list[dict[str, Any]] | SamplingParams | None = None,
        *,
        image_data: Any = None,
        lora_path: str | list[str | None] | None = None,
        stream: bool = False,
        **options: Any,
    ) -> Any:
        """Generate and wait, as SGLang's ``Engine.generate``.

        Args:
            prompt: one prompt or a list of them, each a text or a list of ids.
            sampling_params: for all prompts, or a list with one for each.
            image_data: an image or a list of images; for a list of prompts a list with, for each
                prompt, None, an image or a list of images.
            lora_path: name of a loaded adapter; for a list of prompts one name for all, or a list
                with a name or None for each.
            stream: return an iterator instead of waiting.
            options: more for :meth:`submit`, such as return_logprob.

        Returns:
            A dict with ``text``, ``output_ids`` and ``meta_info`` for one prompt, a list of
            them for a list of prompts or for ``n`` over 1 (then the n texts of the first prompt,
            those of the second, ...). With ``stream=True`` an iterator of such dicts, each with
            the whole text so far and, where there are several texts, their ``index``.

        Raises:
            ValueError: see :meth:`submit`.
        """
        return generate(
            self,
            prompt,
            sampling_params,
            image_data=image_data,
            lora_path=lora_path,
            stream=stream,
            **options,
        )

    # -- adapters --------------------------------------------------------------------------

    def load_lora_adapter(self, lora_name: str, lora_path: str | Path) -> None:
        """Load a LoRA adapter in PEFT's format, for requests that name it. Its KV has a
        namespace of its own in the cache, which depends on its weights.

        Args:
            lora_name: what requests call it.
            lora_path: the folder with ``adapter_config.json`` and ``adapter_model.safetensors``.

        Raises:
            ValueError: the name is taken, or the adapter cannot be used with this model.
        """
        self._loras.load(lora_name, lora_path)

    def unload_lora_adapter(self, lora_name: str) -> None:
        """Forget an adapter. Requests in progress end with it; then its memory is free.

        Raises:
            ValueError: no such adapter is loaded.
        """
        self._loras.unload(lora_name)

    def lora_adapters(self) -> dict[str, dict[str, Any]]:
        """The loaded adapters by name: path, rank, bytes, and ``extra_key``, the namespace that
        ``cache.match`` and its like take."""
        return self._loras.table()

    def _prepare_lora(self, name: str, weights: LoraWeights) -> Adapter:
        def prepare() -> Adapter:
            if self.deterministic:
                raise ValueError(
                    "deterministic: an adapter's arithmetic depends on the batch; load adapters "
                    "in an engine with deterministic=False"
                )
            if self._core.runner.model is None:
                raise EngineError("the engine's weights are released; call resume() first")
            return Adapter(name, weights, self._core.runner.model)

        return self.call(prepare)

    def abort(self, rid: str | None = None, run: str | None = None) -> None:
        """Stop one request, all requests of a run, or (neither given) all."""

        def stop() -> None:
            for request in self._core.requests():
                if (rid is None or request.rid == rid) and (run is None or request.run == run):
                    self._core.abort(request)

        self._worker.post(stop)

    def _abort_one(self, request: Request) -> None:
        if not self.closed:  # a closed engine has ended all of its requests
            self._worker.post(lambda: self._core.abort(request))

    # -- inspection ------------------------------------------------------------------------

    def metrics(self) -> dict[str, Any]:
        """Counters since the start and the state of the queues and the pool. The counters are of
        finished requests; ``tokens_so_far`` are the tokens written, unfinished requests' too."""
        return self.call(self._core.metrics)

    def status(self) -> dict[str, Any]:
        """What the engine is made of, and :meth:`metrics`."""
        state = "closed" if self.closed else "released" if self._core.released else "ready"
        doing = self._progress.doing  # the engine's thread would answer only when it is done
        return {
            "model": self.model_name,
            "state": state,
            **self._made_of,
            "cuda_graphs": self._core.runner.flies,
            "deterministic": self.deterministic,
            "threads": self._most_threads,
            "context_length": self.context_length,
            **({"preparing": doing} if doing else {} if self.closed else self.metrics()),
        }

    def flush_cache(self) -> bool:
        """SGLang's name of ``cache.flush()``."""
        self.cache.flush()
        return True

    def get_server_info(self) -> dict[str, Any]:
        """SGLang's name of :meth:`status`."""
        return self.status()

    def check(self) -> None:
        """Prove that every KV slot and every lock is accounted for.

        Raises:
            RuntimeError: the books are wrong (an engine bug).
        """
        self.call(self._core.check)

    # -- settings --------------------------------------------------------------------------

    def configure(self, **changes: Any) -> dict[str, Any]:
        """Change settings of the running engine, from the next step on: all of them or none.

        Args:
            policy, eviction, jump_forward, chunk_tokens, max_running: as of :class:`Engine`. What
                waits is queued anew, what is cached is put in the new order of eviction.
            temperature: of requests that do not say; 1 at the start.

        Returns:
            The settings in force; without arguments nothing changes.

        Raises:
            ValueError: no such setting, or a value that is not possible.
        """
        settings.check(changes)
        core, intake = self._core, self._intake

        def change() -> dict[str, Any]:
            settings.apply(core, intake, changes)
            return settings.current(core, intake)

        return self.call(change)

    # -- memory ----------------------------------------------------------------------------

    def resize(self, kv_tokens: int) -> None:
        """Change the KV pool's capacity between runs. What is cached stays, as far as it fits.

        Raises:
            ValueError: more than ``kv_tokens`` are pinned.
            EngineError: requests are in progress.
        """
        at_least_one("kv_tokens", kv_tokens)
        self.call(lambda: self._core.resize(kv_tokens))

    def release(self, *, weights: bool = True, kv: bool = True) -> None:
        """Give the memory of the weights and of the KV pool back until :meth:`resume`;
        requests fail meanwhile. With ``kv`` the cache is emptied and its pins are gone. The
        tokenizer, the metrics and the event log stay.

        Raises:
            EngineError: requests are in progress.
        """
        self.call(lambda: self._core.release(weights=weights, kv=kv))
        if weights:
            self._intake.look_at(None)

    def resume(self) -> None:
        """Undo :meth:`release`: load the weights again, take the KV memory again."""
        self.call(lambda: self._core.resume(lambda: self._load()[0]))
        self._intake.look_at(self._core.runner.model)

    # -- life ------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the engine was shut down."""
        return self._worker.closed

    def call(self, what: Callable[[], Any], timeout: float | None = None) -> Any:
        """Run ``what`` on the engine's thread, between two steps, and return its result."""
        return self._worker.call(what, timeout)

    def shutdown(self) -> None:
        """Stop the thread and free the model and the pool. Requests in progress fail."""
        self._intake.compiling.shutdown()
        self._worker.shutdown()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        how = "closed" if self.closed else self._made_of["device"]
        return f"Engine({self.model_name!r}, {how})"


def open_engines() -> list[Engine]:
    """The engines of this process that were not shut down, oldest first."""
    return sorted((e for e in list(_living) if not e.closed), key=lambda e: e._number)
