"""What happens to a request when a token is added: stop rules, constraint, jump-forward."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ConstraintError
from .constraints.base import Mask
from .journal import Accepted
from .request import Request
from .rewind import rewind
from .sampled import Sampled
from .tokenizer import Tokenizer


def ends(request: Request, tokenizer: Tokenizer) -> frozenset[int]:
    """Token ids that end the request."""
    extra = frozenset(request.params.stop_token_ids or ())
    return extra if request.params.ignore_eos else tokenizer.eos_ids | extra


def legal(request: Request) -> Mask:
    """The tokens that the constraint and the budget let come next."""
    closer, cursor = request.closer, request.cursor
    narrow = None if closer is None else closer.legal(cursor, request.budget)
    if narrow is None:
        return Mask(cursor.allowed(), cursor.allowed_count)
    request.closed_by_budget = True
    return narrow


def allowed_mask(request: Request, tokenizer: Tokenizer) -> np.ndarray | None:
    """Packed bits of the tokens that may come next, None when all may.

    Raises:
        ConstraintError: the constraint leaves no token.
    """
    bits = None if request.cursor is None else legal(request).words
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


def accept(request: Request, sampled: Sampled, tokenizer: Tokenizer) -> list[Accepted]:
    """Add a sampled token, or what has to come instead for the text to end in time."""
    cursor, token = request.cursor, sampled.token
    if cursor is None or token in ends(request, tokenizer):
        count = None if cursor is None else legal(request).count
        before = after = None if cursor is None else cursor.state
    else:
        before, count = cursor.state, legal(request).count
        if not _take(request, token):
            closer = request.closer
            instead = closer.way(request.budget) or closer.instead()[:1]
            return _write(request, instead, "closing", tokenizer)
        after = cursor.state
    reason = _add(request, token, tokenizer, token in ends(request, tokenizer))
    return [
        Accepted(
            token,
            "sampled",
            sampled.score.logprob,
            sampled.top,
            count,
            sampled.mass,
            sampled.entropy,
            before,
            after,
            reason,
        )
    ]


def force(request: Request, tokenizer: Tokenizer) -> list[Accepted]:
    """Jump-forward: add the tokens that the constraint leaves no choice about. Then those that
    the budget leaves none about."""
    cursor, out = request.cursor, []
    if cursor is None:
        return out
    if request.params.jump_forward and request.params.retokenize == "rewind":
        out = _rewind(request, tokenizer)
    elif request.params.jump_forward:
        out = _write(request, cursor.forced_tokens(request.ids), "forced", tokenizer)
    if request.closer is not None and not (out and out[-1].reason):
        out += _write(request, request.closer.way(request.budget), "closing", tokenizer)
    return out


def _rewind(request: Request, tokenizer: Tokenizer) -> list[Accepted]:
    """The certain text, tokenized again together with the text before it."""
    spelling, table = request.constraint.spelling, tokenizer.token_bytes
    jump = None if request.output.fresh else rewind(request, spelling, table)
    if jump is None:
        return []
    before, replaced = request.cursor.state, len(request.ids) - jump.keep
    shown = sum(len(table[i]) for i in request.ids[jump.keep :])
    healed = jump.keep < request.prompt_len
    request.take_back(jump.keep)
    request.cursor = jump.cursor
    tokens = jump.again + jump.ahead
    out: list[Accepted] = []
    for i, token in enumerate(tokens):
        raw = table[token]
        how = "retokenized" if i < len(jump.again) else "forced"
        request.forced_tokens += how == "forced"
        reason = _add(request, token, tokenizer, ended=False, raw=raw[shown:])
        shown = max(0, shown - len(raw))
        out.append(
            Accepted(
                token,
                how,
                state_before=before,
                state_after=jump.cursor.state,
                reason=reason,
                replaced=replaced,
            )
        )
        replaced = 0
        if reason is not None and isinstance(reason.get("matched"), str):
            break
        if i + 1 < len(tokens):
            out[-1] = out[-1]._replace(reason=None)  # the cursor is ahead of the tokens
    if healed:
        request.settled = len(request.ids)
    return out


def _write(request: Request, tokens: list[int], how: str, tokenizer: Tokenizer) -> list[Accepted]:
    """Add tokens that are not sampled, as far as the budget goes."""
    out: list[Accepted] = []
    for token in tokens[: request.budget]:
        before = request.cursor.state
        if not _take(request, token):
            break  # the canonical tokens of a certain text may be more than there is room for
        if how == "forced":
            request.forced_tokens += 1
        else:
            request.closed_by_budget = True
        reason = _add(request, token, tokenizer, token in tokenizer.eos_ids)
        after = request.cursor.state
        out.append(Accepted(token, how, state_before=before, state_after=after, reason=reason))
        if reason is not None:
            break
    return out


def _take(request: Request, token: int) -> bool:
    """Move the cursor over ``token``; False: the end would come out of reach, it has not moved."""
    cursor, closer = request.cursor, request.closer
    cursor.advance(token)
    if closer is None or closer.keeps(cursor, token, request.budget - 1):
        return True
    cursor.rollback(1)
    return False


def cut_short(request: Request) -> ConstraintError:
    """What ``on_budget="error"`` fails with."""
    return ConstraintError(
        f"{request.constraint.kind}: the text was cut after {request.new_tokens:,} tokens before "
        f"the constraint was met: {request.text[-80:]!r}; raise max_tokens, or take "
        "on_budget='close'"
    )


def _add(
    request: Request, token: int, tokenizer: Tokenizer, ended: bool, raw: bytes | None = None
) -> dict[str, Any] | None:
    """Append ``token``; returns why the request ends with it, None if it goes on. ``raw`` is what
    it adds to the text, if not all of it."""
    request.append(token)
    params, output = request.params, request.output
    stop = None
    if not ended or params.no_stop_trim:
        special = not params.skip_special_tokens
        if raw is None:
            raw = tokenizer.shown(token, special=special, first=output.fresh)
        stop = output.push(raw)
    if ended:
        return {"type": "stop", "matched": token}
    if stop is not None:
        return {"type": "stop", "matched": stop}
    if request.cursor is not None and request.cursor.done:
        return {"type": "stop", "matched": None}
    if request.budget <= 0:
        if request.closer is not None and request.met:
            request.closed_by_budget = True
        return {"type": "length", "length": request.params.max_new_tokens}
    return None
