"""y = x W^T + b with the weight laid out for the machine."""

from __future__ import annotations

import torch
import torch.nn.functional as F


class Linear:
    """A frozen linear layer.

    On a CPU the weight is kept in oneDNN's blocked layout, which torch.compile uses too: a plain
    ``F.linear`` packs the weight again in each call, and that is most of the time of a decode
    step with a few rows (8 rows of [2816, 512]: 7.1 ms packed, 10.5 ms plain on one core).

    Args:
        weight: [out, in].
        bias: [out] or None.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        self.bias = bias
        self.outputs, self.inputs = weight.shape
        self._packed = weight.device.type == "cpu" and packable(weight.dtype)
        if self._packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self.weight = weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x [n, in] -> [n, out]."""
        if self._packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """x [n, in], other [n, out] -> W x + other [n, out], in one pass where that is there."""
        if self._packed:
            return torch.ops.mkldnn._linear_pointwise.binary(
                x, other, self.weight, self.bias, "add"
            )
        return F.linear(x, self.weight, self.bias) + other

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        weights = self.outputs * self.inputs * self.weight.element_size()
        return weights + (0 if self.bias is None else self.bias.nbytes)


def packable(dtype: torch.dtype) -> bool:
    """Whether oneDNN packs weights of ``dtype`` on this CPU; half precision takes AVX-512."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if dtype == torch.float16:
        return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return dtype == torch.float32
