"""Linear layers whose weights are 8-bit integers, for decoding on a CPU.

A decode step reads all weights once, and one byte a weight is a quarter of the traffic. Weights
are rounded for each output channel by itself, symmetrically: ``w = scale * q``, q in -127..127.

Activations are not rounded to 8 bits, which would cost ten times the error of the weights. Each
row is written as two digits, ``x = s * (hi + lo / 126)``, hi and lo in steps of 1/63, and both
digits are multiplied in one product of twice the rows (FBGEMM, int8 x int8 -> int32). What is
left of a row's largest element is 1/16,000. A digit has 7 bits because AVX2 adds two products in
16 bits. A row's scale is its own, so no row depends on the batch.

Measured with one thread without VNNI on Qwen2-0.5B's shape (benchmarks/int8.py): 1.7 times the
tokens a second of float32 for one stream, 2.5 for 8, 0.9 for 32, 0.8 in prefill. torch's own
weight-only product (``_weight_int8pack_mm``) is slower than float32 from 8 rows on; rounding
activations to 8 bits (``quantized::linear_dynamic``) is twice as fast as this, and one top token
in ten changes.
"""

from __future__ import annotations

import warnings

import torch

from .linear import Linear

SMALLEST = 1 << 21
"""Weights of a layer below which splitting rows costs more than the reading that is saved."""

_STEP = 63
"""Steps of a digit to each side of zero."""

_multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32


def available() -> bool:
    """Whether this torch has the kernels (x86 builds do)."""
    return "fbgemm" in torch.backends.quantized.supported_engines


class Int8Linear(Linear):
    """A frozen linear layer with int8 weights; float32 in and out.

    Args:
        weight: [out, in].
        bias: [out] or None.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        self.bias = bias
        self.outputs, self.inputs = weight.shape
        scale = weight.abs().amax(1).clamp_min_(1e-30) / 127
        rounded = (weight / scale[:, None]).round_().to(torch.int8)
        self.weight = _pack(rounded, scale)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        n = len(x)
        scale = torch.linalg.vector_norm(x, torch.inf, -1, keepdim=True).clamp_min_(1e-30)
        digits = x.new_empty(2, n, self.inputs)
        high, low = digits
        torch.div(x, scale, out=low)
        torch.mul(low, _STEP, out=high)
        high.round_().div_(_STEP)
        low.sub_(high).mul_(2 * _STEP)
        y = _multiply(digits.view(2 * n, -1), 1 / _STEP, _STEP + 1, self.weight)
        y = torch.add(y[:n], y[n:].div_(2 * _STEP)).mul_(scale)
        return y if self.bias is None else y.add_(self.bias)

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self(x).add_(other)

    @property
    def nbytes(self) -> int:
        scales = 4 * self.outputs
        return self.outputs * self.inputs + scales + (0 if self.bias is None else self.bias.nbytes)


def make_linear(
    weight: torch.Tensor, bias: torch.Tensor | None = None, small: type[Linear] = Linear
) -> Linear:
    """An int8 layer where that pays, a float32 one (``small``) where it is too small."""
    kind = Int8Linear if weight.numel() >= SMALLEST else small
    return kind(weight, bias)


def _pack(rounded: torch.Tensor, scale: torch.Tensor) -> torch.ScriptObject:
    """FBGEMM's blocked layout of int8 weights [out, in]. Which library packs is a setting of the
    process; it is put back."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        with warnings.catch_warnings():  # torch's quantized tensors are called old
            warnings.simplefilter("ignore")
            zeros = torch.zeros(len(scale), dtype=torch.long)
            tensor = torch._make_per_channel_quantized_tensor(rounded, scale.double(), zeros, 0)
            return torch.ops.quantized.linear_prepack(tensor, None)
    finally:
        torch.backends.quantized.engine = before
