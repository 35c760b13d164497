"""What a caller wants to know of a generation besides its text."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .arguments import number


@dataclass(frozen=True, slots=True)
class Report:
    """Options of ``submit`` and ``generate`` for log-probabilities; names are SGLang's.

    All are natural logarithms of the model's own probabilities: before temperature, penalties,
    bias and mask. Where they are found in ``meta_info`` is told with each option.
    """

    return_logprob: bool = False
    """``input_token_logprobs`` and ``output_token_logprobs``: (logprob, id, text) for each token;
    the logprob is None for the first token of the whole text, which nothing predicts."""
    logprob_start_len: int | None = None
    """First prompt token to report. What lies before it is taken from the cache; from it on the
    prompt is computed. None or -1: only the output."""
    top_logprobs_num: int = 0
    """``input_top_logprobs`` and ``output_top_logprobs``: so many of the likeliest tokens at each
    position, as lists of (logprob, id, text); None at the first token of the whole text."""
    token_ids_logprob: tuple[int, ...] = ()
    """``input_token_ids_logprobs`` and ``output_token_ids_logprobs``: the same for these ids."""
    return_text_in_logprobs: bool = False
    """Put each token's text in its tuple; it is None otherwise."""
    return_entropy: bool = False
    """``output_token_entropy``: entropy in nats of the distribution of each output token."""

    @classmethod
    def of(cls, options: dict[str, Any], prompt_len: int, vocab_size: int) -> Report:
        """Checked options.

        Raises:
            ValueError: an unknown name or a value out of range; the text names it.
        """
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                raise ValueError(f"{name}: unknown option; known: {', '.join(known)}")
        options = {**options, "token_ids_logprob": tuple(options.get("token_ids_logprob") or ())}
        out = cls(**options)
        number("top_logprobs_num", out.top_logprobs_num, 0, vocab_size, whole=True)
        for i in out.token_ids_logprob:
            number("token_ids_logprob", i, 0, vocab_size - 1, whole=True)
        start = out.logprob_start_len
        if start is not None and not (isinstance(start, int) and -1 <= start <= prompt_len):
            raise ValueError(
                f"logprob_start_len: must be 0 to {prompt_len} (the prompt's length), or -1 for "
                f"the output alone, got {start!r}"
            )
        return out

    @property
    def scores(self) -> bool:
        """Whether anything has to be read from the model's distribution."""
        return self.return_logprob or self.return_entropy

    def start(self, prompt_len: int) -> int:
        """The first token whose log-probability is wanted."""
        if not self.return_logprob or self.logprob_start_len in (None, -1):
            return prompt_len
        return self.logprob_start_len


NOTHING = Report()
"""Nothing but the text."""

REPORT_OPTIONS = tuple(f.name for f in fields(Report))
"""The options' names."""
