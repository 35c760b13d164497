"""Mask, temperature, top-k, top-p, min-p and a seeded draw: from logits to tokens.

The draw is an exponential race: of the tokens with weights w, the one with the largest w / e is
token i with probability w_i / sum(w), when the e are independent Exp(1) noise. The noise of a token
is a function of the request's keys and the token's id (multiply-shift hashing; Dietzfelbinger et
al. 1997): ``(multiplier * table[id] + offset) mod 2**64``, of which the upper 32 bits are used. So
a row draws the same token alone or in a batch, here or on a CPU.

top-k and top-p sort nothing. Each filter keeps the tokens down to some probability, so a row's
token is the first that stays in the order of the scores. The winner of the race among all tokens
is the candidate; a pass over the logits counts the tokens likelier than it and their mass. If it
does not stay, neither does anything less likely, and the winner among the likelier ones, found by
the same pass, is the next candidate (rejection sampling as FlashInfer does it, Ye et al. 2024,
except that the noise stays the same, so the token is the sorted draw's). A second threshold
between the candidate and what is known to stay is counted along with it, which halves what is
left in the worst case. Counts and masses are integers, the same in any order.

A race compares the tokens in float32 and computes those near the best, mostly one, in float64.

Ties: tokens whose probability, rounded to float32, equals the least that stays, stay too. Equal
greedy logits and equal scores go to the lowest id. Against another implementation of the softmax a
token can differ only where two scores or a filter's edge agree to within float32 rounding.

Limit: bytes; greedy rows are read once, vocab * itemsize, drawn ones twice, and once more for each
candidate that filters put to the test: one where the distribution is peaked, four on average where
it is flat.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ._device import multiprocessors, uses_triton

BLOCK = 2048
"""Tokens a program handles at once."""
CHECKS = 4
"""Candidates that are put to the test by all of the GPU; further ones, rarely, by one program."""
PROGRAMS = 16
"""Programs per multiprocessor that a test aims at: enough to fill it, and few where no row has
anything to test."""
FIXED = 2.0**62
"""A probability of 1 as a fixed-point number."""


class SampleParams(NamedTuple):
    """How each row draws, all of length rows."""

    temperature: torch.Tensor
    """float32; 0 = the likeliest token."""
    top_k: torch.Tensor
    """int32; 0 or less = no limit."""
    top_p: torch.Tensor
    """float64; 1 = no limit."""
    min_p: torch.Tensor
    """float32; 0 = no limit."""
    keys: torch.Tensor
    """int64 [rows, 2]: multiplier (odd) and offset of each row's noise."""


class Drawn(NamedTuple):
    """What was drawn, each [rows]."""

    tokens: torch.Tensor
    """int64; -1 where there is no distribution: the logits hold NaN or +inf, or nothing that is
    allowed is finite."""
    logprobs: torch.Tensor
    """float32, of the token under the logits as they came: before mask and temperature."""
    masses: torch.Tensor
    """float32, probability that the mask left standing."""


