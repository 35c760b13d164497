"""Models that see: a vision tower makes features of an image, which stand among the embeddings
of the text. The text part runs over the paged pool like any other model."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import PIL.Image
import torch

from .base import Batch
from .hf import TransformersModel

if TYPE_CHECKING:
    from ..tokenizer import Tokenizer


class Prepared(NamedTuple):
    """An image as the vision tower takes it."""

    inputs: dict[str, torch.Tensor]
    """What the tower is called with."""
    tokens: int
    """Positions that the image takes in a prompt."""
    layout: torch.Tensor | None = None
    """[3, tokens] rotary positions (time, row, column) from the image's first one on. None: one
    after another, as text."""
    advance: int = 0
    """How far the rotary position has moved behind the image."""

    @property
    def nbytes(self) -> int:
        """Memory of the tensors."""
        return sum(tensor.nbytes for tensor in self.inputs.values())


class VisionModel(TransformersModel):
    """A text model with a vision tower.

    Args:
        hf: a transformers image-text-to-text model.
        processor: its image processor.

    Attributes:
        image_token_id: the token that stands for an image in a prompt.
        image_text: the text that a prompt holds for an image.
        mrope: whether positions are turned by three coordinates (M-RoPE).
    """

    capturable = False
    sees = True
    mrope = False

    def __init__(self, hf: Any, processor: Any, tower: Any):
        attention = tower.config._attn_implementation
        super().__init__(hf)
        tower.set_attn_implementation(attention)  # the pool is for the text part only
        self._processor = processor
        self.image_token_id: int = hf.config.image_token_id
        self.image_text = ""

    def name_placeholder(self, tokenizer: Tokenizer) -> None:
        """Learn :attr:`image_text`: what the chat template writes for an image, else the image
        token with the tokens that belong around it."""
        hf, config = tokenizer.hf, self._hf.config
        token = hf.convert_ids_to_tokens(self.image_token_id)
        around = [getattr(config, f"vision_{end}_token_id", None) for end in ("start", "end")]
        begin, end = ("" if i is None else hf.convert_ids_to_tokens(i) for i in around)
        self.image_text = _from_template(tokenizer, token) or f"{begin}{token}{end}"

    @abstractmethod
    def prepare(self, image: PIL.Image.Image) -> Prepared:
        """Resize and normalize an RGB image. May be called from any thread."""

    @torch.inference_mode()
    def encode(self, prepared: Prepared) -> torch.Tensor:
        """[tokens, hidden size]: what stands for the image among the text's embeddings."""
        inputs = {name: x.to(self.device) for name, x in prepared.inputs.items()}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.dtype)
        found = self._hf.get_image_features(**inputs, return_dict=True).pooler_output
        return torch.cat(list(found)).to(self.dtype)

    def _inputs(self, batch: Batch) -> dict[str, torch.Tensor]:
        embeds = self._hf.get_input_embeddings()(batch.ids)
        for rows, features in batch.features:
            embeds[rows] = features
        positions = batch.positions
        return {
            "inputs_embeds": embeds[None],
            "position_ids": positions[None] if positions.dim() == 1 else positions[:, None],
        }


class LlavaModel(VisionModel):
    """LLaVA: CLIP or SigLIP at one fixed size, its patches projected one by one (Liu et al.,
    "Visual Instruction Tuning", 2023)."""

    TOWERS = ("clip_vision_model", "siglip_vision_model")

    def __init__(self, hf: Any, processor: Any):
        vision = hf.config.vision_config
        if vision.model_type not in self.TOWERS:
            raise ValueError(
                f"model: LLaVA with a vision tower of type {vision.model_type!r} cannot be run; "
                f"known towers: {', '.join(self.TOWERS)}"
            )
        super().__init__(hf, processor, hf.model.vision_tower)
        self._patch = vision.patch_size
        # CLIP has one feature more, for the image as a whole; the "default" strategy drops it.
        own = vision.model_type == "clip_vision_model"
        self._extra = own - (hf.config.vision_feature_select_strategy == "default")

    def prepare(self, image: PIL.Image.Image) -> Prepared:
        pixels = self._processor(images=image, return_tensors="pt")["pixel_values"]
        tokens = (pixels.shape[-2] // self._patch) * (pixels.shape[-1] // self._patch) + self._extra
        return Prepared({"pixel_values": pixels}, tokens, advance=tokens)


class QwenVLModel(VisionModel):
    """Qwen2-VL and Qwen2.5-VL: images in their own resolution, positions by time, row and column
    (Wang et al., "Qwen2-VL", 2024)."""

    mrope = True

    def __init__(self, hf: Any, processor: Any):
        super().__init__(hf, processor, hf.model.visual)
        self._merge: int = hf.config.vision_config.spatial_merge_size

    def prepare(self, image: PIL.Image.Image) -> Prepared:
        inputs = self._processor(images=image, return_tensors="pt")
        pixels, grid = inputs["pixel_values"], inputs["image_grid_thw"]
        frames, rows, columns = grid[0].tolist()
        rows, columns = rows // self._merge, columns // self._merge
        axes = (torch.arange(frames), torch.arange(rows), torch.arange(columns))
        layout = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1)
        return Prepared(
            {"pixel_values": pixels, "image_grid_thw": grid},
            frames * rows * columns,
            layout,
            max(rows, columns),
        )


def _from_template(tokenizer: Tokenizer, token: str) -> str:
    """What the chat template adds to a message for an image in front of its text; "" if that
    cannot be seen."""
    if not tokenizer.has_chat_template:
        return ""
    text = {"type": "text", "text": "sglnbMARKER"}
    try:
        without, with_image = (
            tokenizer.render_chat([{"role": "user", "content": parts}], generation_prompt=False)
            for parts in ([text], [{"type": "image"}, text])
        )
    except Exception:  # jinja's own kinds, and whatever a template raises: it knows no parts
        return ""
    start = without.partition("sglnbMARKER")[0]
    end = with_image.partition("sglnbMARKER")[0]
    added = end[len(start) :] if end.startswith(start) else ""
    return added if added.count(token) == 1 else ""


ARCHITECTURES: dict[str, type[VisionModel]] = {
    "llava": LlavaModel,
    "qwen2_vl": QwenVLModel,
    "qwen2_5_vl": QwenVLModel,
}
"""By ``config.model_type``."""
