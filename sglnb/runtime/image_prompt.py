"""Images in a prompt: each placeholder becomes as many tokens as the image takes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .byte_lru import ByteLRU
from .image_keys import ImageKeys
from .images import Image, load_image

if TYPE_CHECKING:
    from .models.vision import Prepared, VisionModel

PREPARED_BYTES = 256 * 2**20
"""Preprocessed images kept for the next request that brings them, in bytes at most."""


@dataclass(slots=True)
class Span:
    """One image's place in a prompt."""

    start: int
    stop: int
    """Token positions, half-open."""
    digest: bytes
    prepared: Prepared
    origin: int
    """Rotary position of its first token."""
    features: torch.Tensor | None = None
    """[tokens, hidden size] while a prefill needs them; the engine's thread sets it."""

    @property
    def behind(self) -> int:
        """Rotary position of the first token behind it, less that token's place."""
        return self.origin + self.prepared.advance - self.stop


@dataclass(slots=True)
class PromptImages:
    """The images of one prompt, in order."""

    spans: list[Span] = field(default_factory=list)

    def positions(self, start: int, stop: int) -> torch.Tensor:
        """[3, stop - start] rotary positions (time, row, column) of the tokens ``start`` to
        ``stop``, prompt or output. Text counts on from the largest position of the image before
        it (Qwen2-VL, section 2.1)."""
        out = torch.arange(start, stop).expand(3, -1).clone()
        for span in self.spans:
            if span.stop < stop:
                out[:, max(0, span.stop - start) :] = (
                    torch.arange(max(span.stop, start), stop) + span.behind
                )
            first, last = max(start, span.start), min(stop, span.stop)
            if first < last and span.prepared.layout is not None:
                part = span.prepared.layout[:, first - span.start : last - span.start]
                out[:, first - start : last - start] = part + span.origin
        return out


class ImagePrompts:
    """Puts images in prompts for one engine. May be called from any thread.

    Args:
        model: the engine's model; None while its weights are released.
        keys: the engine's numbering of images.
        model_name: for errors.
    """

    def __init__(self, model: Any, keys: ImageKeys, model_name: str):
        self.model: VisionModel | None = model if model is not None and model.sees else None
        self._keys, self._model_name = keys, model_name
        self._prepared: ByteLRU[bytes, Prepared] = ByteLRU(PREPARED_BYTES)
        self._lock = threading.Lock()

    @property
    def placeholder(self) -> str:
        """The text that stands for an image in a prompt; "" when the model sees none."""
        return "" if self.model is None else self.model.image_text

    def load(self, image_data: Any) -> list[Image]:
        """The images of one prompt.

        Args:
            image_data: None, one image in any form that :func:`load_image` takes, or a list.

        Raises:
            ValueError: one cannot be loaded, or the model sees no images.
        """
        if image_data is None:
            return []
        many = isinstance(image_data, (list, tuple))
        if many and not image_data:
            return []
        if self.model is None:
            raise ValueError(
                f"image_data: {self._model_name} takes no images; load a model with vision, such "
                "as a LLaVA or Qwen2-VL checkpoint"
            )
        if not many:
            return [load_image(image_data, "image_data")]
        return [load_image(one, f"image_data[{i}]") for i, one in enumerate(image_data)]

    def expand(
        self, ids: list[int], images: list[Image]
    ) -> tuple[list[int], list[int], PromptImages | None]:
        """Make room for the images.

        Args:
            ids: the prompt's tokens, with one image token for each image, or with as many as each
                image takes (what a Hugging Face processor writes).

        Returns:
            (ids, keys, images): ids with one image token for each position of an image, what the
            tree knows them by (``ids`` itself when there is no image), and where the images are.

        Raises:
            ValueError: not as many placeholders as images.
        """
        model = self.model
        if model is None:
            return ids, ids, None
        places = _runs(ids, model.image_token_id)
        if not images and not places:
            return ids, ids, None
        prepared = [self._prepare(image) for image in images]
        if sum(stop - start for start, stop in places) == len(images):
            places = [(at, at + 1) for start, stop in places for at in range(start, stop)]
        elif [stop - start for start, stop in places] != [p.tokens for p in prepared]:
            raise ValueError(
                f"image_data: the prompt has {sum(b - a for a, b in places)} image placeholders "
                f"({model.image_text!r}) for {len(images)} images; it must have one for each image"
            )
        return self._spread(ids, images, prepared, places)

    def _spread(self, ids, images, prepared, places):
        out: list[int] = []
        keys: list[int] = []
        found = PromptImages()
        at = shift = 0  # shift: rotary position less place in ``out``
        for image, one, (start, stop) in zip(images, prepared, places, strict=True):
            out += ids[at:start]
            keys += ids[at:start]
            begin = len(out)
            out += [self.model.image_token_id] * one.tokens
            keys += self._keys.keys(image.digest, one.tokens)
            span = Span(begin, len(out), image.digest, one, begin + shift)
            found.spans.append(span)
            shift, at = span.behind, stop
        return out + ids[at:], keys + ids[at:], found

    def _prepare(self, image: Image) -> Prepared:
        """``image`` preprocessed, from memory if it was there lately."""
        with self._lock:
            known = self._prepared.get(image.digest)
        if known is None:
            known = self.model.prepare(image.pil)
            with self._lock:
                self._prepared.put(image.digest, known, known.nbytes)
        return known


def _runs(ids: list[int], token: int) -> list[tuple[int, int]]:
    """Half-open ranges of ``ids`` that hold nothing but ``token``."""
    out: list[tuple[int, int]] = []
    for at, i in enumerate(ids):
        if i != token:
            continue
        if out and out[-1][1] == at:
            out[-1] = (out[-1][0], at + 1)
        else:
            out.append((at, at + 1))
    return out
