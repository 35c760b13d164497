"""Sampling behind a recorded decode step, recorded as well.

A draw is a dozen short kernels; started from Python one by one they take longer than a small
model's whole step. What each row draws by lies in tensors that are written before a replay, and
what was drawn comes back in one copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sglnb.kernels.sample import SampleParams, SampleRoom, sample

from ..errors import EngineError
from .draw import columns_of
from .graphs import Recorder
from .logit_reader import entropy_of
from .noise import Noise
from .request import Request
from .sampled import BROKEN, NOTHING_LEFT, TOP, Sampled, allowed_by, alternatives
from .sampling_params import SamplingParams
from .scores import TokenScore
from .transfer import Fetch, send


def recordable(request: Request) -> bool:
    """Whether a recorded draw knows all that ``request`` asks of one."""
    report = request.report
    return not (request.params.adjusts or report.token_ids_logprob or report.top_logprobs_num > TOP)


@dataclass(slots=True)
class _Variant:
    graph: torch.cuda.CUDAGraph
    tokens: torch.Tensor
    """[size] int64, at least 0."""
    out: torch.Tensor
    """[size, columns] float64: token, mass and log-probability; watched ones then have the
    entropy, and id, log-probability and whether it may come of the :data:`TOP` likeliest."""


class RecordedDraws:
    """Draws from the logits of one recorded step.

    Args:
        logits: [size, vocab] float32, where the step leaves them.
        noise: of all draws.
        recorder: that recorded the step.
    """

    def __init__(self, logits: torch.Tensor, noise: Noise, recorder: Recorder):
        self._logits, self._noise, self._recorder = logits, noise, recorder
        size, vocab = logits.shape
        self._room = SampleRoom(size, vocab, logits.device)
        self._asked: list[SamplingParams | None] = []
        self._params = SampleParams(
            *(send(column, logits.device) for column in columns_of([None] * size)),
            send(np.ones((size, 2), dtype=np.int64), logits.device),
        )
        words = -(-vocab // 32)
        self._bits = torch.full((size, words), -1, dtype=torch.int32, device=logits.device)
        self._variants: dict[tuple[bool, bool], _Variant] = {}

    def ask(
        self, places: list[int], requests: list[Request], masks: list[np.ndarray | None]
    ) -> RecordedDraw:
        """Draw for ``requests`` from the rows ``places``."""
        size = len(self._logits)
        asked: list[SamplingParams | None] = [None] * size
        for place, request in zip(places, requests, strict=True):
            asked[place] = request.params
        if asked != self._asked:
            for there, column in zip(self._params, columns_of(asked), strict=False):
                _write(there, column)
            self._asked = asked
        if not all(request.params.greedy for request in requests):
            keys = np.ones((size, 2), dtype=np.int64)
            keys[places] = self._noise.keys([(r.seed, len(r.ids)) for r in requests])
            _write(self._params.keys, keys)
        masked = [mask is not None for mask in masks]
        if any(masked):
            words = np.full(self._bits.shape, -1, dtype=np.int32)
            for place, mask in zip(places, masks, strict=True):
                if mask is not None:
                    words[place] = mask
            _write(self._bits, words)
        watched = any(alternatives(r) or r.report.return_entropy for r in requests)
        variant = self._variant(any(masked), watched)
        variant.graph.replay()
        return RecordedDraw(variant, places, requests, masked, watched)

    def _variant(self, masked: bool, watched: bool) -> _Variant:
        found = self._variants.get((masked, watched))
        if found is None:
            graph, (tokens, out) = self._recorder.record(lambda: self._draw(masked, watched))
            found = self._variants[masked, watched] = _Variant(graph, tokens, out)
        return found

    def _draw(self, masked: bool, watched: bool) -> tuple[torch.Tensor, torch.Tensor]:
        bits = self._bits if masked else None
        drawn = sample(self._logits, bits, self._params, self._noise.table, self._room)
        columns = [drawn.tokens[:, None], drawn.masses[:, None], drawn.logprobs[:, None]]
        if watched:
            norm = torch.logsumexp(self._logits, -1, keepdim=True)
            ids = torch.topk(self._logits, TOP).indices
            columns += [
                entropy_of(self._logits, norm)[:, None],
                ids,
                self._logits.gather(1, ids) - norm,
                allowed_by(bits, ids),
            ]
        return drawn.tokens.clamp(min=0), torch.cat([c.double() for c in columns], 1)


class RecordedDraw:
    """Tokens that are being drawn."""

    def __init__(
        self,
        variant: _Variant,
        places: list[int],
        requests: list[Request],
        masked: list[bool],
        watched: bool,
    ):
        self._tokens, self._places, self._requests = variant.tokens, places, requests
        self._masked, self._watched = masked, watched
        self._fetch = Fetch(variant.out)

    def pick(self, rows: list[int]) -> torch.Tensor:
        """The tokens of some rows, on the device."""
        places = [self._places[row] for row in rows]
        if places == list(range(len(places))):
            return self._tokens[: len(places)]
        return self._tokens[send(places, self._tokens.device)]

    def read(self) -> list[Sampled | Exception]:
        """Wait for them."""
        (out,) = self._fetch.wait()
        rows = out.tolist()
        return [
            self._read(rows[place], request, masked)
            for place, request, masked in zip(
                self._places, self._requests, self._masked, strict=True
            )
        ]

    def _read(self, row: list[float], request: Request, masked: bool) -> Sampled | Exception:
        token, mass, logprob = int(row[0]), row[1], row[2]
        if token < 0:
            return EngineError(NOTHING_LEFT if mass == mass else BROKEN)
        entropy, top, tops = None, [], []
        if self._watched:
            if request.run or request.report.return_entropy:
                entropy = row[3]
            ids, logprobs, allowed = (row[4 + TOP * i : 4 + TOP * (i + 1)] for i in range(3))
            wide = alternatives(request)
            for i, lp, ok in zip(ids[:wide], logprobs, allowed, strict=False):
                top.append((int(i), lp, ok != 0))
            tops = [(lp, i) for i, lp, _ in top[: request.report.top_logprobs_num]]
        score = TokenScore(logprob, tops, [], entropy)
        return Sampled(token, score, top, mass if masked else None, entropy)


def _write(there: torch.Tensor, here: np.ndarray) -> None:
    """Bring numbers to where a graph reads them, without waiting for it."""
    there.copy_(torch.from_numpy(here).pin_memory(), non_blocking=True)
