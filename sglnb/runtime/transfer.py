"""Numbers between the engine's thread and a device, without waiting for the device.

A plain copy waits until the GPU is through with everything that was asked of it before. From and to
pinned memory it is one more thing that is asked, and the engine's thread goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def send(
    values: Sequence[int] | Sequence[float] | np.ndarray,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """``values`` as a tensor on ``device``."""
    here = torch.as_tensor(values, dtype=dtype)
    if device.type != "cuda":
        return here.to(device)
    return here.pin_memory().to(device, non_blocking=True)


class Fetch:
    """Tensors on their way here. What they hold is copied as the device gets there: they may be
    written to by what is asked of it later."""

    def __init__(self, *tensors: torch.Tensor | None):
        self._arrived: torch.cuda.Event | None = None
        self._here = [None if t is None else t.to("cpu", non_blocking=True) for t in tensors]
        if any(t is not None and t.is_cuda for t in tensors):
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def wait(self) -> list[torch.Tensor | None]:
        """The tensors, in CPU memory."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._here
