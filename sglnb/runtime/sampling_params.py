"""What a request asks of the sampler. Names and defaults are SGLang's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from .arguments import number, one_of
from .constraints.budget import ON_BUDGET
from .constraints.compiler import KINDS, only_one, schema_source
from .constraints.expressions import expression_spec
from .constraints.grammar import read_grammar
from .constraints.schema import prepare
from .constraints.tools import tool_set
from .stop_regex import StopRegexes

RETOKENIZE = ("hold-back", "rewind")
"""How jump-forward makes tokens of text; the default first."""

_REFUSED = {
    "structural_tag": "not possible yet; use grammar or json_schema",
    "custom_params": "not needed; let the custom_logit_processor bring its own values",
    "stream_interval": "not needed; a stream skips ahead when it is read late",
}
"""Names that SGLang knows and this engine does not, and what to do instead."""


@dataclass(slots=True)
class SamplingParams:
    """Sampling parameters of one generation.

    In this order: what the constraint forbids, penalties, ``logit_bias``,
    ``custom_logit_processor``; then the likeliest token (greedy), or temperature, ``top_k``,
    ``top_p``, ``min_p`` and a draw. Log-probabilities are those before all of it.
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    """The end of the text is forbidden before; a constraint that must end comes first."""
    temperature: float = 1.0
    """Under 1e-6: greedy."""
    top_p: float = 1.0
    top_k: int = -1
    """-1: all tokens."""
    min_p: float = 0.0
    """Least probability, as a share of the likeliest token's."""
    frequency_penalty: float = 0.0
    """-2 to 2, taken from a token's logit for each time it is in the output."""
    presence_penalty: float = 0.0
    """-2 to 2, taken once from the logit of a token that is in the output."""
    repetition_penalty: float = 1.0
    """Over 0 up to 2: logits of tokens in prompt or output are divided by it, negative ones
    multiplied."""
    logit_bias: dict[int | str, float] | None = None
    """Added to the logits of these token ids; -1e9 forbids one."""
    seed: int | None = None
    """Makes the text a function of prompt and seed alone, whatever else runs in the batch; each
    request without one draws its own. The draw depends on (seed, position, token), so two texts
    drawn with one seed from one prompt are the same text. SGLang's name is ``sampling_seed``."""
    n: int = 1
    """Texts to write for one prompt (``generate`` only), each with a seed that follows from
    ``seed``; the first one's is ``seed`` itself."""
    stop: str | list[str] | tuple[str, ...] | None = None
    stop_token_ids: list[int] | tuple[int, ...] | None = None
    stop_regex: str | list[str] | tuple[str, ...] | None = None
    """The text ends as soon as a part of it matches; of what ``regex`` may hold."""
    no_stop_trim: bool = False
    """Leave on the text what ended it: stop string, match, or stop token."""
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    """Leave special tokens out of the text."""
    spaces_between_special_tokens: bool = True
    """Accepted for SGLang's sake: fast tokenizers put no spaces there, whatever it says."""
    regex: str | None = None
    choices: list[str] | tuple[str, ...] | None = None
    json_schema: Any = None
    """JSON, a dict, or a type as for ``type``. For this and what follows up to ``scope`` see
    :func:`~sglnb.runtime.constraints.compile_constraint`; a text has one constraint."""
    type: Any = None
    """A Python type; the text is its JSON."""
    grammar: str | None = None
    """Lark or EBNF."""
    ebnf: str | None = None
    tools: Any = None
    """Functions; the text is a call of one. Checked parameters hold them as one object, with
    the next three in it."""
    tool_style: str | None = None
    """``json`` or ``python``."""
    when: str | list[str] | tuple[str, ...] | None = None
    """What begins a call; without it the text is calls alone."""
    max_calls: int | None = None
    expression: Any = None
    """A type; the text is a Python expression of it. Held as one object with ``scope``."""
    scope: dict[str, Any] | None = None
    """What the expression may use."""
    whitespace: str | None = None
    """Layout of the JSON: ``default``, ``compact``, ``indent`` or ``free``."""
    lenient: bool = False
    """Leave out what a schema says and what cannot be enforced; the finished text is checked."""
    on_budget: str | None = None
    """What to do when ``max_new_tokens`` runs out before the constraint is met: ``close`` brings
    the text to a legal end in time, ``cut`` leaves it as it is, ``error`` fails and keeps it. None:
    ``close`` for a schema or a type; for the others ``cut``, but told before it runs if no text
    fits at all."""
    jump_forward: bool | None = None
    """None takes the engine's setting."""
    retokenize: str | None = None
    """How certain text becomes tokens: ``hold-back`` or ``rewind`` (see
    :class:`~sglnb.runtime.engine.Engine`). None takes the engine's setting."""
    custom_logit_processor: Callable[[Any, Any], Any] | None = None
    """Called with prompt and output ids [1, n] and logits [1, vocab], returns new logits: one of
    transformers' ``LogitsProcessor`` or any function like it. Runs on the engine's thread."""

    @classmethod
    def of(cls, params: SamplingParams | dict[str, Any] | None) -> SamplingParams:
        """A validated copy of ``params``.

        Raises:
            ValueError: an unknown name or a value out of range; the text names it.
        """
        if params is None:
            params = {}
        if isinstance(params, SamplingParams):
            params = {name: getattr(params, name) for name in _DEFAULTS}
        params = dict(params)
        if params.get("sampling_seed") is not None:
            if params.get("seed") is not None:
                raise ValueError("sampling_seed: is another name of seed; give only one of them")
            params["seed"] = params["sampling_seed"]
        params.pop("sampling_seed", None)
        for name in _REFUSED.keys() & params.keys():
            if params.pop(name) is not None:
                raise ValueError(f"{name}: {_REFUSED[name]}")
        for name in params:
            if name not in _DEFAULTS:
                hint = " (the number of tokens is max_new_tokens)" if name == "max_tokens" else ""
                names = ", ".join(sorted(_DEFAULTS))
                raise ValueError(f"sampling_params: unknown name {name!r}{hint}; known: {names}")
        out = cls(**params)
        out.tools = tool_set(out.tools, out.tool_style, out.when, out.max_calls)
        out.tool_style = out.when = out.max_calls = None
        out.expression, out.scope = expression_spec(out.expression, out.scope), None
        out.validate()
        if out.logit_bias is not None:
            out.logit_bias = {int(i): float(bias) for i, bias in out.logit_bias.items()}
        return out

    def validate(self) -> None:
        """Raise ValueError for the first value that is out of range."""
        for name, limits in _LIMITS.items():
            value = getattr(self, name)
            if value is not _DEFAULTS[name]:
                number(name, value, **limits)
        if self.min_new_tokens:
            number("min_new_tokens", self.min_new_tokens, 0, self.max_new_tokens, whole=True)
        if self.top_k == 0:
            raise ValueError("top_k: must be at least 1, or -1 for all tokens, got 0")
        self._check_bias()
        if self.seed is not None:
            number("seed", self.seed, 0, whole=True)
        for i in self.stop_token_ids or ():
            number("stop_token_ids", i, 0, whole=True)
        for name, given in (("stop", self.stop), ("stop_regex", self.stop_regex)):
            if given is not None and any(not isinstance(s, str) or not s for s in _several(given)):
                raise ValueError(f"{name}: must be non-empty strings, got {given!r}")
        if self.stop_regex is not None:
            StopRegexes(self.stop_regexes)  # refuses what it cannot follow
        self._check_constraint()
        if self.regex is not None and not isinstance(self.regex, str):
            raise ValueError(f"regex: must be a string, got {type(self.regex).__name__}")
        if self.choices is not None and (
            isinstance(self.choices, str)
            or not self.choices
            or any(not isinstance(c, str) for c in self.choices)
        ):
            raise ValueError(f"choices: must be a non-empty list of strings, got {self.choices!r}")
        if self.custom_logit_processor is not None and not callable(self.custom_logit_processor):
            raise ValueError(
                "custom_logit_processor: must be callable with (ids, logits), got "
                f"{type(self.custom_logit_processor).__name__}"
            )

    def _check_constraint(self) -> None:
        """Refuse two constraints, and one with a mistake in it."""
        kind = only_one(self.constraint, self.whitespace, self.lenient)
        if self.retokenize is not None:
            one_of("retokenize", self.retokenize, RETOKENIZE)
        if self.on_budget is not None:
            one_of("on_budget", self.on_budget, ON_BUDGET)
        if kind in ("json_schema", "type"):
            _, schema = schema_source(kind, self.constraint[kind])
            prepare(schema, self.whitespace, self.lenient, kind)
        elif kind in ("grammar", "ebnf"):
            read_grammar(self.constraint[kind], kind)

    def _check_bias(self) -> None:
        bias = self.logit_bias
        if bias is None:
            return
        if not isinstance(bias, dict):
            raise ValueError(f"logit_bias: must be a dict of token id to number, got {bias!r}")
        for token, value in bias.items():
            whole = isinstance(token, int) and not isinstance(token, bool) and token >= 0
            if not whole and not (isinstance(token, str) and token.isdecimal()):
                raise ValueError(f"logit_bias: {token!r} is no token id; the keys are numbers")
            number("logit_bias", value, -1e9, 1e9)

    @property
    def constraint(self) -> dict[str, Any]:
        """The constraints, of which at most one is given."""
        return {name: getattr(self, name) for name in KINDS}

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """``stop`` as a tuple; the caller's list is never kept or changed."""
        return _several(self.stop)

    @property
    def stop_regexes(self) -> tuple[str, ...]:
        """``stop_regex`` as a tuple."""
        return _several(self.stop_regex)

    @property
    def repeats_penalised(self) -> bool:
        """Whether the tokens so far change the logits."""
        return (
            self.repetition_penalty != 1
            or self.frequency_penalty != 0
            or self.presence_penalty != 0
        )

    @property
    def adjusts(self) -> bool:
        """Whether something other than a mask changes the logits."""
        return (
            self.repeats_penalised
            or bool(self.logit_bias)
            or self.custom_logit_processor is not None
        )

    @property
    def filters(self) -> bool:
        """Whether unlikely tokens are left out of the draw."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken instead of a random one."""
        return self.temperature < 1e-6


_DEFAULTS = {f.name: f.default for f in fields(SamplingParams)}

_LIMITS: dict[str, dict[str, Any]] = {
    "max_new_tokens": {"low": 0, "whole": True},
    "min_new_tokens": {"low": 0, "whole": True},
    "temperature": {"low": 0},
    "top_p": {"low": 0, "high": 1, "open_low": True},
    "top_k": {"low": -1, "whole": True},
    "min_p": {"low": 0, "high": 1},
    "frequency_penalty": {"low": -2, "high": 2},
    "presence_penalty": {"low": -2, "high": 2},
    "repetition_penalty": {"low": 0, "high": 2, "open_low": True},
    "n": {"low": 1, "whole": True},
}
"""What the numbers may be. Most are never given, and programs make parameters all the time."""


def _several(given: str | list[str] | tuple[str, ...] | None) -> tuple[str, ...]:
    if given is None:
        return ()
    return tuple(given) if isinstance(given, list | tuple) else (given,)
