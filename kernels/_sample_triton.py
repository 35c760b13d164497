"""The Triton kernels of :mod:`.sample`: scan, collect, pick.

``stats`` is float32 [rows, 5, blocks]: of each block of a row's logits the largest, the sum of
exp(x - largest), the same two where the mask allows, and the sum of exp((x - largest) / T) there.
"""

import triton
import triton.language as tl

LARGEST, SUM, LARGEST_ALLOWED, SUM_ALLOWED, SUM_HEATED = (tl.constexpr(i) for i in range(5))
STATS = tl.constexpr(5)
NOTHING = tl.constexpr(-float("inf"))
NO_TOKEN = tl.constexpr(2**31 - 1)
FIXED = tl.constexpr(2.0**44)
"""A probability of 1 as a fixed-point number. Sums of those are exact in any order."""
COUNT = tl.constexpr(2**46)
"""One token, counted above the mass in one packed sum."""


@triton.jit
def _logits_of(logits, bits, tokens, inside, MASKED: tl.constexpr):
    """Raw and masked logits of some tokens of a row."""
    x = tl.load(logits + tokens, mask=inside, other=NOTHING).to(tl.float32)
    if MASKED:
        words = tl.load(bits + tokens // 32, mask=inside, other=0)
        return x, tl.where(((words >> (tokens % 32)) & 1) == 1, x, NOTHING)
    else:
        return x, x


@triton.jit
def _bin(x, LOWEST: tl.constexpr, PER_UNIT: tl.constexpr, BINS: tl.constexpr):
    """Which bin of the histogram a finite logit falls in; the outer ones are open."""
    scaled = tl.minimum(tl.maximum((x - LOWEST) * PER_UNIT, 0.0), BINS - 1.0)
    return scaled.to(tl.int32)


@triton.jit
def _total(stats, blocks, largest: tl.constexpr, which: tl.constexpr, T, BLOCK_C: tl.constexpr):
    """A row's largest logit and its sum of exp((x - largest) / T), from the blocks'."""
    block = tl.arange(0, BLOCK_C)
    inside = block < blocks
    tops = tl.load(stats + largest * blocks + block, mask=inside, other=NOTHING)
    sums = tl.load(stats + which * blocks + block, mask=inside, other=0.0)
    top = tl.max(tops, 0)
    base = tl.where(top == NOTHING, 0.0, top)
    return top, tl.sum(sums * tl.exp((tops - base) / T), 0)


@triton.jit
def _probability(x, top, T, total):
    """Softmax of logits at temperature T."""
    return tl.div_rn(tl.exp(tl.div_rn(x, T) - tl.div_rn(top, T)), total)


@triton.jit
def _race(p, tokens, table, multiplier, offset):
    """(score, token) of the largest p / e, e the token's Exp(1) noise; the lowest id on ties."""
    alive = p > 0
    mixed = tl.load(table + tokens, mask=alive, other=0) * multiplier + offset
    upper = (mixed >> 32).to(tl.float64)  # -2**31 .. 2**31 - 1
    uniform = (upper + 2147483648.5) * 2.3283064365386963e-10  # inside (0, 1)
    score = tl.where(alive, p.to(tl.float64) / -tl.log(uniform), -1.0)
    best = tl.max(score, 0)
    return best, tl.min(tl.where(score == best, tokens, NO_TOKEN), 0)


@triton.jit
def _packed(p):
    """Count and mass of probabilities as one integer, to be summed."""
    fixed = (p.to(tl.float64) * FIXED).to(tl.int64)
    return tl.where(p > 0, fixed + COUNT, 0)


@triton.jit
def _stays(packed, k, top_p):
    """Whether a token stays when those above it sum to ``packed``."""
    mass = (packed % COUNT).to(tl.float64) / FIXED
    return (packed // COUNT < k) & ((mass < top_p) | (top_p >= 1))


@triton.jit
def scan_kernel(
    logits,
    bits,
    temperature,
    filtered,
    stats,
    greedy,
    counts,
    vocab,
    logits_stride,
    bits_stride,
    counts_stride,
    BLOCK: tl.constexpr,
    BINS: tl.constexpr,
    LOWEST: tl.constexpr,
    PER_UNIT: tl.constexpr,
    MASKED: tl.constexpr,
):
    """One block of one row: its statistics, its likeliest token, and its part of the row's
    histogram."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    tokens = block * BLOCK + tl.arange(0, BLOCK)
    inside = tokens < vocab
    raw, x = _logits_of(
        logits + row * logits_stride, bits + row * bits_stride, tokens, inside, MASKED
    )
    heat = tl.load(temperature + row)
    heat = tl.where(heat == 0, 1.0, heat)
    stats += row * STATS * blocks + block
    top = tl.max(raw, 0)
    base = tl.where(top == NOTHING, 0.0, top)
    tl.store(stats + LARGEST * blocks, top)
    tl.store(stats + SUM * blocks, tl.sum(tl.exp(raw - base), 0))
    top = tl.max(x, 0)
    base = tl.where(top == NOTHING, 0.0, top)
    tl.store(stats + LARGEST_ALLOWED * blocks, top)
    tl.store(stats + SUM_ALLOWED * blocks, tl.sum(tl.exp(x - base), 0))
    tl.store(stats + SUM_HEATED * blocks, tl.sum(tl.exp((x - base) / heat), 0))
    first = tl.min(tl.where((x == top) & (x > NOTHING), tokens, NO_TOKEN), 0)
    tl.store(greedy + row * blocks + block, first)
    if tl.load(filtered + row) != 0:
        finite = (x > NOTHING) & (x < -NOTHING)
        bins = _bin(tl.where(finite, x, 0.0), LOWEST, PER_UNIT, BINS)
        found = tl.histogram(bins, BINS, mask=finite)
        place = counts + row * counts_stride + tl.arange(0, BINS)
        tl.atomic_add(place, found, mask=found > 0, sem="relaxed")


@triton.jit
def collect_kernel(
    logits,
    bits,
    temperature,
    filtered,
    keys,
    table,
    stats,
    counts,
    candidates,
    scores,
    winners,
    vocab,
    logits_stride,
    bits_stride,
    counts_stride,
    WIDTH: tl.constexpr,
    CAP: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BINS: tl.constexpr,
    LOWEST: tl.constexpr,
    PER_UNIT: tl.constexpr,
    MASKED: tl.constexpr,
):
    """One block of one row. Without filters: the race among its tokens. With filters: its tokens
    that are among the row's WIDTH likeliest go to the row's candidates."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    heat = tl.load(temperature + row)
    if heat == 0:
        return
    tokens = block * BLOCK + tl.arange(0, BLOCK)
    inside = tokens < vocab
    _, x = _logits_of(
        logits + row * logits_stride, bits + row * bits_stride, tokens, inside, MASKED
    )
    if tl.load(filtered + row) == 0:
        stats += row * STATS * blocks
        top, total = _total(stats, blocks, LARGEST_ALLOWED, SUM_HEATED, heat, BLOCK_C)
        p = _probability(x, top, heat, total)
        best, winner = _race(p, tokens, table, tl.load(keys + row * 2), tl.load(keys + row * 2 + 1))
        tl.store(scores + row * blocks + block, best)
        tl.store(winners + row * blocks + block, winner)
    else:
        bins = tl.arange(0, BINS)
        counts += row * counts_stride
        found = tl.load(counts + bins)
        from_here = tl.sum(found, 0) - tl.cumsum(found, 0) + found  # in this bin and above
        least = tl.max(tl.where(from_here >= WIDTH, bins, 0), 0)
        finite = (x > NOTHING) & (x < -NOTHING)
        keep = finite & (_bin(tl.where(finite, x, 0.0), LOWEST, PER_UNIT, BINS) >= least)
        n = tl.sum(keep.to(tl.int32), 0)
        if n > 0:
            at = tl.atomic_add(counts + BINS, n, sem="relaxed")
            place = at + tl.cumsum(keep.to(tl.int32), 0) - 1
            tl.store(candidates + row * CAP + place, tokens, mask=keep & (place < CAP))


@triton.jit
def _likeliest(stats, greedy, top, blocks, BLOCK_C: tl.constexpr):
    """The lowest of the ids with the row's largest logit."""
    block = tl.arange(0, BLOCK_C)
    inside = block < blocks
    tops = tl.load(stats + LARGEST_ALLOWED * blocks + block, mask=inside, other=NOTHING)
    ids = tl.load(greedy + block, mask=inside, other=NO_TOKEN)
    return tl.min(tl.where(tops == top, ids, NO_TOKEN), 0)


@triton.jit
def _first_home(scores, winners, blocks, BLOCK_C: tl.constexpr):
    """The winner of the races in a row's blocks."""
    block = tl.arange(0, BLOCK_C)
    inside = block < blocks
    score = tl.load(scores + block, mask=inside, other=-1.0)
    ids = tl.load(winners + block, mask=inside, other=NO_TOKEN)
    return tl.min(tl.where(score == tl.max(score, 0), ids, NO_TOKEN), 0)


@triton.jit
def _draw_filtered(
    logits,
    bits,
    counts,
    candidates,
    table,
    keys,
    heat,
    top,
    total,
    k,
    top_p,
    min_p,
    vocab,
    CAP: tl.constexpr,
    BINS: tl.constexpr,
    MASKED: tl.constexpr,
):
    """A draw from one row under its filters."""
    largest = _probability(top, top, heat, total)
    least_p = min_p * largest
    k = tl.where(k > 0, k, vocab).to(tl.int64)
    multiplier, offset = tl.load(keys), tl.load(keys + 1)
    finite = tl.sum(tl.load(counts + tl.arange(0, BINS)), 0)
    n = tl.load(counts + BINS)

    # The candidates, in registers.
    i = tl.arange(0, CAP)
    ids = tl.load(candidates + i, mask=i < n, other=0)
    x = tl.load(logits + ids, mask=i < n, other=NOTHING).to(tl.float32)
    p = _probability(x, top, heat, total)
    p_bits = p.to(tl.int32, bitcast=True)
    packed = _packed(p)
    # Whatever is no candidate is less likely than all of them. If they are all there is, or a
    # filter ends among them, nothing else matters.
    enough = (n == finite) | (_stays(tl.sum(packed, 0), k, top_p) == 0)
    enough = enough | (tl.min(tl.where(i < n, p, 2.0), 0) < least_p)
    low = 0
    high = largest.to(tl.int32, bitcast=True)
    token = NO_TOKEN
    if (n <= CAP) & enough:
        while low < high:  # the least probability (as bits) whose tokens stay
            middle = low + (high - low) // 2
            if _stays(tl.sum(tl.where(p_bits > middle, packed, 0), 0), k, top_p):
                high = middle
            else:
                low = middle + 1
        stays = (p_bits >= low) & (p >= least_p)
        _, token = _race(tl.where(stays, p, 0.0), ids, table, multiplier, offset)
    else:  # the same over the whole row: flat distributions, rarely
        while low < high:
            middle = low + (high - low) // 2
            above = tl.zeros([CAP], tl.int64)
            for at in range(0, vocab, CAP):
                _, y = _logits_of(logits, bits, at + i, at + i < vocab, MASKED)
                z = _probability(y, top, heat, total)
                above += tl.where(z.to(tl.int32, bitcast=True) > middle, _packed(z), 0)
            if _stays(tl.sum(above, 0), k, top_p):
                high = middle
            else:
                low = middle + 1
        best = tl.full([], -1.0, tl.float64)
        for at in range(0, vocab, CAP):
            _, y = _logits_of(logits, bits, at + i, at + i < vocab, MASKED)
            z = _probability(y, top, heat, total)
            stays = (z.to(tl.int32, bitcast=True) >= low) & (z >= least_p)
            score, winner = _race(tl.where(stays, z, 0.0), at + i, table, multiplier, offset)
            token = tl.where(score > best, winner, token)
            best = tl.maximum(best, score)
    return token


@triton.jit
def pick_kernel(
    logits,
    bits,
    temperature,
    filtered,
    top_ks,
    top_ps,
    min_ps,
    keys,
    table,
    stats,
    counts,
    candidates,
    greedy,
    scores,
    winners,
    out,
    logprobs,
    masses,
    vocab,
    blocks,
    logits_stride,
    bits_stride,
    counts_stride,
    CAP: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BINS: tl.constexpr,
    MASKED: tl.constexpr,
):
    """One row: its token."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * logits_stride
    bits += row * bits_stride
    stats += row * STATS * blocks
    heat = tl.load(temperature + row)
    top, raw_total = _total(stats, blocks, LARGEST, SUM, 1.0, BLOCK_C)
    norm = top + tl.log(raw_total)
    top, allowed = _total(stats, blocks, LARGEST_ALLOWED, SUM_ALLOWED, 1.0, BLOCK_C)
    if heat == 0:
        token = _likeliest(stats, greedy + row * blocks, top, blocks, BLOCK_C)
    elif tl.load(filtered + row) == 0:
        token = _first_home(scores + row * blocks, winners + row * blocks, blocks, BLOCK_C)
    else:
        heated_top, total = _total(stats, blocks, LARGEST_ALLOWED, SUM_HEATED, heat, BLOCK_C)
        counts += row * counts_stride
        token = _draw_filtered(
            logits, bits, counts, candidates + row * CAP, table, keys + row * 2, heat, heated_top,
            total, tl.load(top_ks + row), tl.load(top_ps + row), tl.load(min_ps + row), vocab,
            CAP, BINS, MASKED,
        )  # fmt: skip

    sound = (norm == norm) & (tl.abs(norm) < -NOTHING) & (top > NOTHING)
    sound = sound & (token >= 0) & (token < vocab)
    tl.store(out + row, tl.where(sound, token, -1).to(tl.int64))
    chosen = tl.load(logits + tl.where(sound, token, 0)).to(tl.float32)
    tl.store(logprobs + row, chosen - norm)
    tl.store(masses + row, tl.exp(top + tl.log(allowed) - norm))
