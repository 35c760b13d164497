"""The Triton kernel of :mod:`.items`: work items of ragged rows, made on the GPU from the rows'
lengths, so that a captured graph plans anew at each replay.

Every program goes over all rows, works out how many items and partial results each has, and
writes BLOCK_T items and BLOCK_T entries of the merge table.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows", "items_used", "tokens"])
def plan_kernel(
    qo_indptr,
    kv_indptr,
    items,
    merge_indptr,
    rows,
    items_used,
    tokens,
    window,
    programs,
    least_chunk,
    G: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    ONE_EACH: tl.constexpr,
    SPLIT: tl.constexpr,
):
    row = tl.arange(0, BLOCK_B)
    inside = row < rows
    if ONE_EACH:
        q_begin = row
        q_end = row + 1
    else:
        q_begin = tl.load(qo_indptr + row, mask=inside, other=0)
        q_end = tl.load(qo_indptr + row + 1, mask=inside, other=0)
    count = tl.where(inside, q_end - q_begin, 0)
    end = tl.load(kv_indptr + row + 1, mask=inside, other=0)
    begin = tl.load(kv_indptr + row, mask=inside, other=0)
    begin = tl.maximum(begin, end - count - window + 1)
    length = tl.where(count > 0, end - begin, 0)
    tiles = tl.cdiv(count * G, BLOCK_M)
    if SPLIT:
        work = tl.sum(tiles.to(tl.int64) * length, 0)
        chunk = tl.maximum(tl.cdiv(work, programs).to(tl.int32), least_chunk)
        chunk = tl.cdiv(chunk, BLOCK_N) * BLOCK_N
        chunks = tl.cdiv(length, chunk)
    else:
        chunk = 0
        chunks = (length > 0).to(tl.int32)
    n_items = tiles * chunks
    n_parts = count * chunks
    stop = tl.cumsum(n_items, 0)  # items up to and with each row

    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    done = stop[None, :] <= t[:, None]  # [t, row]: all items of the row come before t
    r = tl.sum(done.to(tl.int32), 1)
    used = r < rows
    local = t - tl.max(tl.where(done, stop[None, :], 0), 1)
    part = tl.sum(tl.where(done, n_parts[None, :], 0), 1)
    mine = row[None, :] == r[:, None]
    r_first = tl.sum(tl.where(mine, q_begin[None, :], 0), 1)
    r_count = tl.sum(tl.where(mine, count[None, :], 0), 1)
    r_begin = tl.sum(tl.where(mine, begin[None, :], 0), 1)
    r_end = tl.sum(tl.where(mine, end[None, :], 0), 1)
    r_chunks = tl.maximum(tl.sum(tl.where(mine, chunks[None, :], 0), 1), 1)
    piece = local % r_chunks
    k_begin = r_begin + piece * chunk
    k_end = tl.minimum(k_begin + chunk, r_end) if SPLIT else r_end
    write = t < items_used
    item = items + t * 8
    tl.store(item, r_first, mask=write)
    tl.store(item + 1, tl.where(used, r_count, 0), mask=write)
    tl.store(item + 2, local // r_chunks, mask=write)
    tl.store(item + 3, k_begin, mask=write)
    tl.store(item + 4, k_end, mask=write)
    tl.store(item + 5, r_end - r_count, mask=write)
    tl.store(item + 6, part + piece, mask=write)
    tl.store(item + 7, r_chunks, mask=write)
    if SPLIT:  # query t merges the parts [merge_indptr[t], merge_indptr[t + 1])
        past = (q_end[None, :] <= t[:, None]) & inside[None, :]
        within = inside[None, :] & (q_begin[None, :] <= t[:, None]) & ~past
        offset = tl.where(within, (t[:, None] - q_begin[None, :]) * chunks[None, :], 0)
        before = tl.sum(tl.where(past, n_parts[None, :], 0) + offset, 1)
        tl.store(merge_indptr + t, before, mask=t <= tokens)
