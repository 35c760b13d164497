"""A constraint alone: as text, as HTML that survives, as a page, as DOT and as SVG.

Takes a compiled constraint by its ``kind``, ``source``, ``n_states``, ``compile_ms`` and
``graph()``.
"""

from __future__ import annotations

import html
from typing import Any

from .fsm import FSM, RADIUS, draw_fsm, edge_label, edge_path
from .graphviz import dot_svg, quote
from .static_constraint import graph_html
from .text import clip_middle, count, error_html, escape, one_line, visible

MAX_DOT = 300
"""States that are left to dot; it takes long for more."""
MAX_LINES = 40

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 14px/1.5 system-ui, sans-serif; margin: 18px; background: #fff; color: #1f2328; }}
.picture {{ overflow-x: auto; }}
</style>
</head>
<body>{body}</body>
</html>
"""


def constraint_fsm(constraint: Any) -> FSM | None:
    """The compressed automaton, None where there is none."""
    graphs = constraint.graph()
    if graphs is None:
        return None
    nodes = [[node.id, int(node.final)] for node in graphs.compressed.nodes]
    edges = [
        [
            edge.source,
            edge.target,
            edge.label if edge.text is None else edge.text,
            int(edge.text is not None),
            edge.via,
        ]
        for edge in graphs.compressed.edges
    ]
    return FSM({"nodes": nodes, "edges": edges})


def constraint_words(constraint: Any) -> list[str]:
    """``["90 states", "31 drawn", "compiled in 12 ms"]``."""
    graphs = constraint.graph()
    words = []
    if constraint.n_states is not None:
        words.append(count(constraint.n_states, "state"))
    else:
        words.append("its states are made while it is used")
    if graphs is not None:
        drawn = "when compressed" if constraint.n_states is not None else "drawn so far"
        words.append(f"{len(graphs.compressed.nodes):,} {drawn}")
    words.append(f"compiled in {constraint.compile_ms:,.1f} ms")
    return words


def constraint_text(constraint: Any) -> str:
    """For a terminal: a line about it, then each state with its ways on."""
    source = clip_middle(one_line(constraint.source), 200)
    lines = [f"{constraint.kind}: {source}", " · ".join(constraint_words(constraint))]
    fsm = constraint_fsm(constraint)
    if fsm is None:
        return "\n".join(lines)
    states = [state for layer in fsm.layers() for state in layer]
    for state in states[:MAX_LINES]:
        ways = [
            ("⟦{}⟧→{}" if fsm.forced(i) else "{}→{}").format(
                clip_middle(edge_label(fsm.edges[i][2]), 30), fsm.edges[i][1]
            )
            for i in fsm.out[state]
        ]
        more = [f"… {len(ways) - 6} more"] if len(ways) > 6 else []
        mark = "◎" if fsm.final[state] else "○"
        lines.append(f"{mark} {state:<4}{'   '.join(ways[:6] + more)}".rstrip())
    if len(states) > MAX_LINES:
        lines.append(f"… {count(len(states) - MAX_LINES, 'more state')}")
    return "\n".join(lines)


def constraint_dot(constraint: Any) -> str:
    """For Graphviz: circles for states, double ones where the text may end, boxes for text that
    is not chosen. Empty where there is no automaton."""
    fsm = constraint_fsm(constraint)
    lines = [
        "digraph constraint {",
        '  rankdir=LR; bgcolor="transparent"; nodesep=0.15; ranksep=0.25;',
        '  node [fontname="Helvetica", fontsize=9, color="#888888"];',
        '  edge [fontname="monospace", fontsize=9, color="#888888", arrowsize=0.5];',
    ]
    for state, final in {} if fsm is None else fsm.final.items():
        shape = "doublecircle" if final else "circle"
        lines.append(f'  s{state} [shape={shape}, label="{state}", width=0.25, margin=0.02];')
    for i, (source, target, label, *_) in enumerate([] if fsm is None else fsm.edges):
        text = quote(clip_middle(edge_label(label), 40))
        if fsm.forced(i):
            lines.append(
                f'  e{i} [shape=box, style="rounded,filled", fillcolor="#FCF1DB", '
                f'color="#E69F00", fontname="monospace", height=0.2, margin="0.06,0.02", '
                f'label="{text}"];'
            )
            lines.append(f"  s{source} -> e{i} [arrowhead=none];")
            lines.append(f"  e{i} -> s{target};")
        else:
            lines.append(f'  s{source} -> s{target} [label="{text}"];')
    return "\n".join([*lines, "}", ""])


def constraint_svg(constraint: Any) -> str:
    """SVG text: by ``dot`` where it is installed and works, else drawn here. Of a large automaton
    the states near the start."""
    fsm = constraint_fsm(constraint)
    if fsm is not None and len(fsm.final) <= MAX_DOT:
        drawn = dot_svg(constraint_dot(constraint))
        if drawn is not None:
            return drawn
    return own_fsm_svg(fsm)


def own_fsm_svg(fsm: FSM | None) -> str:
    """The automaton drawn without Graphviz, left to right."""
    if fsm is None:
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" width="320" height="40" role="img" '
            'aria-label="no automaton"><text x="8" y="24" font-family="sans-serif" font-size="12" '
            'fill="#737373">This constraint has no automaton to draw.</text></svg>'
        )
    shown = fsm.around(0)
    plan = draw_fsm(fsm, shown, fsm.layers())
    rest = len(fsm.final) - len(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{plan.width:.0f}" '
        f'height="{plan.height + 16 * bool(rest):.0f}" font-family="monospace" font-size="10.5" '
        'role="img" aria-label="automaton of a constraint">'
    ]
    parts += [f'<path d="{edge_path(edge)}" fill="none" stroke="#888888"/>' for edge in plan.edges]
    for edge in plan.edges:
        x, y, text = edge["lx"], edge["ly"], edge["label"]
        half = 3.15 * len(text) + (6 if edge["box"] else 2)
        look = 'rx="7" fill="#FCF1DB" stroke="#E69F00"' if edge["box"] else 'fill="#FFFFFF"'
        parts.append(
            f'<rect x="{x - half:.1f}" y="{y - 8:.1f}" width="{2 * half:.1f}" height="16" {look}/>'
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" xml:space="preserve" '
            f'fill="#333333">{html.escape(text)}</text>'
        )
    for state in plan.states:
        for r in (RADIUS, RADIUS - 3.5) if state["final"] else (RADIUS - 1.5,):
            parts.append(
                f'<circle cx="{state["x"]:.1f}" cy="{state["y"]:.1f}" r="{r}" '
                f'fill="#FFFFFF" stroke="#555555" stroke-width="1.5">'
                f"<title>state {state['state']}</title></circle>"
            )
    if rest:
        parts.append(
            f'<text x="12" y="{plan.height + 8:.0f}" fill="#737373">+{count(rest, "state")}</text>'
        )
    return "".join([*parts, "</svg>"])


def constraint_html(constraint: Any) -> str:
    """For a cell's output: inline styles only, so that it survives in a saved notebook."""
    fsm = constraint_fsm(constraint)
    drawn = "" if fsm is None else graph_html(fsm, [])
    warnings = "".join(map(error_html, constraint.warnings))
    return (
        '<div style="font-family: sans-serif; font-size: 13px; line-height: 1.6">'
        f'<b>{escape(constraint.kind)}</b> <span style="font-family: monospace">'
        f"{escape(clip_middle(one_line(constraint.source), 300))}</span>"
        f'<div style="font-size: 11px; opacity: 0.7">'
        f"{escape(' · '.join(constraint_words(constraint)))}</div>{warnings}{drawn}</div>"
    )


def constraint_page(constraint: Any) -> str:
    """One self-contained file with the picture; needs no network."""
    picture = f'<div class="picture">{constraint_svg(constraint)}</div>'
    title = html.escape(visible(clip_middle(one_line(constraint.source), 80)))
    return _PAGE.format(title=title, body=constraint_html(constraint) + picture)
