"""What happens to a request when a token is added: stop rules, constraint, jump-forward."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ConstraintError
from .journal import Accepted
from .request import Request
from .sampler import Sampled
from .tokenizer import Tokenizer


def ends(request: Request, tokenizer: Tokenizer) -> frozenset[int]:
    """Token ids that end the request."""
    extra = frozenset(request.params.stop_token_ids or ())
    return extra if request.params.ignore_eos else tokenizer.eos_ids | extra


def allowed_mask(request: Request, tokenizer: Tokenizer) -> np.ndarray | None:
    """Packed bits of the tokens that may come next, None when all may.

    Raises:
        ConstraintError: the constraint leaves no token.
    """
    bits = None if request.cursor is None else request.cursor.allowed()
    if request.new_tokens < request.params.min_new_tokens:
        # With a constraint the end is forbidden only while there is another way to go on.
        forbidden = sorted(ends(request, tokenizer))
        if bits is None:
            bits = np.full(-(-tokenizer.vocab_size // 32), -1, dtype=np.int32)
        without = bits.copy()
        for i in forbidden:
            without[i // 32] &= ~np.int32(1 << i % 32) if i % 32 != 31 else np.int32(0x7FFFFFFF)
        bits = without if without.any() else bits
    if bits is not None and not bits.any():
        raise ConstraintError(
            f"the constraint leaves no token after {request.text[-40:]!r}; no text of this "
            "tokenizer can go on from there"
        )
    return bits


def accept(request: Request, sampled: Sampled, tokenizer: Tokenizer) -> Accepted:
    """Add a sampled token."""
    cursor, token = request.cursor, sampled.token
    before = None if cursor is None else cursor.state
    allowed = None if cursor is None else cursor.allowed_count
    ended = token in ends(request, tokenizer)
    if cursor is not None and not ended:
        cursor.advance(token)
    reason = _add(request, token, tokenizer, ended)
    after = None if cursor is None else cursor.state
    return Accepted(
        token,
        "sampled",
        sampled.score.logprob,
        sampled.top,
        allowed,
        sampled.mass,
        before,
        after,
        reason,
    )


def force(request: Request, tokenizer: Tokenizer) -> list[Accepted]:
    """Jump-forward: add the tokens that the constraint leaves no choice about."""
    cursor = request.cursor
    if cursor is None or not request.params.jump_forward:
        return []
    out: list[Accepted] = []
    for token in cursor.forced_tokens(request.ids)[: request.budget]:
        before = cursor.state
        cursor.advance(token)
        request.forced_tokens += 1
        reason = _add(request, token, tokenizer, ended=False)
        out.append(
            Accepted(token, "forced", state_before=before, state_after=cursor.state, reason=reason)
        )
        if reason is not None:
            break
    return out


def _add(request: Request, token: int, tokenizer: Tokenizer, ended: bool) -> dict[str, Any] | None:
    """Append ``token``; returns why the request ends with it, None if it goes on."""
    request.append(token)
    params, output = request.params, request.output
    stop = None
    if not ended or params.no_stop_trim:
        special = not params.skip_special_tokens
        stop = output.push(tokenizer.shown(token, special=special, first=output.fresh))
    if ended:
        return {"type": "stop", "matched": token}
    if stop is not None:
        return {"type": "stop", "matched": stop}
    if request.cursor is not None and request.cursor.done:
        return {"type": "stop", "matched": None}
    if request.budget <= 0:
        return {"type": "length", "length": request.params.max_new_tokens}
    return None
