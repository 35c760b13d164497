"""The radix tree as DOT text and as SVG."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any, NamedTuple

from .graphviz import dot_svg, quote
from .outline import outline, pins_below
from .plain import node_text, node_words
from .reduce_tree import Node, Tree
from .text import clip_middle, count, one_line

LEFT, TOP, ROW, BEND, CHAR = 10, 24, 34, 40, 6.7
LABEL = 34


def tree_dot(tree: Tree, keep: Iterable[int] = ()) -> str:
    """The tree for Graphviz: left to right, edge text clipped, nodes with counts."""
    lines = [
        "digraph radix {",
        '  rankdir=LR; bgcolor="transparent"; nodesep=0.15; ranksep=0.3;',
        '  node [shape=box, style=rounded, fontname="Helvetica", fontsize=10, color="#888888"];',
        '  edge [color="#888888", arrowhead=none];',
        '  n0 [shape=point, width=0.1, label=""];',
    ]
    pins = pins_below(tree)
    for i, item in enumerate(outline(tree, keep)):
        if "more" in item:
            text = f"+{count(item['more'], 'node')}, {count(item['tokens'], 'token')}"
            lines.append(f'  more{i} [label="{text}", style=dashed];')
            lines.append(f"  n{item['parent']} -> more{i} [style=dashed];")
            continue
        node = tree["nodes"][str(item["node"])]
        held = pins.get(node["node"], 0)
        label = quote(_label(node)) + "\\n" + quote(node_words(node, held))
        look = f', color="{_colour(node, held)}"' + (", penwidth=2" if node["locks"] > 0 else "")
        if node["evicted"] is not None:
            look += ', style="rounded,dashed"'
        lines.append(f'  n{node["node"]} [label="{label}"{look}];')
        lines.append(f"  n{item['parent']} -> n{node['node']};")
    return "\n".join([*lines, "}", ""])


def tree_svg(tree: Tree, keep: Iterable[int] = ()) -> str:
    """The tree as SVG text: by ``dot`` where it is installed and works, else drawn here."""
    keep = list(keep)
    return dot_svg(tree_dot(tree, keep)) or own_svg(tree, keep)


def own_svg(tree: Tree, keep: Iterable[int] = ()) -> str:
    """The tree drawn without Graphviz: one row a leaf, parents level with their first child."""
    items, pins = outline(tree, keep), pins_below(tree)
    words = [_item_words(tree, item, pins) for item in items]
    places = _place(items, words)
    width = max([200.0, *(place.x1 + 20 for place in places)])
    height = max([40.0, *(place.y + 24 for place in places)])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        'font-family="monospace" font-size="11" role="img" aria-label="radix tree">',
        f'<circle cx="{LEFT}" cy="{TOP}" r="3" fill="#888888"/>',
    ]
    for item, lines, place in zip(items, words, places, strict=True):
        node = tree["nodes"][str(item["node"])] if "node" in item else None
        parts.append(_drawn(node, lines, place, 0 if node is None else pins.get(node["node"], 0)))
    return "".join([*parts, "</svg>"])


class Place(NamedTuple):
    """Where an edge goes: from (x0, y0) along y to x1, in pixels."""

    x0: float
    y0: float
    x1: float
    y: float


def _place(items: list[dict[str, Any]], words: list[list[str]]) -> list[Place]:
    ends: dict[int, tuple[float, float]] = {0: (LEFT, TOP)}
    seen: set[int] = set()
    places, y = [], float(TOP)
    for item, lines in zip(items, words, strict=True):
        x0, y0 = ends[item["parent"]]
        if item["parent"] in seen:
            y += ROW  # not a first child: a new row below all before it
        seen.add(item["parent"])
        place = Place(x0, y0, x0 + BEND + CHAR * max(map(len, lines)), y)
        places.append(place)
        if "node" in item:
            ends[item["node"]] = (place.x1, y)
    return places


def _drawn(node: Node | None, lines: list[str], at: Place, pins: int) -> str:
    colour = "#888888" if node is None else _colour(node, pins)
    dash = ' stroke-dasharray="4 3"' if node is None or node["evicted"] is not None else ""
    curve = f"C{at.x0 + 20:.1f} {at.y0:.1f} {at.x0 + 8:.1f} {at.y:.1f} {at.x0 + 28:.1f} {at.y:.1f}"
    parts = [
        f'<path d="M{at.x0:.1f} {at.y0:.1f}{curve}H{at.x1:.1f}" fill="none" '
        f'stroke="{colour}"{dash}/>'
    ]
    for text, dy, fill in zip(lines, (-4, 11), ("currentColor", "#737373"), strict=False):
        parts.append(
            f'<text x="{at.x0 + 30:.1f}" y="{at.y + dy:.1f}" fill="{fill}" xml:space="preserve">'
            f"{html.escape(text)}</text>"
        )
    if node is not None:
        fill = colour if node["locks"] > pins or node["pins"] else "none"
        parts.append(
            f'<circle cx="{at.x1:.1f}" cy="{at.y:.1f}" r="4" fill="{fill}" stroke="{colour}"/>'
        )
    return "".join(parts)


def _item_words(tree: Tree, item: dict[str, Any], pins: dict[int, int]) -> list[str]:
    if "more" in item:
        return [f"+{count(item['more'], 'node')}, {count(item['tokens'], 'token')}"]
    node = tree["nodes"][str(item["node"])]
    return [_label(node), node_words(node, pins.get(node["node"], 0))]


def _label(node: Node) -> str:
    return clip_middle(one_line(node_text(node)), LABEL)


def _colour(node: Node, pins: int) -> str:
    if node["evicted"] is not None:
        return "#D55E00"
    return "#CC79A7" if node["locks"] > pins else "#888888"
