"""What the vision tower made of the images: computed once, on the engine's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .byte_lru import ByteLRU
from .image_prompt import Span
from .models import Batch
from .request import Request
from .scheduler import Work

if TYPE_CHECKING:
    from .models.vision import VisionModel

FEATURE_BYTES = 512 * 2**20
"""Features kept for the next request that brings the image, in bytes at most."""


class ImageFeatures:
    """Gives a batch the features of the images that it computes.

    Args:
        model: the model with the vision tower.
        most: bytes kept at most, besides those of requests in prefill.
    """

    def __init__(self, model: VisionModel, most: int = FEATURE_BYTES):
        self.model = model
        self._known: ByteLRU[bytes, torch.Tensor] = ByteLRU(most)
        self.encoded = 0
        """Images that went through the tower so far."""

    def look(self, request: Request, count: int) -> None:
        """Have the features of all images among the request's next ``count`` tokens ready.
        Images whose KV is cached are not looked at.

        Raises:
            RuntimeError: the tower made another number of features than the prompt has room for.
        """
        if request.images is None:
            return
        start, stop = request.computed, request.computed + count
        for span in request.images.spans:
            if span.start < stop and start < span.stop:
                if span.features is None:
                    span.features = self._features(span)
            else:
                span.features = None

    def _features(self, span: Span) -> torch.Tensor:
        known = self._known.get(span.digest)
        if known is None:
            known = self.model.encode(span.prepared)
            self.encoded += 1
            if len(known) != span.prepared.tokens:
                raise RuntimeError(
                    f"the vision tower made {len(known)} features of an image that takes "
                    f"{span.prepared.tokens} tokens"
                )
            self._known.put(span.digest, known, known.nbytes)
        return known

    def attach(self, batch: Batch, work: list[Work]) -> Batch:
        """``batch`` with its images' features and, where the model turns by three coordinates,
        the positions that images bring about."""
        if all(w.request.images is None for w in work):
            return batch
        positions = batch.positions.expand(3, -1).clone() if self.model.mrope else None
        features: list[tuple[slice, torch.Tensor]] = []
        base = 0
        for request, count in work:
            start, stop = request.computed, request.computed + count
            for span in request.images.spans if request.images else ():
                first, last = max(start, span.start), min(stop, span.stop)
                if first < last:
                    rows = slice(base + first - start, base + last - start)
                    features.append((rows, span.features[first - span.start : last - span.start]))
            if request.images is not None and positions is not None:
                places = request.images.positions(start, stop)
                positions[:, base : base + count] = places.to(positions.device)
            base += count
        if positions is not None:
            batch = batch._replace(positions=positions)
        return batch._replace(features=features)
