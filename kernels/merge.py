"""Merge partial attention results by their log-sum-exp.

Source: FlashDecoding's second pass; FlashInfer, "cascade", `merge_states`. Limit: the partial
results are read once and the results written once, 4 * head size bytes for each part and head.
"""

from __future__ import annotations

import torch

from ._device import overlap, uses_triton
from .items import Partials

BLOCK_P = 16
"""Parts merged in one step."""


def merge_states(
    partials: Partials,
    indptr: torch.Tensor,
    indices: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over the union of disjoint sets of keys, from the results over each set.

    Args:
        partials: out [P, heads, head size] float32 and lse [P, heads]. An lse of -inf says that
            the part saw nothing; its values are not read.
        indptr: int32 [N + 1] parts of each query; a query without parts gives zeros and -inf.
        indices: int32 [nnz] part numbers; None: ``indptr`` counts the parts themselves.
        out: [N, heads, head size], written.
        lse: [N, heads] float32, written.

    Returns:
        ``out``, ``lse``.
    """
    if not uses_triton(out):
        return merge_states_reference(partials, indptr, indices, out, lse)
    import triton

    from ._merge_triton import merge_kernel

    n, heads, head_dim = out.shape
    merge_kernel[(n, heads)](
        partials.out,
        partials.lse,
        indptr,
        indptr if indices is None else indices,
        out,
        lse,
        D=head_dim,
        BLOCK_D=max(16, triton.next_power_of_2(head_dim)),
        BLOCK_P=BLOCK_P,
        LISTED=indices is not None,
        num_warps=4 if head_dim >= 64 else 1,
        **overlap(out),
    )
    return out, lse


def merge_states_reference(
    partials: Partials,
    indptr: torch.Tensor,
    indices: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by torch operations."""
    bounds = indptr.tolist()
    for query in range(len(out)):
        where: slice | torch.Tensor = slice(bounds[query], bounds[query + 1])
        if indices is not None:
            where = indices[where].long()
        part_lse = partials.lse[where]
        whole = part_lse.logsumexp(0)
        weights = torch.exp(part_lse - whole.masked_fill(whole == float("-inf"), 0.0))
        values = partials.out[where].masked_fill((weights == 0)[..., None], 0.0)
        out[query] = (values * weights[..., None]).sum(0).to(out.dtype)
        lse[query] = whole
    return out, lse
