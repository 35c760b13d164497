"""Jump-forward as the SGLang paper has it: tokenize the whole text again, and rewind.

A certain text is appended as text. Text and certain text are tokenized together, the tokens that
both have in common are kept with their KV, what is behind them is taken back and computed again.
The text is the tokenizer's own afterwards, also where the prompt ends; but tokens that the model
chose are replaced by others that it did not. By default the engine holds tokens back instead (see
:mod:`.constraints.jump`); this is for comparison, and for teaching.
"""

from __future__ import annotations

from typing import NamedTuple

from .constraints import Cursor
from .constraints.spelling import Spelling, common_prefix
from .request import Request

LEAST = 2
"""Characters that are worth it."""


class Rewind(NamedTuple):
    """What a jump makes of a request."""

    keep: int
    """Tokens that stay, of prompt and output."""
    again: list[int]
    """Tokens for the text that is taken back."""
    ahead: list[int]
    """Tokens of the certain text."""
    cursor: Cursor
    """Behind all of it."""


def rewind(request: Request, spelling: Spelling, table: list[bytes | None]) -> Rewind | None:
    """The jump that is possible now, None if there is none, or none that fits in the budget.

    Args:
        spelling: of the tokenizer.
        table: the bytes of each token.
    """
    certain = request.cursor.forced()
    if len(certain) < LEAST:
        return None
    start, text = spelling.tail(request.ids)
    new = spelling.after("", text + certain) or []
    same = len(common_prefix(request.ids[start:], new))
    heals = start + same < request.prompt_len
    if heals and not (request.may_heal and request.settled == len(request.ids)):
        start = request.settled  # the prompt stays as it is
        text = b"".join(table[i] for i in request.ids[start:]).decode(errors="replace")
        new = spelling.after("", text + certain) or []
        same, heals = len(common_prefix(request.ids[start:], new)), False
    keep, old = start + same, request.ids[start:]
    if not new or (keep < request.settled and not heals):
        return None
    left = sum(len(table[i]) for i in old[same:])
    again: list[int] = []
    for token in new[same:]:
        if left <= 0:
            break
        again.append(token)
        left -= len(table[token])
    ahead = new[same + len(again) :]
    output = keep - min(keep, request.prompt_len) + len(again) + len(ahead)
    if output > request.params.max_new_tokens:
        return None
    cursor = request.cursor.copy()
    spelled = spelling.spell(certain)
    if -1 in spelled:
        return None
    if heals:  # what spells the certain text alone leads to the same place
        cursor.advance_many(spelled)
    else:
        cursor.rollback(len(request.ids) - keep)
        cursor.advance_many(again + ahead)
    room = request.params.max_new_tokens - output
    if request.closer is not None and not request.closer.keeps(cursor, -1, room):
        return None
    return Rewind(keep, again, ahead, cursor)
