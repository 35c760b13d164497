"""Sampling parameters as backends written for SGLang get them."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class SglSamplingParams:
    """The parameters of one generation; names and defaults are SGLang's, and below the line there
    are those that only this package's ``gen`` knows. ``dtype`` and ``regex`` are left to the
    backend."""

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    n: int = 1
    stop: str | list[str] = field(default_factory=list)
    stop_token_ids: list[int] = field(default_factory=list)
    stop_regex: str | list[str] = field(default_factory=list)
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    ignore_eos: bool = False
    return_logprob: bool | None = None
    logprob_start_len: int | None = None
    top_logprobs_num: int | None = None
    return_text_in_logprobs: bool | None = None
    dtype: str | None = None
    regex: str | None = None
    json_schema: str | None = None
    # ---
    extra: dict[str, Any] = field(default_factory=dict)
    """What SGLang's frontend has no name for: seed, repetition_penalty, logit_bias, ..."""

    @classmethod
    def of(cls, params: dict[str, Any]) -> SglSamplingParams:
        """From a dict; what has no field of its own goes to :attr:`extra`."""
        known = {f.name for f in fields(cls)}
        own = {k: v for k, v in params.items() if k in known}
        return cls(**own, extra={k: v for k, v in params.items() if k not in known})

    def clone(self) -> SglSamplingParams:
        """A copy of all of it; its lists are its own."""
        return copy.deepcopy(self)

    def to_srt_kwargs(self) -> dict[str, Any]:
        """``sampling_params`` of an SGLang server's ``/generate``."""
        out = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_SRT}
        extra = {k: v for k, v in self.extra.items() if k in _SRT_EXTRA}
        if "seed" in self.extra:
            extra["sampling_seed"] = self.extra["seed"]
        return out | extra

    def to_openai_kwargs(self) -> dict[str, Any]:
        """Arguments of an OpenAI-compatible API."""
        self._cannot("OpenAI")
        return {
            "max_tokens": self.max_new_tokens,
            "stop": self.stop or None,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
        } | {k: v for k, v in self.extra.items() if k in ("seed", "logit_bias")}

    def to_litellm_kwargs(self) -> dict[str, Any]:
        """Arguments of ``litellm.completion``."""
        return self.to_openai_kwargs()

    def to_vertexai_kwargs(self) -> dict[str, Any]:
        """Arguments of VertexAI's ``GenerationConfig``."""
        self._cannot("VertexAI")
        return {
            "candidate_count": 1,
            "max_output_tokens": self.max_new_tokens,
            "stop_sequences": self._stops,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k if self.top_k > 0 else None,
        }

    def to_anthropic_kwargs(self) -> dict[str, Any]:
        """Arguments of Anthropic's messages API."""
        self._cannot("Anthropic")
        return {
            "max_tokens": self.max_new_tokens,
            "stop_sequences": self._stops,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
        }

    @property
    def _stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop)

    def _cannot(self, api: str) -> None:
        if self.regex is not None:
            warnings.warn(f"regex: the {api} API cannot hold a text to it", stacklevel=3)


_NOT_SRT = (
    "return_logprob",
    "logprob_start_len",
    "top_logprobs_num",
    "return_text_in_logprobs",
    "dtype",
    "extra",
)
_SRT_EXTRA = ("repetition_penalty", "logit_bias", "no_stop_trim", "skip_special_tokens", "ebnf")
