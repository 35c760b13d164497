"""LoRA on models that transformers runs: hooks on the linear layers that adapters change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from ..lora_batch import Adapter, Rows, Target, add_lora


class LoraHooks:
    """Adds adapters' parts to the results of linear layers.

    Args:
        hf: the model. Its layers are hooked when an adapter first needs them.
    """

    def __init__(self, hf: Any):
        self._hf = hf
        self._hooked: set[str] = set()
        self._adapters: Sequence[tuple[Rows, Adapter]] = ()
        self._tokens = 0

    def targets(self) -> dict[str, Target]:
        """The linear layers of the text decoder, by their path."""
        inside = set(self._hf.get_decoder().modules())
        out = {}
        for path, module in self._hf.named_modules():
            if module in inside and isinstance(module, (torch.nn.Linear, Conv1D)):
                shape = tuple(module.weight.shape)
                inputs, outputs = shape if isinstance(module, Conv1D) else shape[::-1]
                out[path] = Target(path, 0, inputs, outputs)
        return out

    @contextmanager
    def active(self, adapters: Sequence[tuple[Rows, Adapter]], tokens: int) -> Iterator[None]:
        """Add ``adapters`` in the forward pass inside the block, over a batch of ``tokens``."""
        for _, adapter in adapters:
            for path in adapter.deltas.keys() - self._hooked:
                self._hooked.add(path)
                self._hook(path)
        self._adapters, self._tokens = adapters, tokens
        try:
            yield
        finally:
            self._adapters = ()

    def _hook(self, path: str) -> None:
        def add(module: torch.nn.Module, args: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
            if not self._adapters:
                return
            x = args[0].reshape(-1, args[0].shape[-1])
            if len(x) != self._tokens:  # such as an expert, which sees only some of the tokens
                raise RuntimeError(f"a LoRA adapter cannot change {path}: it sees other rows")
            add_lora(self._adapters, path, x, y.view(len(x), -1))

        self._hf.get_submodule(path).register_forward_hook(add)
