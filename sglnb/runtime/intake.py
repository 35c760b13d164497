"""From what a caller asks to a request that can be run, or to an error that says why not.

Everything here happens on the caller's thread, while the engine works on other requests.
"""

from __future__ import annotations

import weakref
from typing import Any

from ..errors import ContextLengthError, EngineError
from ..events import ConstraintCompiled, RequestArrived
from .arguments import number
from .constraints import Constraint, compile_constraint
from .core import RELEASED, EngineCore
from .image_prompt import ImagePrompts, PromptImages
from .lora_registry import LoraRegistry
from .report import Report
from .request import Request
from .sampling_params import SamplingParams


class Intake:
    """Makes the requests of one engine.

    Args:
        core: of the engine.
        model_name: for errors.
        jump_forward: what a request gets that does not say.
        loras: the engine's adapters.
    """

    def __init__(self, core: EngineCore, model_name: str, jump_forward: bool, loras: LoraRegistry):
        self._core, self._model_name = core, model_name
        self.jump_forward, self._loras = jump_forward, loras
        self.temperature = 1.0
        """What a request gets that does not say."""
        self._tokenizer = core.tokenizer
        self._compiled: weakref.WeakSet[Constraint] = weakref.WeakSet()
        self.context_length: int = core.runner.model.context_length
        self.look_at(core.runner.model)

    def look_at(self, model: Any) -> None:
        """Read images as ``model`` takes them; None: its weights are released."""
        self._images = ImagePrompts(model, self._core.image_keys, self._model_name)

    def request(
        self,
        prompt: str | list[int],
        params: SamplingParams | dict[str, Any] | None,
        *,
        image_data: Any,
        lora: str | None,
        extra_key: str,
        report: dict[str, Any],
        **labels: Any,
    ) -> tuple[Request, RequestArrived]:
        """A request and the event of its arrival; see :meth:`Engine.submit
        <sglnb.runtime.engine.Engine.submit>`."""
        params = self.sampling(params)
        adapter = self._loras.get(lora)
        if adapter is not None:
            extra_key = f"{extra_key}\n{adapter.extra_key}" if extra_key else adapter.extra_key
        ids, keys, images = self.read(prompt, image_data)
        self._check_prompt(ids, params)
        self._check_ids(params)
        request = Request(
            ids,
            params,
            extra_key=extra_key,
            keys=None if images is None else keys,
            images=images,
            lora=adapter,
            report=Report.of(report, len(ids), self._tokenizer.vocab_size),
            pieces=self._tokenizer.pieces,
            fresh=params.skip_special_tokens and self._tokenizer.shows_nothing(ids),
            **labels,
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
            run=request.run,
            state=request.state,
            name=request.name,
            purpose=request.purpose,
            ids=keys,
            pieces=self._core.image_keys.pieces(keys),
            constraint=source,
            max_new_tokens=params.max_new_tokens,
            priority=request.priority,
            extra_key=extra_key,
        )
        return request, arrived

    def sampling(self, params: SamplingParams | dict[str, Any] | None) -> SamplingParams:
        """A validated copy of ``params``; what it does not say is the engine's."""
        if not isinstance(params, SamplingParams):
            params = {"temperature": self.temperature, **(params or {})}
        return SamplingParams.of(params)

    def read(
        self, prompt: str | list[int], image_data: Any
    ) -> tuple[list[int], list[int], PromptImages | None]:
        """The prompt's ids, what the tree knows them by, and its images."""
        if image_data is not None and self._core.released:
            raise EngineError(RELEASED)
        ids = self._tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        return self._images.expand(ids, self._images.load(image_data))

    @property
    def image_text(self) -> str:
        """What a prompt holds in place of an image; "" when the model takes none."""
        return self._images.placeholder

    def _compile(self, params: SamplingParams) -> Constraint:
        constraint = compile_constraint(
            regex=params.regex, choices=params.choices, tokenizer=self._tokenizer
        )
        if constraint not in self._compiled:
            self._compiled.add(constraint)
            self._core.events.emit(
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
                number(name, i, 0, self._tokenizer.vocab_size - 1, whole=True)

    def _check_prompt(self, ids: list[int], params: SamplingParams) -> None:
        """Refuse a prompt that cannot be run; cut the output to what fits behind it."""
        if not ids:
            raise ValueError("prompt: must not be empty; append text before it")
        wrong = [i for i in ids if not 0 <= i < self._tokenizer.vocab_size]
        if wrong:
            raise ValueError(
                f"prompt: token id {wrong[0]} is outside 0..{self._tokenizer.vocab_size - 1}"
            )
        room = self.context_length - len(ids)
        if room < (1 if params.max_new_tokens else 0):
            raise ContextLengthError(
                f"prompt: {len(ids):,} tokens do not fit in the context of "
                f"{self.context_length:,} tokens of {self._model_name}; shorten it by at least "
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
