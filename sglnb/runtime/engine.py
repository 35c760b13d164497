"""The engine: one thread that owns the model, the KV pool and the radix tree."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch

from ..errors import ContextLengthError, EngineError
from ..events import ConstraintCompiled, EventLog, RequestArrived
from .arguments import at_least_one, number, one_of
from .attention import DeterministicAttention
from .attention.choose import BACKENDS, make_attention
from .cache import Cache
from .constraints import Constraint, compile_constraint
from .core import RELEASED, EngineCore
from .eviction import EVICTIONS
from .generate import generate
from .image_prompt import ImagePrompts, PromptImages
from .lora import LoraWeights
from .lora_batch import Adapter
from .lora_registry import LoraRegistry
from .models import EMBEDDED, Model, load_model
from .policy import POLICIES
from .progress import Progress
from .report import Report
from .request import Request
from .sampling_params import SamplingParams
from .threads import ThreadGovernor, most_threads, short_switches
from .tokenizer import Tokenizer


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
            "auto" takes the first that is there and fits the model.
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
        chunk_tokens: prompt tokens computed in one step at most.
        max_running: requests in one batch at most.
        cuda_graphs: on a GPU, record decode steps and start them at once.
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
        chunk_tokens: int | None = None,
        max_running: int | None = None,
        cuda_graphs: bool = True,
        seed: int | None = None,
        deterministic: bool = False,
    ):
        one_of("attention", attention, BACKENDS)
        one_of("page_size", page_size, (1, 16))
        one_of("policy", policy, tuple(POLICIES))
        one_of("eviction", eviction, tuple(EVICTIONS))
        at_least_one("kv_tokens", kv_tokens)
        at_least_one("chunk_tokens", chunk_tokens)
        at_least_one("max_running", max_running)
        self.model_name = str(model)
        self.events = EventLog()
        self._compiled: weakref.WeakSet[Constraint] = weakref.WeakSet()
        self.jump_forward = jump_forward
        self.deterministic = deterministic
        self._most_threads = most_threads()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self.closed = False

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
                DeterministicAttention(loaded.device)
                if deterministic
                else make_attention(
                    attention, loaded.device, loaded.dtype, loaded.head_dim, page_size, progress
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

        ready: Future[EngineCore] = Future()
        self._thread = threading.Thread(
            target=self._loop, args=(build, ready), name="sglnb-engine", daemon=True
        )
        self._thread.start()
        self._core = ready.result()
        self.tokenizer = self._core.tokenizer
        self.context_length: int = self._core.model.context_length
        self._images = self._see()
        self._made_of = self._core.made_of()
        self._loras = LoraRegistry(self._prepare_lora)
        self.cache = Cache(self)
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
                choices, :class:`ContextLengthError` for a prompt that does not fit).
            EngineError: the engine was shut down.
        """
        params = SamplingParams.of(params)
        adapter = self._loras.get(lora)
        if adapter is not None:
            extra_key = f"{extra_key}\n{adapter.extra_key}" if extra_key else adapter.extra_key
        ids, keys, images = self._read(prompt, image_data)
        self._check_prompt(ids, params)
        self._check_ids(params)
        request = Request(
            ids,
            params,
            run=run,
            state=state,
            name=name,
            purpose=purpose,
            extra_key=extra_key,
            priority=priority,
            keys=None if images is None else keys,
            images=images,
            lora=adapter,
            report=Report.of(report, len(ids), self.tokenizer.vocab_size),
            pieces=self.tokenizer.pieces,
            fresh=params.skip_special_tokens and self.tokenizer.shows_nothing(ids),
            on_update=on_update,
            abort=self._abort_one,
        )
        source = ""
        if params.regex is not None or params.choices is not None:
            constraint = self._compile(params)
            request.cursor = constraint.start()
            source = f"{constraint.kind}: {constraint.source}"
        if params.jump_forward is None:
            params.jump_forward = self.jump_forward
        if request.seed is None:
            request.seed = self._core.draw_seed()
        arrived = RequestArrived(
            rid=request.rid,
            run=run,
            state=state,
            name=name,
            purpose=purpose,
            ids=keys,
            pieces=self._core.image_keys.pieces(keys),
            constraint=source,
            max_new_tokens=params.max_new_tokens,
            priority=priority,
            extra_key=extra_key,
        )

        def enqueue() -> None:
            self.events.emit(arrived)
            self._core.add(request)

        self._post(enqueue)
        return request

    def _read(
        self, prompt: str | list[int], image_data: Any
    ) -> tuple[list[int], list[int], PromptImages | None]:
        """The prompt's ids, what the tree knows them by, and its images."""
        if image_data and self._core.released:
            raise EngineError(RELEASED)
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        return self._images.expand(ids, self._images.load(image_data))

    def _see(self) -> ImagePrompts:
        return ImagePrompts(self._core.model, self._core.image_keys, self.model_name)

    def prompt_ids(self, prompt: str | list[int], image_data: Any = None) -> list[int]:
        """The tokens that :meth:`submit` would compute: each image's placeholder becomes as many
        as the image takes.

        Raises:
            ValueError: as :meth:`submit`.
        """
        return self._read(prompt, image_data)[0]

    def prompt_keys(self, prompt: str | list[int], image_data: Any = None) -> list[int]:
        """What the radix tree knows a prompt by: :meth:`prompt_ids` with negative numbers, which
        tell one image from another, in place of the images' tokens."""
        return self._read(prompt, image_data)[1]

    @property
    def image_text(self) -> str:
        """What a prompt holds in place of an image; "" when the model takes none."""
        return self._images.placeholder

    def _compile(self, params: SamplingParams) -> Constraint:
        """The request's constraint, built on the caller's thread; others go on meanwhile."""
        constraint = compile_constraint(
            regex=params.regex, choices=params.choices, tokenizer=self.tokenizer
        )
        if constraint not in self._compiled:
            self._compiled.add(constraint)
            self.events.emit(
                ConstraintCompiled(
                    source=f"{constraint.kind}: {constraint.source}",
                    states=constraint.n_states,
                    compressed_states=len(constraint.graph().compressed.nodes),
                    seconds=constraint.compile_ms / 1e3,
                )
            )
        return constraint

    def _check_ids(self, params: SamplingParams) -> None:
        """Refuse parameters that name a token which does not exist, and several texts."""
        if params.n != 1:
            raise ValueError(
                f"n: submit makes one request, got n={params.n}; engine.generate takes n, and a "
                "program has s.fork(n)"
            )
        for name in ("stop_token_ids", "logit_bias"):
            for i in getattr(params, name) or ():
                number(name, i, 0, self.tokenizer.vocab_size - 1, whole=True)

    def _check_prompt(self, ids: list[int], params: SamplingParams) -> None:
        """Refuse a prompt that cannot be run; cut the output to what fits behind it."""
        if not ids:
            raise ValueError("prompt: must not be empty; append text before it")
        wrong = [i for i in ids if not 0 <= i < self.tokenizer.vocab_size]
        if wrong:
            raise ValueError(
                f"prompt: token id {wrong[0]} is outside 0..{self.tokenizer.vocab_size - 1}"
            )
        room = self.context_length - len(ids)
        if room < (1 if params.max_new_tokens else 0):
            raise ContextLengthError(
                f"prompt: {len(ids):,} tokens do not fit in the context of "
                f"{self.context_length:,} tokens of {self.model_name}; shorten it by at least "
                f"{1 - room:,}"
            )
        slots = self._core.memory.pool.total
        if len(ids) > slots:
            raise ContextLengthError(
                f"prompt: {len(ids):,} tokens do not fit in the KV pool of {slots:,}; shorten "
                "it or give the engine more kv_tokens"
            )
        params.max_new_tokens = min(params.max_new_tokens, room)
        params.min_new_tokens = min(params.min_new_tokens, params.max_new_tokens)

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
            if self._core.model is None:
                raise EngineError("the engine's weights are released; call resume() first")
            return Adapter(name, weights, self._core.model)

        return self.call(prepare)

    def abort(self, rid: str | None = None, run: str | None = None) -> None:
        """Stop one request, all requests of a run, or (neither given) all."""

        def stop() -> None:
            for request in self._core.requests():
                if (rid is None or request.rid == rid) and (run is None or request.run == run):
                    self._core.abort(request)

        self._post(stop)

    def _abort_one(self, request: Request) -> None:
        if not self.closed:  # a closed engine has ended all of its requests
            self._post(lambda: self._core.abort(request))

    # -- inspection ------------------------------------------------------------------------

    def metrics(self) -> dict[str, Any]:
        """Counters since the start and the state of the queues and the pool."""
        return self.call(self._core.metrics)

    def status(self) -> dict[str, Any]:
        """What the engine is made of, and :meth:`metrics`."""
        state = "closed" if self.closed else "released" if self._core.released else "ready"
        doing = self._progress.doing  # the engine's thread would answer only when it is done
        return {
            "model": self.model_name,
            "state": state,
            **self._made_of,
            "deterministic": self.deterministic,
            "threads": self._most_threads,
            "context_length": self.context_length,
            **({"preparing": doing} if doing else {} if self.closed else self.metrics()),
        }

    def check(self) -> None:
        """Prove that every KV slot and every lock is accounted for.

        Raises:
            RuntimeError: the books are wrong (an engine bug).
        """
        self.call(self._core.check)

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
            self._images.model = None

    def resume(self) -> None:
        """Undo :meth:`release`: load the weights again, take the KV memory again."""
        self.call(lambda: self._core.resume(lambda: self._load()[0]))
        self._images = self._see()

    # -- life ------------------------------------------------------------------------------

    def call(self, what: Callable[[], Any], timeout: float | None = None) -> Any:
        """Run ``what`` on the engine's thread, between two steps, and return its result."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(what())
            except BaseException as error:  # carried to the caller
                future.set_exception(error)

        if threading.current_thread() is self._thread:
            return what()
        self._post(run)
        return future.result(timeout)

    def shutdown(self) -> None:
        """Stop the thread and free the model and the pool. Requests in progress fail."""
        with self._closing:
            if self.closed:
                return
            self.closed = True
            self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        how = "closed" if self.closed else self._made_of["device"]
        return f"Engine({self.model_name!r}, {how})"

    def _post(self, command: Callable[[], None]) -> None:
        with self._closing:
            if self.closed:
                raise EngineError("the engine was shut down; make a new one with sgl.Engine()")
            self._inbox.put(command)

    def _loop(self, build: Callable[[], EngineCore], ready: Future[EngineCore]) -> None:
        """The engine's thread. It also loads the model: OpenMP keeps workers for each thread
        that computes, and more workers than cores wait less well (see :mod:`.threads`)."""
        with torch.inference_mode():
            try:
                torch.set_num_threads(self._most_threads)
                core = build()
                governor = ThreadGovernor(self._most_threads)
            except BaseException as error:  # carried to the caller
                ready.set_exception(error)
                return
            ready.set_result(core)
            failure = EngineError("the engine was shut down")
            try:
                while (command := self._inbox.get()) is not None:
                    command()
                    if not core.idle and not self._work(core, governor):
                        break
            except BaseException as error:  # our own mistake: nobody may wait for ever
                failure = EngineError(f"the engine's thread died: {type(error).__name__}: {error}")
                failure.__cause__ = error
                with self._closing:
                    self.closed = True
                while not self._inbox.empty():
                    command = self._inbox.get()
                    if command is not None:
                        command()
            core.close(failure)

    def _work(self, core: EngineCore, governor: ThreadGovernor) -> bool:
        """Step until there is nothing to do; False: shut down meanwhile."""
        with short_switches():
            while not core.idle:
                governor.adjust()
                core.step()
                while not self._inbox.empty():
                    command = self._inbox.get()
                    if command is None:
                        return False
                    command()
        return True
