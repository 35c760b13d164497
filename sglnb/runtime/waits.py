"""Finds operations that wait for the GPU: work with one of them cannot be recorded as a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READS = frozenset(
    {
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "bincount",
        "equal",
        "unique_dim",
        "_unique2",
    }
)
_COPIES = frozenset({"_to_copy", "copy_"})
_INDEXES = frozenset({"index", "index_put_", "index_put", "_unsafe_index"})


class Waits(TorchDispatchMode):
    """Within, notes the operations of this thread that read a result of the GPU on the host, have
    a size that only the GPU knows, or copy pageable memory. A recording that fails on one of them
    would leave torch's random generator and its allocator in the midst of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        """Names, in order."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        out = func(*args, **(kwargs or {}))
        if name in _READS and any(x.is_cuda for x in tensors):
            self.found.append(name)
        elif name in _INDEXES and any(x.dtype == torch.bool and x.is_cuda for x in tensors[1:]):
            self.found.append(f"{name} by a mask")
        elif name in _COPIES:
            both = [*tensors, *([out] if isinstance(out, torch.Tensor) else [])]
            across = len({x.device.type for x in both}) > 1
            if across and not all(x.is_pinned() for x in both if not x.is_cuda):
                self.found.append(f"{name} between host and GPU")
        return out
