"""A run as HTML that survives: saved notebooks reopened without a kernel, untrusted.

Such viewers strip <style>, <svg> and scripts but keep ``style=`` attributes, ``title=`` and
``<details>``; JupyterLab also drops declarations that it cannot parse (CSS variables, for one).
So: spans with plain inline declarations, colours that stand on light and dark ground, and every
text escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from sglnb.events import CacheSnapshot, Event

from .columns import is_busy
from .outline import outline, pins_below, totals
from .plain import (
    LABEL,
    header_words,
    node_text,
    node_words,
    ordered_rows,
    row_label,
    run_nodes,
    title_of,
)
from .program_rows import has_shape
from .reduce import ViewState, fold
from .reduce_tree import Tree, initial_tree, reduce_tree
from .runlog import run_events
from .static_constraint import constraints_html
from .static_program import program_html
from .static_schedule import schedule_html
from .text import (
    LONGEST,
    clip_middle,
    clip_piece,
    count,
    error_html,
    escape,
    one_line,
    percent,
    seconds,
)

MAX_TOKENS = 2000
"""Tokens shown for each state; of more, the last ones."""
MAX_NODES = 60

_ROOT = "font-family: sans-serif; font-size: 13px; line-height: 1.6; padding: 2px 0"
_FAINT = "opacity: 0.7"
_SMALL = "font-size: 11px; opacity: 0.7"
_TEXT = (
    "font-family: monospace; font-size: 13px; line-height: 1.9; white-space: pre-wrap; "
    "overflow-wrap: break-word; padding: 2px 0 6px 0; max-height: 480px; overflow-y: auto"
)
_CACHED = "border-left: 3px solid #009E73; padding-left: 2px"
_CACHED_END = "border-right: 2px solid #009E73; padding-right: 1px"
_FORCED = "border-bottom: 2px dotted #E69F00; background-color: rgba(230, 159, 0, 0.14)"
_CLOSING = "border-bottom: 4px double #E69F00"
_RETOKENIZED = "border-bottom: 2px dashed #999999"
_GHOST = "text-decoration: line-through #888888; font-style: italic"
_LINE_END = "padding-left: 6px"
"""Of a token that is nothing but newlines: else there were nothing to point at."""
_SELECT = "border: 1px solid #888888; border-radius: 3px; padding: 0 2px"
_TAILS = {"length": "⋯ length limit", "abort": "◼ stopped"}
_TRACK = 260
"""Width of the timeline in pixels."""
_LEGEND = {
    "sampled": "background-color: rgba(30, 140, 215, 0.3)",
    "forced": _FORCED,
    "cached": _CACHED,
    "chosen": _SELECT,
}
_RARE = {
    "closing": ("closed by max_tokens", _CLOSING),
    "retokenized": ("retokenized", _RETOKENIZED),
}
"""Kinds that are explained only where there are tokens of them."""


def static_html(events: Iterable[Event], run: str) -> str:
    """The run as one collapsed ``<details>``: numbers, each state's tokens, the program,
    constraints, branches, steps of the engine, tree."""
    return view_html(fold(run_events(events, run)), run)


def view_html(view: ViewState, run: str = "") -> str:
    """A folded view as static HTML."""
    header = view["header"]
    name = title_of(header, run)
    parts = [
        f'<details style="{_ROOT}"><summary style="cursor: pointer"><b>{escape(name)}</b> · ',
        escape(" · ".join(header_words(header))),
        "</summary>",
        f'<div style="{_SMALL}; padding: 4px 0">',
        " ".join(f'<span style="{style}">{word}</span>' for word, style in _legend(view)),
        " · point at a token for its probability</div>",
    ]
    if header["error"]:
        parts.append(error_html(header["error"]))
    tokens = view["tokens"]
    for depth, row in ordered_rows(tokens["rows"], tokens["order"]):
        parts.append(_row_html(view, depth, row))
    if has_shape(view["program"]):
        parts.append(program_html(view))
    if view["constraint"]["order"]:
        parts.append(constraints_html(view))
    if len(view["branches"]["order"]) > 1:
        parts.append(_branches_html(view))
    if is_busy(view["schedule"]):
        parts.append(schedule_html(view))
    if len(view["tree"]["nodes"]) > 1:
        parts.append(_tree_html(view["tree"], run_nodes(view)))
    parts.append("</details>")
    return "".join(parts)


def _legend(view: ViewState) -> list[tuple[str, str]]:
    rows = view["tokens"]["rows"].values()
    kinds = {token["kind"] for row in rows for token in row["tokens"]}
    out = [*_LEGEND.items(), *(look for kind, look in _RARE.items() if kind in kinds)]
    if any(row["back"] for row in rows):
        out.append(("taken back", _GHOST))
    return out


def tree_static_html(snapshot: list[dict[str, Any]]) -> str:
    """``engine.cache.snapshot()`` as an indented list. Nodes are dicts with node, parent, ids,
    pieces, locks, hits and last_used, in any order."""
    event = CacheSnapshot(nodes=list(snapshot), total_slots=0, used_slots=0)
    return f'<div style="{_ROOT}">{_tree_html(reduce_tree(initial_tree(), event), ())}</div>'


# -- tokens --------------------------------------------------------------------------------


def _row_html(view: ViewState, depth: int, row: dict[str, Any]) -> str:
    first = max(row["shared"], row["shown"] - MAX_TOKENS)
    shown = row["tokens"][first : row["shown"]]
    if not (shown or row["error"] or row["picks"]):
        return ""
    parts = [f'<div style="margin-left: {18 * depth}px">']
    if len(view["tokens"]["order"]) > 1:
        label = clip_middle(one_line(row_label(row)), LABEL)
        parts.append(f'<div style="{_SMALL}">{escape(label)}</div>')
    parts.append(f'<div style="{_TEXT}" tabindex="0">')
    if row["shared"] and shown:
        shared = count(row["shared"], "token")
        look = f"{_CACHED}; {_FAINT}" if row["cached"] else _FAINT
        parts.append(f'<span style="{look}" title="see above">⋯ {shared} shared </span>')
    if first > row["shared"]:
        parts.append(f'<span style="{_FAINT}">⋯ {count(first - row["shared"], "token")} </span>')
    for i, token in enumerate(shown, first):
        parts.append(_token_html(row, i, token))
    if row["status"] in _TAILS:
        parts.append(f'<span style="{_SMALL}"> {_TAILS[row["status"]]}</span>')
    parts.append("</div>")
    for pick in row["picks"]:
        parts.append(_pick_html(pick))
    if row["error"]:
        parts.append(error_html(row["error"]))
    parts.append("</div>")
    return "".join(parts)


def _token_html(row: dict[str, Any], i: int, token: dict[str, Any]) -> str:
    styles, kind, cached = [], token["kind"], i < row["cached"]
    if kind == "sampled":
        logprob = token["logprob"]
        p = 0.5 if logprob is None else math.exp(min(0.0, logprob))
        styles.append(f"background-color: rgba(30, 140, 215, {0.08 + 0.32 * p:.2f})")
    elif kind == "forced":
        styles.append(_FORCED)
    elif kind == "select":
        styles.append(_SELECT)
    elif kind in _RARE:
        styles.append(_RARE[kind][1])
    if cached and i == 0:
        styles.append(_CACHED)
    if cached and i == row["cached"] - 1:
        styles.append(_CACHED_END)
    if token["piece"].strip("\n") == "" != token["piece"]:
        styles.append(_LINE_END)
    style = f' style="{"; ".join(styles)}"' if styles else ""
    title = escape(token_title(token, cached))
    ghosts = "".join(
        f'<span style="{_GHOST}" title="{escape(token_title(ghost, False))}; taken back">'
        f"{escape(clip_piece(ghost['piece']))}</span>"
        for ghost in token.get("ghosts", ())
    )
    return (
        f'{ghosts}<span{style} title="{title}">{escape(clip_piece(token["piece"])) or "∅"}</span>'
    )


def token_title(token: dict[str, Any], cached: bool) -> str:
    """One token's facts as a line: kind, probability, alternatives with the masked marked."""
    words = [f"{one_line(clip_middle(token['piece'], 60))!r} id {token['id']}", token["kind"]]
    if cached:
        words.append("KV from the cache")
    logprob = token.get("logprob")
    if logprob is not None:
        words.append(f"{percent(logprob)} (logprob {logprob:.2f})")
    if token.get("entropy") is not None:
        words.append(f"entropy {token['entropy']:.2f} nats")
    if token.get("wait") is not None:
        words.append(f"after {seconds(token['wait'])}")
    if token.get("allowed") is not None:
        words.append(f"{count(token['allowed'], 'token')} allowed")
    if token.get("mass") is not None:
        words.append(f"mask kept {100 * token['mass']:.0f} %")
    others = [
        f"{one_line(clip_middle(piece, 60))!r} {percent(lp)}{'' if allowed else ' not allowed'}"
        for piece, _, lp, allowed in token.get("top") or []
    ]
    return " · ".join(words) + ("\nlikeliest: " + ", ".join(others) if others else "")