class SampleRoom:
    """Tensors that sampling needs, allocated once so that it can be captured.

    Args:
        rows: most rows.
        vocab: width of the logits.
        device: of all tensors.
    """

    def __init__(self, rows: int, vocab: int, device: torch.device):
        blocks = -(-vocab // BLOCK)

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        self.stats = empty(rows, 5, blocks)
        self.greedy = empty(rows, blocks, dtype=torch.int32)
        self.heated = empty(rows, 2)
        # Of the search, two: each pass reads one and writes the other.
        self.found = [
            (
                empty(rows, 5, dtype=torch.int32),
                empty(rows, 2, blocks, dtype=torch.int32),
                empty(rows, 2, blocks, dtype=torch.int64),
                empty(rows, 2, blocks, dtype=torch.float64),
                empty(rows, 2, blocks, dtype=torch.int32),
            )
            for _ in range(2)
        ]
        """(state, counts, masses, scores, winners); see :mod:`._sample_triton`."""
        self.drawn = Drawn(empty(rows, dtype=torch.int64), empty(rows), empty(rows))


def sample(
    logits: torch.Tensor,
    bits: torch.Tensor | None,
    params: SampleParams,
    table: torch.Tensor,
    room: SampleRoom | None = None,
) -> Drawn:
    """Draw a token from each row.

    Args:
        logits: [rows, vocab] float32 or half, the last dimension contiguous. Not changed.
        bits: int32 [rows, ceil(vocab / 32)] packed mask (see :mod:`.bitmask`); None: all may come.
        params: of each row.
        table: int64 [vocab], the noise's hash of each id.
        room: for at least as many rows, and this vocabulary; None: a new one.

    Returns:
        Views of ``room``'s tensors: the next call with it writes over them.

    Raises:
        ValueError: shapes do not fit.
    """
    rows, vocab = logits.shape
    if bits is not None and bits.shape != (rows, -(-vocab // 32)):
        raise ValueError(f"bits: must be {(rows, -(-vocab // 32))}, got {tuple(bits.shape)}")
    if len(table) < vocab:
        raise ValueError(f"table: must have {vocab} entries, got {len(table)}")
    if not uses_triton(logits):
        return sample_reference(logits, bits, params, table)
    room = room or SampleRoom(rows, vocab, logits.device)
    _launch(logits, bits, params, table, room)
    return Drawn(*(part[:rows] for part in room.drawn))


def _launch(logits, bits, params, table, room) -> None:
    import triton

    from ._sample_triton import check_kernel, pick_kernel, race_kernel, scan_kernel

    rows, vocab = logits.shape
    blocks = triton.cdiv(vocab, BLOCK)
    masked = bits is not None
    words = bits if masked else logits
    strides = logits.stride(0), words.stride(0)
    temperature, top_k, top_p, min_p, keys = params
    sizes = {"BLOCK": BLOCK, "MASKED": masked}
    scan_kernel[(rows, blocks)](
        logits, words, temperature, room.stats, room.greedy, vocab, *strides, num_warps=4, **sizes
    )
    sizes["BLOCK_C"] = triton.next_power_of_2(blocks)
    state, _, _, scores, winners = room.found[0]
    race_kernel[(rows, blocks)](
        logits,
        words,
        temperature,
        top_k,
        top_p,
        min_p,
        keys,
        table,
        room.stats,
        room.heated,
        state,
        scores,
        winners,
        vocab,
        *strides,
        num_warps=4,
        **sizes,
    )
    parts = min(blocks, max(1, PROGRAMS * multiprocessors(logits.device) // rows))
    for i in range(CHECKS):
        check_kernel[(rows, parts)](
            logits,
            words,
            temperature,
            top_k,
            top_p,
            keys,
            table,
            room.heated,
            *room.found[i % 2],
            *room.found[(i + 1) % 2],
            vocab,
            blocks,
            *strides,
            FIRST=i == 0,
            num_warps=8,
            **sizes,
        )
    pick_kernel[(rows,)](
        logits,
        words,
        temperature,
        top_k,
        top_p,
        keys,
        table,
        room.stats,
        room.greedy,
        room.heated,
        *room.found[CHECKS % 2],
        *room.drawn,
        vocab,
        blocks,
        *strides,
        num_warps=8,
        **sizes,
    )


def sample_reference(
    logits: torch.Tensor,
    bits: torch.Tensor | None,
    params: SampleParams,
    table: torch.Tensor,
) -> Drawn:
    """The same by torch operations, with a whole sort of each row."""
    from .bitmask import apply_bitmask_reference

    raw = logits.float()
    x = raw.clone() if bits is None else apply_bitmask_reference(raw.clone(), bits)
    norm = raw.logsumexp(-1)
    mass = torch.exp(x.logsumexp(-1) - norm)
    greedy = params.temperature == 0
    heat = params.temperature.masked_fill(greedy, 1.0)[:, None]
    probs = torch.softmax(x / heat, -1)
    weights = probs.masked_fill(probs < _least(probs, params)[:, None], 0.0)
    vocab = x.shape[1]
    mixed = table[:vocab] * params.keys[:, :1] + params.keys[:, 1:]
    uniform = ((mixed >> 32).double() + (2**31 + 0.5)) * 2.0**-32
    tokens = (weights / -uniform.log()).argmax(-1)
    tokens = torch.where(greedy, x.argmax(-1), tokens)
    sound = norm.isfinite() & x.amax(-1).isfinite()
    logprobs = raw.gather(1, tokens[:, None])[:, 0] - norm
    return Drawn(tokens.masked_fill(~sound, -1), logprobs, mass)


def _least(probs: torch.Tensor, params: SampleParams) -> torch.Tensor:
    """The least probability that stays under the filters, [rows]."""
    ordered = probs.sort(descending=True).values
    vocab = probs.shape[1]
    last = torch.where(params.top_k > 0, params.top_k, vocab).clamp(max=vocab).long() - 1
    by_k = ordered.gather(1, last[:, None])[:, 0]
    # Fixed point: the sums are exact, so their order decides nothing.
    wide = (ordered.double() * FIXED).long()
    before = wide.cumsum(-1) - wide
    limit = (params.top_p.clamp(max=1) * FIXED).long()
    inside = (before < limit[:, None]).sum(-1).clamp(min=1)
    by_p = ordered.gather(1, inside[:, None] - 1)[:, 0].masked_fill(params.top_p >= 1, 0.0)
    return torch.maximum(torch.maximum(by_k, by_p), params.min_p * ordered[:, 0])
