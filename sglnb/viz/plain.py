"""A run as plain text for terminals, and the words that all static forms share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sglnb.events import Event

from .outline import outline, pins_below, totals
from .reduce import ViewState, fold
from .reduce_header import waiting_for
from .reduce_tree import Node, Tree, node_tokens
from .runlog import run_events
from .text import clip_middle, count, one_line, seconds, visible

LABEL = 80
"""Characters shown of a name: of a run, a state, a variable or a choice."""


def header_words(header: dict[str, Any]) -> list[str]:
    """``["done", "214 tokens", "163 of 182 prompt tokens cached", …]``."""
    elapsed = 0.0 if header["t0"] is None else header["t1"] - header["t0"]
    words = [header["status"]]
    if wait := waiting_for(header):
        words.append(clip_middle(one_line(wait[0]), LABEL))
    words.append(count(header["completion"], "token"))
    if header["prompt"]:
        words.append(f"{header['cached']:,} of {count(header['prompt'], 'prompt token')} cached")
    if header["forced"]:
        words.append(f"{header['forced']:,} forced")
    words.append(seconds(elapsed))
    if header["completion"] and header["busy"] > 0:
        words.append(f"{header['completion'] / header['busy']:,.0f} tok/s")
    return words


def title_of(header: dict[str, Any], run: str = "") -> str:
    """What a run is called, on one line."""
    return clip_middle(one_line(header["title"] or header["run"] or run or "run"), LABEL)


def row_label(row: dict[str, Any], name: str | None = None) -> str:
    """A name for a state: its label, else the variable it makes (``name``), numbered in a
    fork."""
    if row["label"]:
        return row["label"]
    name = row.get("name", "") if name is None else name
    return name or row["state"] if row["parent"] is None else f"{name or 'fork'}[{row['index']}]"


def ordered_rows(rows: dict[str, Any], order: list[str]) -> list[tuple[int, dict[str, Any]]]:
    """``(depth, row)`` with children right after their parent."""
    kids: dict[str | None, list[str]] = {}
    for key in order:
        parent = rows[key]["parent"]
        kids.setdefault(parent if parent in rows and parent != key else None, []).append(key)
    out, todo = [], [(0, key) for key in reversed(kids.get(None, []))]
    while todo:
        depth, key = todo.pop()
        out.append((depth, rows[key]))
        todo += [(depth + 1, kid) for kid in reversed(kids.get(key, []))]
    return out


def node_text(node: Node) -> str:
    """The text on a node's edge, what is hidden of it as a count."""
    hidden = f"⟨{node['hidden']:,} more⟩" if node["hidden"] else ""
    return "".join(node["head"]) + hidden + "".join(node["tail"])


def node_words(node: Node, pins: int = 0) -> str:
    """``12 tokens, 3 hits, in use by 1, pinned, evicted``; ``pins`` end at it or below it."""
    words = [count(node_tokens(node), "token")]
    if node["hits"]:
        words.append(count(node["hits"], "hit"))
    if node["locks"] > pins and node["evicted"] is None:
        words.append(f"in use by {node['locks'] - pins}")
    if pins:
        words.append("pinned" if node["pins"] else "held by a pin below")
    if node["evicted"] is not None:
        words.append("evicted" + (f" ({node['why']})" if node["why"] else ""))
    return ", ".join(words)


def run_nodes(view: ViewState) -> set[int]:
    """Tree nodes that the run's own requests end in."""
    tips = view["tree"]["tips"]
    return {tips[rid] for rid in view["header"]["counts"] if rid in tips}


def tree_text(tree: Tree, keep: Iterable[int] = (), width: int = 60, limit: int = 40) -> str:
    """The tree as an indented list."""
    nodes, tokens = totals(tree)
    pins = pins_below(tree)
    lines = [f"cache: {count(nodes, 'node')}, {count(tokens, 'token')}"]
    for item in outline(tree, keep, limit):
        indent = "  " * item["depth"]
        if "more" in item:
            more = f"{indent}+{count(item['more'], 'node')}, {count(item['tokens'], 'token')}"
            lines.append(more)
            continue
        node = tree["nodes"][str(item["node"])]
        held = pins.get(node["node"], 0)
        mark = "×" if node["evicted"] is not None else "●" if node["locks"] > held else "○"
        if node["pins"]:
            mark = "◆"
        label = clip_middle(one_line(node_text(node)), width)
        lines.append(f"{indent}{mark} {label}  [{node_words(node, held)}]")
    return "\n".join(lines)


def to_text(events: Iterable[Event], run: str) -> str:
    """The run for a terminal: one line of numbers, each state's own text, the program, the tree."""
    from .program_rows import has_shape, program_text  # which uses the words of this module

    view = fold(run_events(events, run))
    header = view["header"]
    lines = [" · ".join([title_of(header, run), *header_words(header)])]
    if header["error"]:
        lines.append(f"error: {one_line(header['error'])}")
    tokens = view["tokens"]
    for depth, row in ordered_rows(tokens["rows"], tokens["order"]):
        own = row["tokens"][row["shared"] : row["shown"]]
        text = visible("".join(token["piece"] for token in own)).strip("\n")
        indent = "  " * depth
        if own or row["error"]:
            lines.append(f"{indent}{clip_middle(one_line(row_label(row)), LABEL)}:")
            lines += [f"{indent}  {line}" for line in text.split("\n") if text]
        if row["error"]:
            lines.append(f"{indent}  error: {one_line(row['error'])}")
        for pick in row["picks"]:
            scores = ", ".join(
                f"{clip_middle(one_line(choice), LABEL)} {score:.2f}"
                for choice, score in pick["choices"]
            )
            name, chosen = (clip_middle(one_line(pick[key]), LABEL) for key in ("name", "text"))
            lines.append(f"{indent}  {name} = {chosen} ({scores})")
    if has_shape(view["program"]):
        lines.append(program_text(view))
    if len(view["tree"]["nodes"]) > 1:
        lines.append(tree_text(view["tree"], run_nodes(view)))
    return "\n".join(lines)