def _pick_html(pick: dict[str, Any]) -> str:
    best = max(score for _, score in pick["choices"])
    rows = []
    for choice, score in pick["choices"]:
        chosen = choice == pick["text"]
        words = escape(one_line(clip_middle(choice, LONGEST)))
        width = max(2, round(120 * math.exp(min(0.0, score - best))))
        colour = "#0072B2" if chosen else "#999999"
        rows.append(
            '<div><span style="display: inline-block; width: 126px">'
            f'<span style="display: inline-block; width: {width}px; height: 8px; '
            f'background-color: {colour}"></span></span>'
            f"{'<b>' if chosen else ''}{words}{'</b> ✓' if chosen else ''} "
            f'<span style="{_FAINT}">{score:.2f}</span></div>'
        )
    name = escape(clip_middle(one_line(pick["name"]), LABEL))
    return f'<div style="{_SMALL}">choices for {name} (mean logprob)</div>{"".join(rows)}'


# -- branches and tree ---------------------------------------------------------------------


def _branches_html(view: ViewState) -> str:
    branches = view["branches"]
    t0, t1 = branches["t0"] or 0.0, branches["t1"]
    rows = [
        f'<div style="{_SMALL}">0 to {seconds(t1 - t0)}: '
        + " ".join(f"{_bar(12, colour)} {word}" for word, colour in _PARTS.items())
        + "</div>"
    ]
    for depth, row in ordered_rows(branches["rows"], branches["order"]):
        bars = [branches["bars"][rid] for rid in row["bars"]]
        # A program may fork long before its earlier requests are done.
        start = (bars[0]["arrived"] if row["parent"] and bars else row["t0"]) - t0
        end = (t1 if row["t1"] is None else row["t1"]) - t0
        words = [f"{seconds(start)} to {seconds(end)}", count(len(bars), "request")]
        made, prompt = sum(b["tokens"] for b in bars), sum(b["prompt"] for b in bars)
        words.append(count(made, "token"))
        if prompt:
            cached = sum(b["cached"] for b in bars)
            words.append(f"{cached:,} of {prompt:,} prompt tokens cached")
        if row["joined"] is not None:
            words.append("joined")
        name = row_label(row, bars[0]["name"] if bars else "")
        label = escape(clip_middle(one_line(name), LABEL))
        rows.append(
            f'<div style="white-space: nowrap">{_track_html(bars, t0, t1)} '
            f'<span style="padding-left: {18 * depth}px"><b>{label}</b></span> '
            f'<span style="{_FAINT}">{" · ".join(words)}</span></div>'
        )
    body = f'<div style="overflow-x: auto" tabindex="0">{"".join(rows)}</div>'
    return f'<details><summary style="cursor: pointer">branches</summary>{body}</details>'


