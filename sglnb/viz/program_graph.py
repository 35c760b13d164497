"""The dataflow graph of a program: as text, as HTML that survives, as DOT and as SVG.

The graph is plain data, as ``Trace.to_dict()`` gives it. A state reads as its text: what is
constant as it is, arguments, generations and uses of variables as boxes in it.
"""

from __future__ import annotations

import html
from typing import Any

from .graphviz import dot_svg, quote
from .text import clip_middle, count, escape, one_line

MOST = 400
"""Steps shown; of more, the first ones."""
LABEL = 44

_ROOT = "font-family: sans-serif; font-size: 13px; line-height: 1.6; padding: 2px 0"
_SMALL = "font-size: 11px; opacity: 0.7"
_TEXT = (
    "font-family: monospace; font-size: 13px; line-height: 1.9; white-space: pre-wrap; "
    "overflow-wrap: break-word; padding: 2px 0 6px 0"
)
_BOX = "border-radius: 3px; padding: 0 3px; white-space: nowrap; "
_BOXES = {
    "argument": _BOX + "border: 1px dashed #888888",
    "gen": _BOX + "background-color: rgba(30, 140, 215, 0.3)",
    "select": _BOX + "border: 1px solid #0072B2",
    "use": _BOX + "border-bottom: 2px solid #0072B2",
}
_OTHER = _BOX + "font-size: 11px; opacity: 0.7; border: 1px solid #888888"
_WARN = "color: #D55E00"
_CONSTANT = ("text", "role_begin", "role_end", "image")


def program_text(graph: dict[str, Any]) -> str:
    """One line a step, under its state."""
    lines = [_head(graph)]
    for state in graph["states"]:
        lines.append(_state_words(graph, state))
        for node in _of_state(graph, state):
            shown = repr(clip_middle(node["text"], 60)) if node["text"] else node["name"] or ""
            uses = ", ".join(f"%{i}" for i in node["sources"])
            line = f"  %{node['id']:<4}{node['kind']:<12}{shown}" + (f"  < {uses}" if uses else "")
            lines.append(line.rstrip())
    if len(graph["nodes"]) > MOST:
        lines.append(f"  ... {count(len(graph['nodes']) - MOST, 'more step')}")
    if graph["stopped"]:
        lines.append(f"stopped: {_stop_words(graph['stopped'])}")
    return "\n".join(lines)


def program_html(graph: dict[str, Any]) -> str:
    """Each state as its text with boxes; inline styles only, everything escaped."""
    parts = [f'<div style="{_ROOT}"><b>{escape(_head(graph))}</b>']
    if graph["stopped"]:
        parts.append(f'<div style="{_WARN}">✕ {escape(_stop_words(graph["stopped"]))}</div>')
    for state in graph["states"]:
        indent = 18 * _depth(graph, state)
        words = escape(one_line(_state_words(graph, state)))
        parts.append(f'<div style="margin-left: {indent}px"><div style="{_SMALL}">{words}</div>')
        parts.append(f'<div style="{_TEXT}">')
        parts += [_node_html(node) for node in _of_state(graph, state)]
        parts.append("</div></div>")
    if len(graph["nodes"]) > MOST:
        parts.append(f"<div>⋯ {count(len(graph['nodes']) - MOST, 'more step')}</div>")
    return "".join([*parts, "</div>"])


