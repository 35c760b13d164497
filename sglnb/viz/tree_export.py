"""The radix tree as DOT text and as SVG."""

from __future__ import annotations

import html
import shutil
import subprocess
from collections.abc import Iterable

from .outline import outline
from .plain import node_text, node_words
from .reduce_tree import Node, Tree
from .text import clip_middle, count, one_line, visible

DOT_SECONDS = 10
ROW, COLUMN, CHAR = 34, 40, 6.7
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
    for i, item in enumerate(outline(tree, keep)):
        if "more" in item:
            text = f"+{count(item['more'], 'node')}, {count(item['tokens'], 'token')}"
            lines.append(f'  more{i} [label="{text}", style=dashed];')
            lines.append(f"  n{item['parent']} -> more{i} [style=dashed];")
            continue
        node = tree["nodes"][str(item["node"])]
        label = _quote(_label(node)) + "\\n" + _quote(node_words(node))
        look = f', color="{_colour(node)}"' + (", penwidth=2" if node["locks"] > 0 else "")
        if node["evicted"] is not None:
            look += ', style="rounded,dashed"'
        lines.append(f'  n{node["node"]} [label="{label}"{look}];')
        lines.append(f"  n{item['parent']} -> n{node['node']};")
    return "\n".join([*lines, "}", ""])


def tree_svg(tree: Tree, keep: Iterable[int] = ()) -> str:
    """The tree as SVG text: by ``dot`` where it is installed and works, else drawn here."""
    keep = list(keep)
    dot = shutil.which("dot")
    if dot is not None:
        try:
            done = subprocess.run(
                [dot, "-Tsvg"], input=tree_dot(tree, keep).encode("utf-8", "replace"),
                capture_output=True, timeout=DOT_SECONDS, check=True,
            )  # fmt: skip
            svg = done.stdout.decode("utf-8", "replace")
            return svg[svg.index("<svg") :]
        except (OSError, subprocess.SubprocessError, ValueError):
            pass  # a broken or slow dot is as good as none
    return own_svg(tree, keep)


def own_svg(tree: Tree, keep: Iterable[int] = ()) -> str:
    """The tree drawn without Graphviz: one row a leaf, parents level with their first child."""
    items = outline(tree, keep)
    x: dict[int, float] = {0: 10.0}
    y: dict[int, float] = {}
    kids: dict[int, list[int]] = {}
    for i, item in enumerate(items):
        kids.setdefault(item["parent"], []).append(i)
    width, rows = 200.0, 0
    labels = [_item_words(tree, item) for item in items]
    for i, item in enumerate(items):
        right = x[item["parent"]] + COLUMN + CHAR * max(map(len, labels[i]))
        width = max(width, right + 20)
        if "node" in item:
            x[item["node"]] = right
        if not kids.get(item.get("node", -1)):
            y[i] = 24 + ROW * rows
            rows += 1
    for i in reversed(range(len(items))):
        if i not in y:
            y[i] = y[kids[items[i]["node"]][0]]
    root_y = y.get(0, 24.0)
    place = {item["node"]: y[i] for i, item in enumerate(items) if "node" in item} | {0: root_y}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{24 + ROW * max(rows, 1)}" '
        'font-family="monospace" font-size="11" role="img" aria-label="radix tree">',
        f'<circle cx="10" cy="{root_y:.1f}" r="3" fill="#888888"/>',
    ]
    for i, item in enumerate(items):
        x0, y0, yi = x[item["parent"]], place[item["parent"]], y[i]
        node = tree["nodes"][str(item["node"])] if "node" in item else None
        colour = "#888888" if node is None else _colour(node)
        dash = ' stroke-dasharray="4 3"' if node is None or node["evicted"] is not None else ""
        x1 = x0 + COLUMN + CHAR * max(map(len, labels[i]))
        curve = f"M{x0:.1f} {y0:.1f}C{x0 + 20:.1f} {y0:.1f} {x0 + 10:.1f} {yi:.1f} {x0 + 30:.1f} {yi:.1f}"
        parts.append(f'<path d="{curve}H{x1:.1f}" fill="none" stroke="{colour}"{dash}/>')
        for line, (text, dy) in enumerate(zip(labels[i], (-4, 11), strict=False)):
            fill = "#888888" if line or node is None else "currentColor"
            parts.append(f'<text x="{x0 + 32:.1f}" y="{yi + dy:.1f}" fill="{fill}" xml:space="preserve">'
                         f"{html.escape(text)}</text>")  # fmt: skip
        if node is not None:
            fill = colour if node["locks"] > 0 else "none"
            parts.append(f'<circle cx="{x1:.1f}" cy="{yi:.1f}" r="4" fill="{fill}" stroke="{colour}"/>')
    return "".join([*parts, "</svg>"])


def _item_words(tree: Tree, item: dict) -> list[str]:
    if "more" in item:
        return [f"+{count(item['more'], 'node')}, {count(item['tokens'], 'token')}"]
    node = tree["nodes"][str(item["node"])]
    return [_label(node), node_words(node)]


def _label(node: Node) -> str:
    return clip_middle(one_line(node_text(node)), LABEL)


def _colour(node: Node) -> str:
    if node["evicted"] is not None:
        return "#D55E00"
    return "#CC79A7" if node["locks"] > 0 else "#888888"


def _quote(text: str) -> str:
    """``text`` inside a DOT string, nothing in it taken for an escape."""
    return visible(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