_PARTS = {"waits": "rgba(128, 128, 128, 0.3)", "reads the prompt": "#999999", "writes": "#0072B2"}


def _bar(width: int, colour: str) -> str:
    return (
        f'<span style="display: inline-block; width: {width}px; height: 9px; '
        f'background-color: {colour}"></span>'
    )


def _track_html(bars: list[dict[str, Any]], t0: float, t1: float) -> str:
    """One state's requests on the time axis. They follow each other; where they overlap (the
    choices of a select), the later one shows from where the earlier one ends."""
    scale, at, parts = _TRACK / max(1e-9, t1 - t0), 0, []
    clear, (waits, reads, writes) = "transparent", _PARTS.values()
    for bar in bars:
        end = t1 if bar["end"] is None else bar["end"]
        scheduled = end if bar["scheduled"] is None else bar["scheduled"]
        first = end if bar["first"] is None else bar["first"]
        stretches = ((bar["arrived"], clear), (scheduled, waits), (first, reads), (end, writes))
        for until, colour in stretches:
            to = round((until - t0) * scale)
            if to > at:
                parts.append(_bar(to - at, colour))
                at = to
    return f'<span style="display: inline-block; width: {_TRACK}px">{"".join(parts)}</span>'


def _tree_html(tree: Tree, keep: Iterable[int]) -> str:
    nodes, tokens = totals(tree)
    rows, pins = [], pins_below(tree)
    for item in outline(tree, keep, MAX_NODES):
        pad = f"padding-left: {16 * (item['depth'] - 1)}px"
        if "more" in item:
            more = f"+{count(item['more'], 'node')}, {count(item['tokens'], 'token')}"
            rows.append(f'<div style="{pad}; {_FAINT}">{more}</div>')
            continue
        node = tree["nodes"][str(item["node"])]
        text = node_text(node)
        ghost = node["evicted"] is not None
        held = pins.get(node["node"], 0)
        using = node["locks"] > held
        mark = "◌" if ghost else "◆" if node["pins"] else "●" if using else "○"
        colour = "#D55E00" if ghost else "#CC79A7" if using else "#888888"
        label = escape(clip_middle(one_line(text), 64)) or "·"
        title = escape(clip_middle(text, LONGEST))
        rows.append(
            f'<div style="{pad}; white-space: nowrap"><span style="color: {colour}">{mark}</span> '
            f'<span style="font-family: monospace" title="{title}">{label}</span> '
            f'<span style="{_SMALL}">{escape(node_words(node, held))}</span></div>'
        )
    what = f"cache tree · {count(nodes, 'node')} · {count(tokens, 'token')}"
    body = f'<div style="overflow-x: auto" tabindex="0">{"".join(rows)}</div>'
    return f'<details><summary style="cursor: pointer">{what}</summary>{body}</details>'
