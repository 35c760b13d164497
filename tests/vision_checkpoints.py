"""Small random checkpoints that see, with their image processors, made without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from PIL import Image

SPECIAL = ["<image>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # Large random weights: clear winners among the logits, so that rounding cannot swap them.
    "initializer_range": 0.3,
}
QWEN_ROPE = {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 10000.0}
# Like those of real checkpoints it shows only contents that are lists of parts.
LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m.role.upper() }}: "
    "{% for c in m.content | selectattr('type', 'equalto', 'image') %}<image>\n{% endfor %}"
    "{% for c in m.content | selectattr('type', 'equalto', 'text') %}{{ c.text }}{% endfor %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)


def build(kind: str, folder: Path, base_tokenizer: Path) -> Path:
    """Save a checkpoint of ``kind`` ("llava", "llava-full", "qwen2-vl", "qwen2.5-vl")."""
    tokenizer = hf.AutoTokenizer.from_pretrained(base_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.chat_template = LLAVA_TEMPLATE
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(SPECIAL), strict=True))
    text = {**TEXT, "vocab_size": len(tokenizer)}
    config = (_llava if kind.startswith("llava") else _qwen)(kind, text, ids)
    torch.manual_seed(3)
    model = hf.AutoModelForImageTextToText.from_config(config)
    for parameter in model.parameters():  # all weights of the same order, and no two rows alike
        parameter.data.normal_(0, 0.3 if parameter.dim() > 1 else 0.1)
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            parameter.data.add_(1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor(kind).save_pretrained(folder)
    return folder


def image_processor(kind: str) -> Any:
    if kind.startswith("llava"):
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        side = {"height": 28, "width": 28}
        return CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=side)
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
        Qwen2VLImageProcessorPil,
    )

    return Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 1600}
    )


def _llava(kind: str, text: dict[str, Any], ids: dict[str, int]) -> Any:
    vision = hf.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        image_size=28, patch_size=7,
    )  # fmt: skip
    return hf.LlavaConfig(
        vision_config=vision,
        text_config=hf.LlamaConfig(**text, head_dim=16),
        image_token_id=ids["<image>"],
        vision_feature_select_strategy="full" if kind == "llava-full" else "default",
    )


def _qwen(kind: str, text: dict[str, Any], ids: dict[str, int]) -> Any:
    tokens = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    vision: dict[str, Any] = {"depth": 2, "num_heads": 4, "patch_size": 4, "spatial_merge_size": 2}
    text = {**text, "rope_parameters": QWEN_ROPE}
    if kind == "qwen2-vl":
        vision |= {"embed_dim": 32, "hidden_size": text["hidden_size"]}
        return hf.Qwen2VLConfig(text_config=text, vision_config=vision, **tokens)
    vision |= {
        "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": text["hidden_size"],
        "window_size": 16, "fullatt_block_indexes": [1],
    }  # fmt: skip
    return hf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)


def picture(seed: int, width: int = 40, height: int = 32) -> Image.Image:
    """Noise, the same for the same seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class Reference:
    """transformers' own generate on a checkpoint."""

    def __init__(self, kind: str, folder: Path):
        self.kind = kind
        self.model = hf.AutoModelForImageTextToText.from_pretrained(folder).eval()
        self.tokenizer = hf.AutoTokenizer.from_pretrained(folder)
        self.processor = image_processor(kind)
        self.token = "<image>" if kind.startswith("llava") else "<|image_pad|>"

    @property
    def placeholder(self) -> str:
        """What a prompt holds for one image."""
        return self.token if self.kind.startswith("llava") else (
            f"<|vision_start|>{self.token}<|vision_end|>"
        )  # fmt: skip

    def inputs(self, prompt: str, images: list[Image.Image]) -> dict[str, Any]:
        """What the model is called with."""
        if not images:
            return dict(self.tokenizer(prompt, return_tensors="pt"))
        seen = dict(self.processor(images=images, return_tensors="pt"))
        if self.kind.startswith("llava"):
            counts = [16 + (self.kind == "llava-full")] * len(images)
        else:
            counts = (seen["image_grid_thw"].prod(-1) // 4).tolist()
        parts = prompt.split(self.token)
        text = parts[0] + "".join(
            self.token * n + part for n, part in zip(counts, parts[1:], strict=True)
        )
        out = {**self.tokenizer(text, return_tensors="pt"), **seen}
        if not self.kind.startswith("llava"):
            image_id = self.tokenizer.convert_tokens_to_ids(self.token)
            out["mm_token_type_ids"] = (out["input_ids"] == image_id).int()
        return out

    def generate(self, prompt: str, images: list[Image.Image], n: int = 12) -> list[int]:
        """The ``n`` greedy tokens behind the prompt."""
        inputs = self.inputs(prompt, images)
        with torch.inference_mode():
            out = self.model.generate(
                **inputs, max_new_tokens=n, min_new_tokens=n, do_sample=False, pad_token_id=0
            )
        return out[0, inputs["input_ids"].shape[1] :].tolist()
