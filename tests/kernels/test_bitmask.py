"""The packed-mask reference against plain Python."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sglnb.kernels.bitmask import apply_bitmask


@given(
    vocab=st.integers(1, 100),
    words=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=8, max_size=8),
)
def test_reference_reads_bit_i_of_word_i(vocab, words):
    width = -(-vocab // 32)
    bits = torch.tensor([words[:width], words[4 : 4 + width]], dtype=torch.int32)
    out = apply_bitmask(torch.zeros(2, vocab), bits)
    for row in range(2):
        for i in range(vocab):
            allowed = (int(bits[row, i // 32]) >> (i % 32)) & 1
            assert out[row, i] == (0.0 if allowed else float("-inf"))


def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"bits: must be \(2, 2\), got \(2, 1\)"):
        apply_bitmask(torch.zeros(2, 33), torch.zeros(2, 1, dtype=torch.int32))
