"""What a request asks of the sampler. Names and defaults are SGLang's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .arguments import number


@dataclass(slots=True)
class SamplingParams:
    """Sampling parameters of one generation.

    A temperature under 1e-6 means greedy. ``seed`` makes the text a function of prompt and
    seed alone, whatever else runs in the batch; without it each request draws its own.
    The draw at a position depends on (seed, position), so two texts drawn with one seed from
    one prompt are the same text: give each its own.
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | tuple[str, ...] | None = None
    stop_token_ids: list[int] | tuple[int, ...] | None = None
    ignore_eos: bool = False
    no_stop_trim: bool = False
    regex: str | None = None
    choices: list[str] | tuple[str, ...] | None = None
    jump_forward: bool | None = None
    """None takes the engine's setting."""

    @classmethod
    def of(cls, params: SamplingParams | dict[str, Any] | None) -> SamplingParams:
        """A validated copy of ``params``.

        Raises:
            ValueError: an unknown name or a value out of range; the text names it.
        """
        if params is None:
            params = {}
        if isinstance(params, SamplingParams):
            params = {f.name: getattr(params, f.name) for f in fields(cls)}
        known = {f.name for f in fields(cls)}
        for name in params:
            if name not in known:
                hint = " (the number of tokens is max_new_tokens)" if name == "max_tokens" else ""
                names = ", ".join(sorted(known))
                raise ValueError(f"sampling_params: unknown name {name!r}{hint}; known: {names}")
        out = cls(**params)
        out.validate()
        return out

    def validate(self) -> None:
        """Raise ValueError for the first value that is out of range."""
        number("max_new_tokens", self.max_new_tokens, 0, whole=True)
        number("min_new_tokens", self.min_new_tokens, 0, self.max_new_tokens, whole=True)
        number("temperature", self.temperature, 0)
        number("top_p", self.top_p, 0, 1, open_low=True)
        number("top_k", self.top_k, -1, whole=True)
        if self.top_k == 0:
            raise ValueError("top_k: must be at least 1, or -1 for all tokens, got 0")
        number("min_p", self.min_p, 0, 1)
        if self.seed is not None:
            number("seed", self.seed, 0, whole=True)
        for i in self.stop_token_ids or ():
            number("stop_token_ids", i, 0, whole=True)
        if any(not isinstance(s, str) or not s for s in self.stop_strings):
            raise ValueError(f"stop: must be non-empty strings, got {self.stop!r}")
        if self.regex is not None and self.choices is not None:
            raise ValueError("regex and choices: give only one of them")
        if self.regex is not None and not isinstance(self.regex, str):
            raise ValueError(f"regex: must be a string, got {type(self.regex).__name__}")
        if self.choices is not None and (
            isinstance(self.choices, str)
            or not self.choices
            or any(not isinstance(c, str) for c in self.choices)
        ):
            raise ValueError(f"choices: must be a non-empty list of strings, got {self.choices!r}")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """``stop`` as a tuple; the caller's list is never kept or changed."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken instead of a random one."""
        return self.temperature < 1e-6
