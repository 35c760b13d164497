"""Texts that try to be markup, keys, escapes or half characters, and runs that are full of them."""

from __future__ import annotations

import copy
import re

from hypothesis import strategies as st

NASTY = [
    "<script>alert(1)</script>", "</script>", "</style>", "<!--", "]]>", "</details></div>",
    "<img src=x onerror=alert(1)>", "&lt;", "&#0;", "\"'`", "' onload='alert(1)", "</svg>",
    "javascript:alert(1)", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x00", "\x07\b\r", "\x7f\x9b",
    "\u202eevil\u202c", "\u2066\u200f\u061c", "\u2028\u2029", "\ud800", "\udfff", "e\u0301\u0301",
    "\ufffd\ufeff\ufffe\uffff", "\U000e0041\U0001f468\u200d\U0001f469", "${x}{{y}}%s{0}", "\\",
    "\\n\\l\\N", "__proto__", "\n\n\t", " ", "", "|a|b|", "$\\alert(1)$",
]  # fmt: skip
LONG = "a" * 100_000
TEXTS = st.lists(st.sampled_from(NASTY) | st.text(max_size=8), max_size=4).map("".join)
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def infect(events, texts):
    """``events`` with every free text replaced, each by the next of ``texts``."""
    sources: dict[str, str] = {}
    count = 0

    def bad(_=""):
        nonlocal count
        count += 1
        return texts[count % len(texts)]

    def source(text):
        return sources.setdefault(text, bad() + "!" * len(sources)) if text else text

    events = copy.deepcopy(events)
    for event in events:
        for name in ("title", "label", "error", "text", "name"):
            if getattr(event, name, None):
                setattr(event, name, bad())
        if getattr(event, "pieces", None):
            event.pieces = [bad() for _ in event.pieces]
        for step in getattr(event, "top", None) or []:
            for other in step:
                other[0] = bad()
        if getattr(event, "choices", None):
            event.choices = [[bad(), score] for _, score in event.choices]
        if event.kind == "request_arrived":
            event.constraint = source(event.constraint)
        if event.kind == "constraint_used":
            event.source = source(event.source)
            for edge in (event.graph or {}).get("edges", []):
                edge[2] = bad() or "x"
        for node in event.nodes if event.kind == "cache_snapshot" else []:
            for part in ("pieces", "head", "tail"):
                if node.get(part):
                    node[part] = [bad() for _ in node[part]]
    return events
