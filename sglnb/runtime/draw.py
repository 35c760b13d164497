"""Two ways to draw a token from each row of logits: by torch operations, and by one kernel on CUDA.

Both draw the same tokens: the noise is a function of seed, position and token id alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from sglnb.kernels.bitmask import apply_bitmask
from sglnb.kernels.sample import SampleParams, SampleRoom, sample

from .filters import Filters, draw
from .logit_reader import LogitReader
from .noise import Noise
from .request import Request
from .sampling_params import SamplingParams
from .transfer import send


class Drawn(NamedTuple):
    """What was drawn, each [rows], on the device."""

    tokens: torch.Tensor
    """int64; -1 where there is nothing to draw from."""
    masses: torch.Tensor
    """float32, probability that the mask left standing; NaN where the logits are no
    distribution."""
    logprobs: torch.Tensor | None
    """float32, of the tokens under the logits as they came; None: still to be read."""


class DrawByTorch:
    """Draws on a CPU, where a sort of a few candidates is cheap and waiting costs nothing."""

    def __init__(self, noise: Noise):
        self._noise = noise

    def __call__(
        self,
        logits: torch.Tensor,
        bits: torch.Tensor | None,
        requests: list[Request],
        reader: LogitReader,
    ) -> Drawn:
        """Draw.

        Args:
            logits: [rows, vocab] float32; not changed.
            bits: [rows, words] int32 packed masks; None: all tokens may come.
            requests: the rows' requests.
            reader: of the same logits.
        """
        norm = reader.norm[:, 0]
        masses = (norm - norm).exp()
        if bits is not None:
            masked = (bits != -1).any(-1).nonzero()[:, 0]
            changed = logits.clone()
            if len(masked) == len(logits):
                apply_bitmask(changed, bits)
            else:
                changed[masked] = apply_bitmask(logits[masked], bits[masked])
            masses[masked] = (torch.logsumexp(changed[masked], -1) - norm[masked]).exp()
            logits = changed
        sound = norm.isfinite() & logits.amax(-1).isfinite()
        if not sound.all():  # a harmless distribution, so that the others go on
            logits = logits.masked_fill(~sound[:, None], 0.0)
        tokens = self._tokens(logits, requests).masked_fill_(~sound, -1)
        return Drawn(tokens, masses, None)

    def _tokens(self, logits: torch.Tensor, requests: list[Request]) -> torch.Tensor:
        tokens = torch.zeros(len(requests), dtype=torch.long, device=logits.device)
        greedy = [i for i, r in enumerate(requests) if r.params.greedy]
        if greedy:
            tokens[greedy] = logits[greedy].argmax(-1)
        free = [i for i, r in enumerate(requests) if not r.params.greedy]
        plain = [i for i in free if not requests[i].params.filters]
        filtered = [i for i in free if requests[i].params.filters]
        for rows in (plain, filtered):
            if not rows:
                continue
            params = [requests[i].params for i in rows]
            places = [(requests[i].seed, len(requests[i].ids)) for i in rows]
            heat = torch.tensor([p.temperature for p in params], device=logits.device)
            probs = torch.softmax(logits[rows] / heat[:, None], -1)
            if rows is plain:
                tokens[rows] = self._noise.race(probs, places)
            else:
                tokens[rows] = draw(probs, _filters(params, probs), self._noise, places)
        return tokens


class DrawByKernel:
    """Draws by :mod:`sglnb.kernels.sample`: nothing is waited for."""

    def __init__(self, noise: Noise):
        self._noise = noise
        self._room: SampleRoom | None = None
        self._rows = 0
        self._asked: list = []
        self._params: SampleParams | None = None

    def __call__(
        self,
        logits: torch.Tensor,
        bits: torch.Tensor | None,
        requests: list[Request],
        reader: LogitReader,
    ) -> Drawn:
        """As :class:`DrawByTorch`. The next call writes over what is returned."""
        if len(requests) > self._rows:
            self._rows = 1 << (len(requests) - 1).bit_length()
            self._room = SampleRoom(self._rows, logits.shape[1], logits.device)
        params = self._parameters([r.params for r in requests], logits.device)
        if not all(r.params.greedy for r in requests):
            places = [(r.seed, len(r.ids)) for r in requests]
            params = params._replace(keys=send(self._noise.keys(places), logits.device))
        drawn = sample(logits, bits, params, self._noise.table, self._room)
        return Drawn(drawn.tokens, drawn.masses, drawn.logprobs)

    def _parameters(self, asked: list, device: torch.device) -> SampleParams:
        """Those of the last call, mostly."""
        if self._params is None or asked != self._asked:
            columns = *columns_of(asked), np.ones((len(asked), 2), dtype=np.int64)
            self._params = SampleParams(*(send(column, device) for column in columns))
            self._asked = asked
        return self._params


def columns_of(asked: Sequence[SamplingParams | None]) -> tuple[np.ndarray, ...]:
    """Temperature, top_k, top_p and min_p of each row; rows of nobody are greedy."""
    heat = [0.0 if p is None or p.greedy else p.temperature for p in asked]
    return (
        np.array(heat, dtype=np.float32),
        np.array([0 if p is None else p.top_k for p in asked], dtype=np.int32),
        np.array([1.0 if p is None else p.top_p for p in asked], dtype=np.float64),
        np.array([0.0 if p is None else p.min_p for p in asked], dtype=np.float32),
    )


def _filters(params: list, probs: torch.Tensor) -> Filters:
    top_k = [p.top_k if p.top_k > 0 else probs.shape[1] for p in params]
    return Filters(
        torch.tensor(top_k, device=probs.device),
        torch.tensor([p.top_p for p in params], dtype=torch.float64, device=probs.device),
        torch.tensor([p.min_p for p in params], dtype=torch.float32, device=probs.device),
    )
