"""Apply packed token masks to logits.

A mask is int32 words [rows, ceil(vocab / 32)]: bit i % 32 of word i // 32 says whether token i may
come (the layout of xgrammar, llguidance and vLLM).
"""

from __future__ import annotations

import torch

from ._device import uses_triton


def apply_bitmask(logits: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Set the logits of forbidden tokens to -inf, in place.

    Args:
        logits: [rows, vocab], float32 or half.
        bits: int32 [rows, ceil(vocab / 32)], on the same device.

    Returns:
        ``logits``.

    Raises:
        ValueError: the shapes do not fit.
    """
    rows, vocab = logits.shape
    if bits.shape != (rows, -(-vocab // 32)):
        raise ValueError(f"bits: must be {(rows, -(-vocab // 32))}, got {tuple(bits.shape)}")
    if uses_triton(logits):
        return _launch(logits, bits)
    return apply_bitmask_reference(logits, bits)


def apply_bitmask_reference(logits: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """The same by torch operations."""
    shifts = torch.arange(32, dtype=torch.int32, device=bits.device)
    allowed = (bits[:, :, None] >> shifts) & 1
    allowed = allowed.view(len(bits), -1)[:, : logits.shape[1]].bool()
    return logits.masked_fill_(~allowed, float("-inf"))


def _launch(logits: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    import triton

    from ._bitmask_triton import BLOCK, apply_bitmask_kernel

    rows, vocab = logits.shape
    grid = (rows, triton.cdiv(vocab, BLOCK))
    apply_bitmask_kernel[grid](logits, bits, vocab, logits.stride(0), bits.stride(0), BLOCK=BLOCK)
    return logits
