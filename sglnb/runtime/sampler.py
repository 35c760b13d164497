"""From logits to tokens: mask, penalties and bias, temperature, top-k, top-p, min-p, draw."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch

from sglnb.kernels.bitmask import apply_bitmask

from ..errors import EngineError
from .draw import DrawByKernel, DrawByTorch, Drawn
from .graphs import Replayed
from .logit_reader import LogitReader
from .noise import Noise
from .penalties import adjust
from .recorded_draw import RecordedDraw, RecordedDraws, recordable
from .request import Request
from .sampled import BROKEN, NOTHING_LEFT, Sampled, allowed_by, alternatives
from .transfer import Fetch, send


class Sampler:
    """Draws the next token of each row. Each row depends on its own logits, parameters and seed
    alone, so the batch it is in makes no difference.

    Args:
        vocab_size: width of the logits.
        device: of the logits. On CUDA one kernel draws (:mod:`sglnb.kernels.sample`).
    """

    def __init__(self, vocab_size: int, device: torch.device):
        self.vocab_size, self.device = vocab_size, device
        self._noise = Noise(vocab_size, device)
        has_kernel = device.type == "cuda" and find_spec("triton") is not None
        self._draw = DrawByKernel(self._noise) if has_kernel else DrawByTorch(self._noise)

    def __call__(
        self, logits: torch.Tensor, requests: list[Request], masks: list[np.ndarray | None]
    ) -> list[Sampled | Exception]:
        """Sample one token a row.

        Args:
            logits: [rows, vocab_size] float32 without padding.
            requests: the rows' requests.
            masks: packed bits [ceil(vocab_size / 32)] int32 of the tokens that may come, or
                None where all may.

        Returns:
            For each row what was drawn, or the error that its request fails with.
        """
        return self.ask(logits, requests, masks).read()

    def ask(
        self, logits: torch.Tensor, requests: list[Request], masks: list[np.ndarray | None]
    ) -> Draw:
        """The same, without waiting for it: the logits may be written to by what the device is
        asked for later."""
        reader = LogitReader(
            logits,
            [r.report for r in requests],
            [alternatives(r) for r in requests],
            [i for i, r in enumerate(requests) if r.run],
        )
        bits, masked = self._bits(masks), [mask is not None for mask in masks]
        if any(request.params.adjusts for request in requests):
            return self._ask_adjusted(logits, bits, masked, requests, reader)
        drawn = self._draw(logits, bits, requests, reader)
        allowed = None if reader.top_ids is None else allowed_by(bits, reader.top_ids)
        return Draw(requests, masked, reader, drawn, ~drawn.masses.isnan(), allowed)

    def ask_ahead(
        self,
        step: Replayed,
        rows: list[int],
        requests: list[Request],
        masks: list[np.ndarray | None],
    ) -> Draw | RecordedDraw:
        """:meth:`ask` for some ``rows`` of a decode step that was started ahead."""
        recorded = step.captured
        if recorded is None or not all(map(recordable, requests)):
            logits = step.logits
            if rows != list(range(len(logits))):
                logits = logits[send(rows, self.device)]
            return self.ask(logits, requests, masks)
        if recorded.draws is None:
            recorded.draws = RecordedDraws(recorded.logits, self._noise, recorded.recorder)
        return recorded.draws.ask([step.places[row] for row in rows], requests, masks)

    def _ask_adjusted(
        self,
        logits: torch.Tensor,
        bits: torch.Tensor | None,
        masked: list[bool],
        requests: list[Request],
        reader: LogitReader,
    ) -> Draw:
        """The same where penalties, biases or users' processors change the logits first."""
        changed = logits.clone()  # the reader keeps the model's own
        norm, ids = reader.norm[:, 0], reader.top_ids
        masses = norm
        if bits is not None:
            apply_bitmask(changed, bits)
            masses = (torch.logsumexp(changed, -1) - norm).exp()
        adjust(changed, requests)
        failed = self._process(changed, requests)
        drawn = self._draw(changed, None, requests, LogitReader(changed, [], []))
        drawn = drawn._replace(masses=masses, logprobs=None)
        allowed = None if ids is None else changed.gather(1, ids).isfinite()
        return Draw(requests, masked, reader, drawn, norm.isfinite(), allowed, failed)

    def _bits(self, masks: list[np.ndarray | None]) -> torch.Tensor | None:
        """[rows, ceil(vocab_size / 32)] int32 on the device; None: all may come everywhere."""
        if all(mask is None for mask in masks):
            return None
        every = np.full(-(-self.vocab_size // 32), -1, dtype=np.int32)
        return send(np.stack([every if mask is None else mask for mask in masks]), self.device)

    def _process(self, logits: torch.Tensor, requests: list[Request]) -> dict[int, Exception]:
        """The users' own processors. What is forbidden stays so. Returns what they raised."""
        failed: dict[int, Exception] = {}
        for i, request in enumerate(requests):
            processor = request.params.custom_logit_processor
            if processor is None:
                continue
            before = logits[i : i + 1].clone()
            try:
                ids = torch.tensor([request.ids], device=self.device)
                logits[i : i + 1] = processor(ids, before.clone())
            except Exception as error:  # recorded: that request's alone
                failed[i] = error
            logits[i : i + 1].masked_fill_(before == float("-inf"), float("-inf"))
        return failed


class Draw:
    """Tokens that are being drawn."""

    def __init__(
        self,
        requests: list[Request],
        masked: list[bool],
        reader: LogitReader,
        drawn: Drawn,
        sound: torch.Tensor,
        allowed: torch.Tensor | None,
        failed: dict[int, Exception] | None = None,
    ):
        self._requests, self._masked, self._failed = requests, masked, failed or {}
        self._tokens = drawn.tokens.clamp(min=0)
        self._asked = reader.ask(self._tokens, drawn.logprobs)
        self._fetch = Fetch(drawn.tokens, drawn.masses, sound, allowed)

    def pick(self, rows: list[int]) -> torch.Tensor:
        """The tokens of some rows, on the device."""
        if len(rows) == len(self._tokens):
            return self._tokens
        return self._tokens[send(rows, self._tokens.device)]

    def read(self) -> list[Sampled | Exception]:
        """Wait for them."""
        tokens, masses, sound, allowed = self._fetch.wait()
        tokens, masses = tokens.tolist(), masses.tolist()
        allowed = [[]] * len(tokens) if allowed is None else allowed.tolist()
        out: list[Sampled | Exception] = []
        for i, score in enumerate(self._asked.read()):
            error = self._failed.get(i)
            if error is None and tokens[i] < 0:
                error = EngineError(NOTHING_LEFT if sound[i] else BROKEN)
            top = [(at, lp, ok) for (lp, at), ok in zip(score.top, allowed[i], strict=False)]
            asked = score._replace(top=score.top[: self._requests[i].report.top_logprobs_num])
            mass = masses[i] if self._masked[i] else None
            out.append(error or Sampled(tokens[i], asked, top, mass, score.entropy))
        return out
