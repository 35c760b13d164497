"""LoRA adapters in PEFT's file format: what they hold, and what is refused.

A LoRA adapter changes y = W x into y = W x + s B (A x), with A [rank, in] and B [out, rank] (Hu et
al., "LoRA", 2021). PEFT keeps the pairs in ``adapter_model.safetensors`` and the rest in
``adapter_config.json``.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"

REFUSED = {
    "use_dora": "DoRA",
    "modules_to_save": "whole modules beside the LoRA pairs (modules_to_save)",
    "lora_bias": "biases of the LoRA pairs (lora_bias)",
    "alpha_pattern": "an alpha of its own for some modules (alpha_pattern)",
    "layer_replication": "replicated layers (layer_replication)",
    "target_parameters": "pairs on bare parameters, such as fused experts (target_parameters)",
    "trainable_token_indices": "trained token embeddings (trainable_token_indices)",
    "alora_invocation_tokens": "activated LoRA (alora_invocation_tokens)",
    "arrow_config": "Arrow routing",
    "use_qalora": "QALoRA",
}
"""Settings of ``adapter_config.json`` that must be off, and what they stand for."""


class Pair(NamedTuple):
    """The two matrices for one linear layer."""

    a: torch.Tensor
    """[in, rank]."""
    b: torch.Tensor
    """[rank, out], scaled."""


class LoraWeights(NamedTuple):
    """An adapter as it is on disk."""

    pairs: dict[str, Pair]
    """By the module's path in the model."""
    digest: str
    """SHA-256 of both files."""


def read_lora(path: str | Path) -> LoraWeights:
    """Read a PEFT adapter.

    Args:
        path: the folder that holds it.

    Raises:
        ValueError: it is no LoRA adapter, or has a feature that is not supported.
    """
    folder = Path(path).expanduser()
    config = _read_config(folder)
    file = folder / WEIGHTS
    if not file.is_file():
        raise ValueError(f"lora_path: {str(folder)!r} has no {WEIGHTS}; other formats are not read")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"lora_path: {str(file)!r} cannot be read: {error}") from error
    digest = hashlib.sha256()
    for part in (folder / CONFIG, file):
        with part.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return LoraWeights(_pair_up(tensors, config), digest.hexdigest())


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except OSError:
        raise ValueError(
            f"lora_path: no adapter at {str(folder)!r} (a folder with {CONFIG} and {WEIGHTS})"
        ) from None
    except ValueError as error:
        raise ValueError(f"lora_path: {CONFIG} is no JSON: {error}") from error
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise ValueError(f"lora_path: the adapter is of type {kind!r}; only 'LORA' is supported")
    for key, what in REFUSED.items():
        if config.get(key):
            raise ValueError(f"lora_path: the adapter uses {what}, which is not supported")
    if config.get("bias", "none") != "none":
        raise ValueError("lora_path: the adapter trains biases (bias), which is not supported")
    alpha = config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise ValueError(f"lora_path: lora_alpha must be a number, got {alpha!r}")
    return config


def _pair_up(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> dict[str, Pair]:
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, which = name.removesuffix(".weight").rpartition(".")
        if which not in ("lora_A", "lora_B") or tensor.dim() != 2:
            raise ValueError(
                f"lora_path: the adapter holds {name!r} {list(tensor.shape)}; only the lora_A and "
                "lora_B matrices of linear layers are supported"
            )
        found.setdefault(module.removeprefix("base_model.model."), {})[which] = tensor
    if not found:
        raise ValueError("lora_path: the adapter holds no matrices")
    pairs = {}
    for module, both in found.items():
        if len(both) != 2 or both["lora_A"].shape[0] != both["lora_B"].shape[1]:
            raise ValueError(f"lora_path: lora_A and lora_B of {module!r} do not go together")
        rank = both["lora_A"].shape[0]
        scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
        pairs[module] = Pair(both["lora_A"].T, both["lora_B"].T * scale)
    return pairs
