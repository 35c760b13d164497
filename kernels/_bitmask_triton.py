"""The Triton kernel of :mod:`.bitmask`. One program clears one block of one row; a block whose
tokens are all allowed is not written."""

import triton
import triton.language as tl

BLOCK = 4096


@triton.jit
def apply_bitmask_kernel(logits, bits, vocab, logits_stride, bits_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = token < vocab
    words = tl.load(bits + row * bits_stride + token // 32, mask=inside, other=-1)
    forbidden = ((words >> (token % 32)) & 1) == 0
    tl.store(logits + row * logits_stride + token, float("-inf"), mask=inside & forbidden)
