"""The Triton kernels of :mod:`.sample`: scan, race, check (several times) and pick.

``stats`` is float32 [rows, 5, blocks]: of each block of a row's logits the largest, the sum of
exp(x - largest), the same two where the mask allows, and the sum of exp((x - largest) / T) there.

``heated`` is float32 [rows, 2]: of each row the largest logit that the mask allows and
1 / sum of exp((x - largest) / T), written once: summed again by another kernel, the last bit of
the sum could differ.

``state`` is int32 [rows, 5]: where the search for a row's token stands (see :mod:`.sample`). All
probabilities in it are the bits of a float32, which order as the numbers do.

    low     the candidate's probability: what the blocks' counts ``a`` are above of
    middle  between it and ``high``: what the counts ``b`` are above of
    high    the least probability known to stay
    token   the candidate
    done    1: it is the row's token

What the blocks found for a state is in ``counts`` int32, ``masses`` int64, ``scores`` float64 and
``winners`` int32, each [rows, 2, blocks]: of the tokens above ``low`` (0) and ``middle`` (1).
"""

import triton
import triton.language as tl

LARGEST, SUM, LARGEST_ALLOWED, SUM_ALLOWED, SUM_HEATED = (tl.constexpr(i) for i in range(5))
STATS = tl.constexpr(5)
LOW, MIDDLE, HIGH, TOKEN, DONE = (tl.constexpr(i) for i in range(5))
STATE = tl.constexpr(5)
NOTHING = tl.constexpr(-float("inf"))
NO_TOKEN = tl.constexpr(2**31 - 1)
FIXED = tl.constexpr(2.0**62)
"""A probability of 1 as a fixed-point number. Sums of those are exact in any order."""
NO_LIMIT = tl.constexpr(2**63 - 1)
NEARLY = tl.constexpr(1 - 2e-5)
"""Float32 scores this close to the largest are computed exactly; their error is below 5e-6."""
HOPELESS = tl.constexpr(1e-10)
"""No row is won with a score of less: the likeliest of 2**22 tokens alone scores 1e-8 or more."""


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
def _probability(x, top, T, inverse):
    """Softmax of logits at temperature T, ``inverse`` being 1 / the sum; the same for the same
    logit wherever it is computed."""
    return tl.exp(tl.div_rn(x, T) - tl.div_rn(top, T)) * inverse


@triton.jit
def _upper(table, tokens, multiplier, offset, mask):
    """The noise's random bits of some tokens: -2**31 .. 2**31 - 1."""
    return (tl.load(table + tokens, mask=mask, other=0) * multiplier + offset) >> 32


@triton.jit
def _rough_score(p, upper):
    """p / e in float32, to within 5e-6 of it. e is -log(u); near u = 1, where the winners are, a
    float32 cannot hold u, and 1 - u is taken."""
    v = ((2147483647 - upper).to(tl.float32) + 0.5) * 2.3283064365386963e-10  # 1 - u
    series = v * (1 + v * (0.5 + v * (0.33333334 + v * (0.25 + v * 0.2))))
    u = (upper.to(tl.float32) + 2147483648.5) * 2.3283064365386963e-10
    return p / tl.where(v < 0.0625, series, -tl.log(tl.maximum(u, 1e-10)))


@triton.jit
def _race(rough, tokens, logits, table, multiplier, offset, top, T, inverse):
    """(score, token) of the largest p / e of some tokens, e the token's Exp(1) noise; the lowest id
    on ties. Exact: those whose rough scores are near the best, mostly one, are computed in
    float64."""
    close = rough >= tl.maximum(tl.max(rough, 0) * NEARLY, HOPELESS)
    best = tl.full([], -1.0, tl.float64)
    winner = tl.full([], NO_TOKEN, tl.int32)
    token = tl.min(tl.where(close, tokens, NO_TOKEN), 0)
    while token < NO_TOKEN:
        p = _probability(tl.load(logits + token).to(tl.float32), top, T, inverse)
        upper = (tl.load(table + token) * multiplier + offset) >> 32
        uniform = (upper.to(tl.float64) + 2147483648.5) * 2.3283064365386963e-10  # inside (0, 1)
        score = p.to(tl.float64) / -tl.log(uniform)
        winner = tl.where(score > best, token, winner)
        best = tl.maximum(best, score)
        token = tl.min(tl.where(close & (tokens > token), tokens, NO_TOKEN), 0)
    return best, winner


