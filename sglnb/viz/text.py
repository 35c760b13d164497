"""Model text made safe and readable: control characters visible, HTML escaped, clipped."""

from __future__ import annotations

import html
import math
import re

LONGEST = 400
"""Characters shown of one token, as in ``static/tokens.js``."""

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """``text`` with what cannot be seen, or would change its surroundings, spelt out.

    Control characters, bidirectional controls, zero-width spaces, tags (in which text can be
    hidden), lone surrogates and what XML forbids become ⟨U+001B⟩ and the like. Newlines, tabs
    and the joiners of emoji stay.
    """
    return _UNSEEN.sub(_spell, text)


def _spell(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match.group()):04X}⟩"


def escape(text: str) -> str:
    """``text`` safe inside HTML and inside a quoted attribute."""
    return html.escape(visible(text), quote=True)


def error_html(text: str) -> str:
    """``text`` as a failure: the mark has the colour, which as ink would be faint on white."""
    return f'<div><span style="color: #D55E00">✕</span> {escape(text)}</div>'


def one_line(text: str) -> str:
    """``text`` on one line: newlines as ⏎, tabs as ⇥."""
    return visible(text.replace("\n", "⏎").replace("\t", "⇥"))


def clip_middle(text: str, width: int) -> str:
    """At most ``width`` characters, the middle left out: both ends tell texts apart."""
    if len(text) <= width:
        return text
    right = (width - 1) // 2
    return text[: width - 1 - right] + "…" + (text[-right:] if right else "")


def clip_piece(piece: str) -> str:
    """The beginning of a token's text, where tokens are shown one by one."""
    return piece if len(piece) <= LONGEST else f"{piece[:LONGEST]}…"


def count(n: int, unit: str) -> str:
    """``1 token``, ``1,234 tokens``."""
    return f"{n:,} {unit}" + ("" if n == 1 else "s")


def seconds(t: float) -> str:
    """A duration with its unit: ``12 ms``, ``1.9 s``, ``3 min 20 s``."""
    if t < 0.9995:
        return f"{math.floor(t * 1000 + 0.5)} ms"
    if t < 99.95:
        return f"{t:.1f} s"
    return f"{int(t) // 60} min {int(t) % 60} s"


def percent(logprob: float | None) -> str:
    """A log-probability as a percentage; "" when it is unknown."""
    if logprob is None:
        return ""
    p = 100 * math.exp(min(0.0, logprob))
    return f"{p:.0f} %" if p >= 9.95 else f"{p:.1f} %" if p >= 0.095 else "< 0.1 %"


def storable(text: str) -> str:
    """Lone surrogates, which no file format takes, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
