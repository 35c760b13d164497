"""Our attention function among transformers'.

One function serves all engines: who answers it is looked up by thread, so that the library's
registry keeps no model alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "sglnb"
"""The function's name."""

LOOKING = "sglnb-look"
"""The same function, and layers are given a :class:`Mask`; under :data:`NAME` they get none."""


@dataclass(slots=True)
class Mask:
    """Stands for the mask of a layer."""

    visible: Callable[..., torch.Tensor]
    """(batch, head, query position, key position), tensors of one shape -> whether it is seen."""


class Pass(Protocol):
    """Who answers the attention calls of a forward pass that is going on."""

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: Any,
        options: dict[str, Any],
    ) -> torch.Tensor:
        """query, key, value [1, heads, N, head size] -> [N, query heads, value's head size]."""


_current = threading.local()
"""``.answer``: the :class:`Pass` of this thread."""


def _attend(module, query, key, value, attention_mask, **options):
    """The registered function."""
    out = _current.answer.attend(module, query, key, value, attention_mask, options)
    return out[None], None


def _describe(*args: Any, mask_function: Callable[..., torch.Tensor], **unused: Any) -> Mask:
    """The registered maker of masks."""
    return Mask(mask_function)


AttentionInterface.register(NAME, _attend)
AttentionInterface.register(LOOKING, _attend)
AttentionMaskInterface.register(LOOKING, _describe)


def run(hf: Any, answer: Pass, **inputs: Any) -> Any:
    """One forward pass whose attention calls ``answer`` takes."""
    _current.answer = answer
    try:
        return hf(use_cache=False, **inputs)
    finally:
        del _current.answer