@triton.jit
def _count(p, above):
    """Number and mass of the probabilities where ``above``."""
    mass = tl.where(above, (p * FIXED).to(tl.int64), 0)
    return tl.sum(above.to(tl.int32), 0), tl.sum(mass, 0)


@triton.jit
def _measure(
    logits,
    bits,
    table,
    keys,
    block,
    low,
    middle,
    T,
    top,
    inverse,
    vocab,
    BLOCK: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Count, mass, and the race's score and winner of a block's tokens above ``low``; and of those
    above ``middle``."""
    multiplier, offset = tl.load(keys), tl.load(keys + 1)
    tokens = block * BLOCK + tl.arange(0, BLOCK)
    _, x = _logits_of(logits, bits, tokens, tokens < vocab, MASKED)
    p = _probability(x, top, T, inverse)
    above = p.to(tl.int32, bitcast=True) > low
    higher = p.to(tl.int32, bitcast=True) > middle
    count_a, mass_a = _count(p, above)
    count_b, mass_b = _count(p, higher)
    rough = _rough_score(p, _upper(table, tokens, multiplier, offset, above))
    score_a, winner_a = _race(
        tl.where(above, rough, 0.0), tokens, logits, table, multiplier, offset, top, T, inverse
    )
    score_b = score_a
    winner_b = winner_a
    if _bits_of(winner_a, logits, vocab, top, T, inverse) <= middle:
        score_b, winner_b = _race(
            tl.where(higher, rough, 0.0), tokens, logits, table, multiplier, offset, top, T, inverse
        )
    return count_a, mass_a, score_a, winner_a, count_b, mass_b, score_b, winner_b


@triton.jit
def _bits_of(token, logits, vocab, top, T, inverse):
    """A token's probability as bits."""
    x = tl.load(logits + tl.minimum(token, vocab - 1)).to(tl.float32)
    return _probability(x, top, T, inverse).to(tl.int32, bitcast=True)


@triton.jit
def _filters(top_k, top_p, vocab):
    """top-k and top-p as numbers that no count and no mass reaches if there is no filter."""
    k = tl.where(top_k > 0, top_k, vocab)
    limit = tl.full([], NO_LIMIT, tl.int64)
    if top_p < 1:
        limit = (top_p * FIXED).to(tl.int64)
    return k, limit


@triton.jit
def _step(
    low_stays,
    middle_stays,
    above_low,
    above_middle,
    middle,
    high,
    token,
    logits,
    vocab,
    top,
    T,
    inverse,
):
    """The next (low, middle, high, token, done), from whether tokens as likely as ``low`` and
    ``middle`` stay, and the winners above each."""
    high = tl.where(middle_stays, middle, high)
    token = tl.where(low_stays, token, tl.where(middle_stays, above_low, above_middle))
    low = _bits_of(token, logits, vocab, top, T, inverse)
    done = low_stays | (low >= high) | (token == NO_TOKEN)
    return low, low + (high - low) // 2, high, token, done


@triton.jit
def _first_home(scores, winners, blocks, BLOCK_C: tl.constexpr):
    """The winner of the races in a row's blocks."""
    block = tl.arange(0, BLOCK_C)
    inside = block < blocks
    score = tl.load(scores + block, mask=inside, other=-1.0)
    ids = tl.load(winners + block, mask=inside, other=NO_TOKEN)
    return tl.min(tl.where(score == tl.max(score, 0), ids, NO_TOKEN), 0)


@triton.jit
def _sum_of(place, blocks, BLOCK_C: tl.constexpr):
    """Sum of what the blocks counted."""
    block = tl.arange(0, BLOCK_C)
    return tl.sum(tl.load(place + block, mask=block < blocks, other=0), 0)


@triton.jit
def _decide(
    state,
    counts,
    masses,
    scores,
    winners,
    logits,
    vocab,
    blocks,
    k,
    limit,
    top,
    T,
    inverse,
    BLOCK_C: tl.constexpr,
    FIRST: tl.constexpr,
):
    """The next state of a row from its last one and what its blocks found."""
    above_low = _first_home(scores, winners, blocks, BLOCK_C)
    above_middle = above_low
    if FIRST:  # nothing is counted yet: ``middle`` is what stays in any case
        low_stays = tl.full([], 0, tl.int1)
        middle_stays = tl.full([], 1, tl.int1)
    else:
        above_middle = _first_home(scores + blocks, winners + blocks, blocks, BLOCK_C)
        count = _sum_of(counts, blocks, BLOCK_C)
        low_stays = (count < k) & (_sum_of(masses, blocks, BLOCK_C) < limit)
        count = _sum_of(counts + blocks, blocks, BLOCK_C)
        middle_stays = (count < k) & (_sum_of(masses + blocks, blocks, BLOCK_C) < limit)
    return _step(
        low_stays,
        middle_stays,
        above_low,
        above_middle,
        tl.load(state + MIDDLE),
        tl.load(state + HIGH),
        tl.load(state + TOKEN),
        logits,
        vocab,
        top,
        T,
        inverse,
    )


@triton.jit
def _store_state(state, low, middle, high, token, done):
    tl.store(state + LOW, low)
    tl.store(state + MIDDLE, middle)
    tl.store(state + HIGH, high)
    tl.store(state + TOKEN, token)
    tl.store(state + DONE, done)


@triton.jit
def scan_kernel(
    logits,
    bits,
    temperature,
    stats,
    greedy,
    vocab,
    logits_stride,
    bits_stride,
    BLOCK: tl.constexpr,
    MASKED: tl.constexpr,
):
    """One block of one row: its statistics, and its likeliest token."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    tokens = block * BLOCK + tl.arange(0, BLOCK)
    raw, x = _logits_of(
        logits + row * logits_stride, bits + row * bits_stride, tokens, tokens < vocab, MASKED
    )
    heat = tl.load(temperature + row)
    stats += row * STATS * blocks + block
    top = tl.max(raw, 0)
    base = tl.where(top == NOTHING, 0.0, top)
    total = tl.sum(tl.exp(raw - base), 0)
    tl.store(stats + LARGEST * blocks, top)
    tl.store(stats + SUM * blocks, total)
    if MASKED:
        top = tl.max(x, 0)
        base = tl.where(top == NOTHING, 0.0, top)
        total = tl.sum(tl.exp(x - base), 0)
    tl.store(stats + LARGEST_ALLOWED * blocks, top)
    tl.store(stats + SUM_ALLOWED * blocks, total)
    if heat == 0:
        first = tl.min(tl.where((x == top) & (x > NOTHING), tokens, NO_TOKEN), 0)
        tl.store(greedy + row * blocks + block, first)
    else:
        tl.store(stats + SUM_HEATED * blocks, tl.sum(tl.exp((x - base) * (1 / heat)), 0))


@triton.jit
def race_kernel(
    logits,
    bits,
    temperature,
    top_ks,
    top_ps,
    min_ps,
    keys,
    table,
    stats,
    heated,
    state,
    scores,
    winners,
    vocab,
    logits_stride,
    bits_stride,
    BLOCK: tl.constexpr,
    BLOCK_C: tl.constexpr,
    MASKED: tl.constexpr,
):
    """One block of one row: the race among the tokens that min-p leaves, and the search's start."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    blocks = tl.num_programs(1)
    heat = tl.load(temperature + row)
    if heat == 0:
        return
    logits += row * logits_stride
    top, total = _total(
        stats + row * STATS * blocks, blocks, LARGEST_ALLOWED, SUM_HEATED, heat, BLOCK_C
    )
    inverse = tl.div_rn(1.0, total)
    largest = _probability(top, top, heat, inverse)
    if block == 0:
        tl.store(heated + row * 2, top)
        tl.store(heated + row * 2 + 1, inverse)
        k, limit = _filters(tl.load(top_ks + row), tl.load(top_ps + row), vocab)
        limited = (k < vocab) | (limit < NO_LIMIT)
        high = tl.where(limited, largest.to(tl.int32, bitcast=True), 0)
        _store_state(state + row * STATE, 0, high, high, NO_TOKEN, 0)
    least = tl.load(min_ps + row) * largest
    low = tl.maximum(least.to(tl.int32, bitcast=True) - 1, 0)
    multiplier, offset = tl.load(keys + row * 2), tl.load(keys + row * 2 + 1)
    tokens = block * BLOCK + tl.arange(0, BLOCK)
    _, x = _logits_of(logits, bits + row * bits_stride, tokens, tokens < vocab, MASKED)
    p = _probability(x, top, heat, inverse)
    above = p.to(tl.int32, bitcast=True) > low
    rough = _rough_score(p, _upper(table, tokens, multiplier, offset, above))
    score, winner = _race(
        tl.where(above, rough, 0.0), tokens, logits, table, multiplier, offset, top, heat, inverse
    )
    place = row * 2 * blocks + block
    tl.store(scores + place, score)
    tl.store(winners + place, winner)


@triton.jit
def check_kernel(
    logits,
    bits,
    temperature,
    top_ks,
    top_ps,
    keys,
    table,
    heated,
    old_state,
    old_counts,
    old_masses,
    old_scores,
    old_winners,
    state,
    counts,
    masses,
    scores,
    winners,
    vocab,
    blocks,
    logits_stride,
    bits_stride,
    BLOCK: tl.constexpr,
    BLOCK_C: tl.constexpr,
    MASKED: tl.constexpr,
    FIRST: tl.constexpr,
):
    """Some blocks of one row: count what is likelier than the candidate, and race again among
    it. All programs of a row find the same state; one writes it."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    heat = tl.load(temperature + row)
    if heat == 0:
        return
    old_state += row * STATE
    state += row * STATE
    if tl.load(old_state + DONE) != 0:
        if part == 0:
            _store_state(state, 0, 0, 0, tl.load(old_state + TOKEN), 1)
        return
    logits += row * logits_stride
    bits += row * bits_stride
    at = row * 2 * blocks
    top, inverse = tl.load(heated + row * 2), tl.load(heated + row * 2 + 1)
    k, limit = _filters(tl.load(top_ks + row), tl.load(top_ps + row), vocab)
    low, middle, high, token, done = _decide(
        old_state, old_counts + at, old_masses + at, old_scores + at, old_winners + at,
        logits, vocab, blocks, k, limit, top, heat, inverse, BLOCK_C, FIRST,
    )  # fmt: skip
    if part == 0:
        _store_state(state, low, middle, high, token, done.to(tl.int32))
    if done:
        return
    for block in range(part, blocks, tl.num_programs(1)):
        count_a, mass_a, score_a, winner_a, count_b, mass_b, score_b, winner_b = _measure(
            logits, bits, table, keys + row * 2, block, low, middle, heat, top, inverse, vocab,
            BLOCK, MASKED,
        )  # fmt: skip
        place = at + block
        tl.store(counts + place, count_a)
        tl.store(masses + place, mass_a)
        tl.store(scores + place, score_a)
        tl.store(winners + place, winner_a)
        place += blocks
        tl.store(counts + place, count_b)
        tl.store(masses + place, mass_b)
        tl.store(scores + place, score_b)
        tl.store(winners + place, winner_b)


@triton.jit
def _likeliest(stats, greedy, top, blocks, BLOCK_C: tl.constexpr):
    """The lowest of the ids with the row's largest logit."""
    block = tl.arange(0, BLOCK_C)
    inside = block < blocks
    tops = tl.load(stats + LARGEST_ALLOWED * blocks + block, mask=inside, other=NOTHING)
    ids = tl.load(greedy + block, mask=inside, other=NO_TOKEN)
    return tl.min(tl.where(tops == top, ids, NO_TOKEN), 0)


@triton.jit
def _finish(
    low,
    middle,
    high,
    token,
    logits,
    bits,
    table,
    keys,
    k,
    limit,
    T,
    top,
    inverse,
    vocab,
    BLOCK: tl.constexpr,
    MASKED: tl.constexpr,
):
    """The rest of a search, by one program."""
    done = token == NO_TOKEN
    while not done:
        n_a = tl.full([], 0, tl.int32)
        n_b = n_a
        sum_a = tl.full([], 0, tl.int64)
        sum_b = sum_a
        best_a = tl.full([], -1.0, tl.float64)
        best_b = best_a
        first_a = tl.full([], NO_TOKEN, tl.int32)
        first_b = first_a
        for block in range(0, tl.cdiv(vocab, BLOCK)):
            count_a, mass_a, score_a, winner_a, count_b, mass_b, score_b, winner_b = _measure(
                logits, bits, table, keys, block, low, middle, T, top, inverse, vocab, BLOCK,
                MASKED,
            )  # fmt: skip
            n_a += count_a
            n_b += count_b
            sum_a += mass_a
            sum_b += mass_b
            first_a = tl.where(score_a > best_a, winner_a, first_a)
            first_b = tl.where(score_b > best_b, winner_b, first_b)
            best_a = tl.maximum(best_a, score_a)
            best_b = tl.maximum(best_b, score_b)
        low, middle, high, token, done = _step(
            (n_a < k) & (sum_a < limit), (n_b < k) & (sum_b < limit), first_a, first_b,
            middle, high, token, logits, vocab, top, T, inverse,
        )  # fmt: skip
    return token


@triton.jit
def pick_kernel(
    logits,
    bits,
    temperature,
    top_ks,
    top_ps,
    keys,
    table,
    stats,
    greedy,
    heated,
    state,
    counts,
    masses,
    scores,
    winners,
    out,
    logprobs,
    allowed,
    vocab,
    blocks,
    logits_stride,
    bits_stride,
    BLOCK: tl.constexpr,
    BLOCK_C: tl.constexpr,
    MASKED: tl.constexpr,
):
    """One row: its token."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * logits_stride
    bits += row * bits_stride
    stats += row * STATS * blocks
    state += row * STATE
    at = row * 2 * blocks
    heat = tl.load(temperature + row)
    raw_top, raw_total = _total(stats, blocks, LARGEST, SUM, 1.0, BLOCK_C)
    norm = raw_top + tl.log(raw_total)
    top, total = _total(stats, blocks, LARGEST_ALLOWED, SUM_ALLOWED, 1.0, BLOCK_C)
    mass = tl.exp(top + tl.log(total) - norm)
    sound = (norm == norm) & (tl.abs(norm) < -NOTHING) & (top > NOTHING)
    token = tl.full([], NO_TOKEN, tl.int32)
    if heat == 0:
        token = _likeliest(stats, greedy + row * blocks, top, blocks, BLOCK_C)
    elif tl.load(state + DONE) != 0:
        token = tl.load(state + TOKEN)
    elif sound:
        top, inverse = tl.load(heated + row * 2), tl.load(heated + row * 2 + 1)
        k, limit = _filters(tl.load(top_ks + row), tl.load(top_ps + row), vocab)
        low, middle, high, token, done = _decide(
            state, counts + at, masses + at, scores + at, winners + at,
            logits, vocab, blocks, k, limit, top, heat, inverse, BLOCK_C, False,
        )  # fmt: skip
        if not done:
            token = _finish(
                low, middle, high, token, logits, bits, table, keys + row * 2, k, limit, heat, top,
                inverse, vocab, BLOCK, MASKED,
            )  # fmt: skip

    sound = sound & (token >= 0) & (token < vocab)
    tl.store(out + row, tl.where(sound, token, -1).to(tl.int64))
    chosen = tl.load(logits + tl.where(sound, token, 0)).to(tl.float32)
    tl.store(logprobs + row, chosen - norm)
    tl.store(allowed + row, mass)
