"""Attention of one query a row over its paged keys: extend with one new token.

Source: FlashDecoding (Dao et al. 2023): the keys are cut into chunks that run side by side and are
merged by a second pass. Here the chunks of all rows have one length, chosen on the device from the
batch's whole length, so rows of unlike lengths balance and a captured graph fits any lengths.
Limit: the keys and values of every row are read once, 2 * key heads * head size * itemsize bytes
a position.
"""

from __future__ import annotations

import torch

from .attend import Scores
from .extend import extend_attention
from .items import Heads, RowPlan


def decode_plan(
    rows: int, heads: Heads, device: torch.device, programs: int | None = None
) -> RowPlan:
    """A plan for ``rows`` decoding rows; fill it with their ``kv_indptr`` before each step."""
    return RowPlan(rows, rows, heads, device, one_each=True, programs=programs, split=True)


def decode_attention(
    plan: RowPlan,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    kv_indices: torch.Tensor,
    scores: Scores,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend: q [B, query heads, head size], the rest as
    :func:`~sglnb.kernels.extend.extend_attention`. Rows without keys (a padded batch) give zeros
    and -inf."""
    return extend_attention(plan, q, k, v, kv_indices, scores, out, lse)