def program_page(graph: dict[str, Any]) -> str:
    """:func:`program_html` as one page, which needs no network."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(graph['program'])}</title></head>"
        f"<body>{program_html(graph)}</body></html>"
    )


def program_dot(graph: dict[str, Any]) -> str:
    """The graph for Graphviz: a box around each state, data edges dashed."""
    lines = [
        "digraph program {",
        '  rankdir=TB; bgcolor="transparent"; nodesep=0.2; ranksep=0.25;',
        '  node [shape=box, style=rounded, fontname="Helvetica", fontsize=10, color="#888888"];',
        '  edge [color="#888888", arrowsize=0.6];',
    ]
    shown, inside = _blocks(graph)
    for state in graph["states"]:
        lines.append(f"  subgraph cluster{state['index']} {{")
        lines.append(f'    label="{quote(state["label"])}"; fontsize=10; color="#cccccc";')
        for block in shown:
            if block["state"] == state["index"]:
                label = quote(clip_middle(one_line(block["label"]), LABEL))
                lines.append(f'    n{block["id"]} [label="{label}"{_look(block["kind"])}];')
        lines.append("  }")
    for start, end, kind in _edges(shown, inside):
        look = ' [style=dashed, color="#0072B2"]' if kind == "data" else ""
        lines.append(f"  n{start} -> n{end}{look};")
    return "\n".join([*lines, "}", ""])


def program_svg(graph: dict[str, Any]) -> str:
    """The graph as SVG text: by ``dot`` where it is installed and works, else drawn here."""
    return dot_svg(program_dot(graph)) or own_program_svg(graph)


COLUMN, ROW, WIDTH, TOP = 330, 34, 300, 34


def own_program_svg(graph: dict[str, Any]) -> str:
    """The graph drawn without Graphviz: a column a state, a row a step."""
    shown, inside = _blocks(graph)
    places = {
        block["id"]: (10 + COLUMN * block["state"], TOP + ROW * row)
        for row, block in enumerate(shown)
    }
    width, height = COLUMN * len(graph["states"]) + 10, TOP + ROW * len(shown) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="monospace" font-size="11" role="img" aria-label="program graph">'
    ]
    for state in graph["states"]:
        x = 10 + COLUMN * state["index"]
        parts.append(
            f'<text x="{x}" y="18" fill="#888888">{html.escape(one_line(state["label"]))}</text>'
        )
    for start, end, kind in _edges(shown, inside):
        (x0, y0), (x1, y1) = places[start], places[end]
        if kind == "data":
            look, shift = 'stroke="#0072B2" stroke-dasharray="4 3"', WIDTH - 20
        else:
            look, shift = 'stroke="#888888"', 20
        parts.append(f'<line x1="{x0 + shift}" y1="{y0 + 22}" x2="{x1 + shift}" y2="{y1}" {look}/>')
    for block in shown:
        x, y = places[block["id"]]
        dash = ' stroke-dasharray="4 3"' if block["kind"] == "argument" else ""
        label = html.escape(clip_middle(one_line(block["label"]), 42))
        parts.append(
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="22" rx="4" fill="none" '
            f'stroke="{_colour(block["kind"])}"{dash}/>'
            f'<text x="{x + 6}" y="{y + 15}" fill="currentColor" xml:space="preserve">'
            f"{label}</text>"
        )
    return "".join([*parts, "</svg>"])


# -- pieces --------------------------------------------------------------------------------


def _of_state(graph: dict[str, Any], state: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in graph["nodes"][:MOST] if node["state"] == state["index"]]


def _head(graph: dict[str, Any]) -> str:
    words = [count(len(graph["nodes"]), "step"), count(len(graph["states"]), "state")]
    words.append("complete" if graph["complete"] else "not complete")
    if graph["arguments"]:
        words.append(f"open: {', '.join(graph['arguments'])}")
    return f"Trace of {graph['program']}: {', '.join(words)}"


def _stop_words(stopped: dict[str, Any]) -> str:
    place = "" if stopped["line"] is None else f"line {stopped['line']}"
    code = f" ({stopped['code']})" if stopped["code"] else ""
    return f"{place}{code}: {stopped['why']}" if place else stopped["why"]


def _state_words(graph: dict[str, Any], state: dict[str, Any]) -> str:
    if state["parent"] is None:
        return state["label"]
    return f"{state['label']}, a branch of {graph['states'][state['parent']]['label']}"


def _depth(graph: dict[str, Any], state: dict[str, Any]) -> int:
    depth = 0
    while state["parent"] is not None:
        depth, state = depth + 1, graph["states"][state["parent"]]
    return depth


def _node_html(node: dict[str, Any]) -> str:
    kind = node["kind"]
    if kind == "text":
        return escape(node["text"])
    sources = ", ".join(f"%{i}" for i in node["sources"])
    words = [f"%{node['id']} {kind}", f"line {node['line']}" if node["line"] else ""]
    words.append(f"uses {sources}" if sources else "")
    title = escape(" · ".join(word for word in words if word))
    style = _BOXES.get(kind, _OTHER)
    return f'<span style="{style}" title="{title}">{escape(one_line(_label(node)))}</span>'


def _label(node: dict[str, Any]) -> str:
    """A step in a word or two."""
    kind, name = node["kind"], node["name"]
    if kind in ("role_begin", "role_end"):
        return f"{name}:" if kind == "role_begin" else f"/{name}"
    if kind == "text":
        return node["text"]
    if kind == "argument":
        return f"{{{name}}}"
    return kind.replace("_", " ") + (f" {name}" if name else "")


def _blocks(graph: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """(the steps to draw, what each step is drawn in): constant text that goes on is one box."""
    blocks: list[dict[str, Any]] = []
    inside: dict[int, int] = {}
    for node in graph["nodes"][:MOST]:
        before = blocks[-1] if blocks else None
        goes_on = before is not None and node["prev"] == before["last"]
        if goes_on and node["kind"] in _CONSTANT and before["kind"] == "text":
            before["label"] += _label(node)
            before["last"] = node["id"]
        else:
            kind = "text" if node["kind"] in _CONSTANT else node["kind"]
            block = {**node, "kind": kind, "label": _label(node), "last": node["id"]}
            blocks.append(block)
        inside[node["id"]] = blocks[-1]["id"]
    return blocks, inside


def _edges(blocks: list[dict[str, Any]], inside: dict[int, int]) -> list[tuple[int, int, str]]:
    edges = []
    for block in blocks:
        if block["prev"] is not None:
            edges.append((inside[block["prev"]], block["id"], "order"))
        edges += [(inside[source], block["id"], "data") for source in block["sources"]]
    return edges


def _colour(kind: str) -> str:
    return "#0072B2" if kind in ("gen", "select") else "#888888"


def _look(kind: str) -> str:
    dashed = ', style="rounded,dashed"' if kind == "argument" else ""
    return f', color="{_colour(kind)}"{dashed}' + (", penwidth=2" if kind == "gen" else "")
