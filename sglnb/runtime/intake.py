"""From what a caller asks to a request that can be run, or to an error that says why not.

Everything here happens on the caller's thread, while the engine works on other requests.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from typing import Any

from ..errors import ContextLengthError, EngineError
from ..events import ConstraintCompiled, ConstraintUsed, RequestArrived
from .arguments import number
from .compiling import Compiling, Prepared, Ready
from .constraints import Constraint, compile_constraint
from .constraints.budget import closer_for
from .constraints.choices import check_choices
from .constraints.graph import Graphs, to_record
from .constraints.types import type_name
from .core import RELEASED, EngineCore
from .image_prompt import ImagePrompts, PromptImages
from .lora_registry import LoraRegistry
from .report import Report
from .request import Request
from .sampling_params import SamplingParams

_MAX_SOURCE = 2_000
"""Characters of a constraint's source in an event."""
_MAX_EDGES = 1_000
"""Edges of an automaton that is told to the views: some 40 kB."""
_MAX_STATES = 20_000
"""States of an automaton that is drawn for the log: some tenths of a second."""
_MAX_USES = 1_000
"""Uses of constraints by runs that are remembered."""


class Intake:
    """Makes the requests of one engine.

    Args:
        core: of the engine.
        model_name: for errors.
        jump_forward, retokenize: what a request gets that does not say.
        loras: the engine's adapters.
    """

    def __init__(
        self,
        core: EngineCore,
        model_name: str,
        jump_forward: bool,
        retokenize: str,
        loras: LoraRegistry,
    ):
        self._core, self._model_name = core, model_name
        self.jump_forward, self._retokenize, self._loras = jump_forward, retokenize, loras
        self.temperature = 1.0
        """What a request gets that does not say."""
        self._tokenizer = core.tokenizer
        self.compiling = Compiling()
        self._prepared = Prepared()
        self._compiled: weakref.WeakSet[Constraint] = weakref.WeakSet()
        self._names: weakref.WeakKeyDictionary[Constraint, str] = weakref.WeakKeyDictionary()
        self._graphs: weakref.WeakKeyDictionary[Constraint, Any] = weakref.WeakKeyDictionary()
        self._uses: set[tuple[str, str]] = set()
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
        if params.tools is not None and params.tools.special(self._tokenizer.special_ids):
            params.skip_special_tokens = False  # what begins a call is a part of the text
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
        if any(given is not None for given in params.constraint.values()):
            source = self._constrain(request, params)
        if params.jump_forward is None:
            params.jump_forward = self.jump_forward
        if params.retokenize is None:
            params.retokenize = self._retokenize
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

    def _constrain(self, request: Request, params: SamplingParams) -> str:
        """Give ``request`` its constraint, or have it compiled; returns how it is told.

        Raises:
            ConstraintError: it cannot be used. One that takes long fails the request later.
        """
        (kind,) = (name for name, given in params.constraint.items() if given is not None)
        given = params.constraint[kind]
        given = tuple(given) if kind == "choices" else given
        layout = params.whitespace, params.lenient
        key = kind, given, *layout, params.on_budget, params.max_new_tokens
        may_be_cut = self._may_be_cut(params)

        def make() -> Ready:
            constraint = self._compile(params)
            self._use(constraint, request.run)
            closer = closer_for(constraint, params.max_new_tokens, params.on_budget, may_be_cut)
            self._prepared.add(key)
            return Ready(constraint, closer)

        if key in self._prepared:
            request.constrain(*make())
        else:
            future = self.compiling.start(make)
            if not future.done():
                request.compiling = future
                return _shortened(f"{kind}: {_source(kind, given)}")
            request.constrain(*future.result())
        return self._name(request.constraint)

    def _compile(self, params: SamplingParams) -> Constraint:
        constraint = compile_constraint(
            **params.constraint,
            whitespace=params.whitespace,
            lenient=params.lenient,
            tokenizer=self._tokenizer,
        )
        if constraint not in self._compiled:
            self._compiled.add(constraint)
            graph = _graph(constraint)
            self._core.events.emit(
                ConstraintCompiled(
                    source=self._name(constraint),
                    states=constraint.n_states,
                    compressed_states=None if graph is None else len(graph.compressed.nodes),
                    seconds=constraint.compile_ms / 1e3,
                )
            )
        return constraint

    def _name(self, constraint: Constraint) -> str:
        """The constraint for the log."""
        name = self._names.get(constraint)
        if name is None:
            name = _shortened(f"{constraint.kind}: {constraint.source}")
            self._names[constraint] = name
        return name

    def _use(self, constraint: Constraint, run: str) -> None:
        """Tell the views of ``run`` what the constraint looks like, once."""
        told = self._name(constraint)
        if not run or (run, told) in self._uses:
            return
        if len(self._uses) >= _MAX_USES:  # some are told of again: no harm
            self._uses.clear()
        self._uses.add((run, told))
        if constraint not in self._graphs:
            graphs = _graph(constraint)
            small = graphs is not None and len(graphs.compressed.edges) <= _MAX_EDGES
            self._graphs[constraint] = to_record(graphs.compressed) if small else None
        self._core.events.emit(
            ConstraintUsed(
                run=run,
                source=told,
                states=constraint.n_states,
                graph=self._graphs[constraint],
            )
        )

    def _may_be_cut(self, params: SamplingParams) -> bool:
        """Whether a stop may end the text before its constraint does, on purpose. Special tokens
        do not: no constraint writes them as text."""
        table = self._tokenizer.token_bytes
        return (
            bool(params.stop_regexes)
            or not self._tokenizer.special_ids.keys() >= set(params.stop_strings)
            or any(table[i] is not None for i in params.stop_token_ids or ())
        )

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


def _graph(constraint: Constraint) -> Graphs | None:
    """What to tell of; None for one that is too large, or that makes its states on demand: it
    would be told of before they are there."""
    small = constraint.n_states is not None and constraint.n_states <= _MAX_STATES
    return constraint.graph() if small else None


def _source(kind: str, given: Any) -> str:
    """What :attr:`Constraint.source` will be, as far as it can be told before it is compiled."""
    if kind == "choices":
        return json.dumps(check_choices(given), ensure_ascii=False)
    if kind in ("tools", "expression"):
        return given.source
    return type_name(given) if kind in ("type", "json_schema") else given


def _shortened(text: str) -> str:
    """A schema can be long. What tells two long ones apart stays."""
    if len(text) <= _MAX_SOURCE:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{text[: _MAX_SOURCE - 11]}… #{digest}"
