"""Constraints as HTML that survives saving (:mod:`.static_html` says what may be in it)."""

from __future__ import annotations

from typing import Any

from .fsm import FSM, edge_label, focus_of, strip
from .plain import row_label
from .text import clip_middle, count, escape, one_line

MAX_CELLS = 150
"""Tokens and jumps shown for each request; of more, the last ones."""
MAX_REQUESTS = 12
BAR = 20
"""Height in pixels of a bar that stands for all of the probability."""

_TOO_LARGE = "too many states to draw"
_NO_STATES = "no automaton to draw: its states are made as it is parsed"
_SMALL = "font-size: 11px; opacity: 0.7"
_FORCED = "border-bottom: 2px dotted #E69F00; background-color: rgba(230, 159, 0, 0.14)"
_COLUMN = "display: inline-block; vertical-align: middle; padding: 0 3px"


def constraints_html(view: dict[str, Any]) -> str:
    """Each constraint of a run: its automaton with the way that the last request took, and what
    the requests wrote, with what the mask took away."""
    constraint, parts = view["constraint"], []
    sources: dict[str, list[dict[str, Any]]] = {}
    for rid in constraint["order"]:
        request = constraint["requests"][rid]
        sources.setdefault(request["source"], []).append(request)
    for source, requests in sources.items():
        parts.append(
            f'<div style="font-family: monospace; {_SMALL}">'
            f"{escape(clip_middle(one_line(source), 200))}</div>"
        )
        entry = constraint["graphs"].get(source)
        if entry and entry["graph"]:
            own = {request["rid"]: request for request in requests}
            focus = focus_of({"requests": own, "order": list(own)})
            items = strip(view["tokens"], focus) if focus else []
            parts.append(graph_html(FSM(entry["graph"]), items))
        elif entry:
            why = _TOO_LARGE if entry["states"] else _NO_STATES
            parts.append(
                f'<div style="{_SMALL}">{why}; the tokens above tell what was allowed</div>'
            )
        parts += [_strip_html(view, request) for request in requests[-MAX_REQUESTS:]]
        if len(requests) > MAX_REQUESTS:
            more = count(len(requests) - MAX_REQUESTS, "earlier request")
            parts.append(f'<div style="{_SMALL}">+{more}</div>')
    legend = (
        f'<div style="{_SMALL}">the bar over a token: the share of probability that the mask '
        f'removed · <span style="{_FORCED}">forced</span>: written without a forward pass</div>'
    )
    return (
        f'<details><summary style="cursor: pointer">constraint</summary>{legend}'
        f"{''.join(parts)}</details>"
    )


def graph_html(fsm: FSM, items: list[dict[str, Any]]) -> str:
    """The automaton from left to right: columns of states, between them the edges; the way of
    ``items`` is drawn strong."""
    current = items[-1]["fsm_to"] if items else 0
    shown = fsm.around(current)
    way = {i for item in items for i in fsm.way(item["fsm"], item["fsm_to"], item["text"])}
    been = {0, *(state for i in way for state in fsm.edges[i][:2])} if items else set()
    columns = []
    for layer in fsm.layers():
        states = [state for state in layer if state in shown]
        if not states:
            continue
        here = fsm.drawn(current) if items else None
        chips = "".join(
            _state_html(state, fsm.final[state], state in been, state == here) for state in states
        )
        edges = [i for state in states for i in fsm.out[state] if fsm.edges[i][1] in shown]
        exits = "".join(_edge_html(fsm, i, i in way) for i in edges)
        columns.append(f'<div style="{_COLUMN}">{chips}</div>')
        if exits:
            columns.append(f'<div style="{_COLUMN}">{exits}</div>')
    more = len(fsm.final) - len(shown)
    rest = f'<div style="{_SMALL}">+{count(more, "state")}</div>' if more else ""
    return (
        '<div style="white-space: nowrap; overflow-x: auto; padding: 4px 0; font-size: 11px" '
        'tabindex="0">'
        f"{''.join(columns)}</div>{rest}"
    )


def _state_html(state: int, final: bool, been: bool, here: bool) -> str:
    border = "4px double" if final else "2px solid" if been else "1px solid"
    colour = "#0072B2" if been else "#888888"
    ground = "; background-color: rgba(30, 140, 215, 0.35)" if here else ""
    title = f"state {state}" + (": the text may end here" if final else "")
    return (
        f'<div style="margin: 2px 0; padding: 0 5px; text-align: center; '
        f'border: {border} {colour}; border-radius: 12px{ground}" title="{title}">{state}</div>'
    )


def _edge_html(fsm: FSM, i: int, taken: bool) -> str:
    source, target, label, _, via = fsm.edges[i]
    look = "font-family: monospace; white-space: pre"
    if fsm.forced(i):
        look += (
            f"; border: 1px {'solid' if taken else 'dotted'} #E69F00; border-radius: 7px; "
            "padding: 0 5px; background-color: rgba(230, 159, 0, 0.14)"
        )
    text = escape(clip_middle(edge_label(label), 24))
    weight = "<b>{}</b>" if taken else '<span style="opacity: 0.7">{}</span>'
    title = f"from state {source} to {target}, {count(len(via) + 1, 'character')}"
    where = " ↺" if source == target else f" → {target}"
    inner = weight.format(f'<span style="{look}">{text}</span>{where}')
    return f'<div style="margin: 3px 0" title="{title}">{inner}</div>'


def _strip_html(view: dict[str, Any], request: dict[str, Any]) -> str:
    items = strip(view["tokens"], request)
    if not items:
        return ""
    row = view["tokens"]["rows"][request["row"]]
    before = len(items) - MAX_CELLS
    early = f'<span style="{_SMALL}">⋯ {before:,} before </span>' if before > 0 else ""
    return (
        f'<div style="padding: 2px 0"><span style="{_SMALL}">'
        f"{escape(one_line(row_label(row, request['name'])))} </span>"
        f"{early}{''.join(map(_cell_html, items[-MAX_CELLS:]))}</div>"
    )


def _cell_html(item: dict[str, Any]) -> str:
    share = max(0.0, min(1.0, item["removed"] or 0.0))
    high = round(BAR * share)
    if item["kind"] == "forced":
        title = f"{count(item['end'] - item['pos'], 'token')} without a forward pass"
    else:
        allowed = count(item["allowed"] or 0, "token")
        title = f"{allowed} allowed, mask removed {100 * share:.0f} %"
    if item["fsm_to"] is not None:
        title += f", state {item['fsm_to']} after it"
    look = f"; {_FORCED}" if item["kind"] == "forced" else ""
    bar = f'<span style="display: block; height: {BAR - high}px"></span>'
    if high:
        bar += f'<span style="display: block; height: {high}px; background-color: #888888"></span>'
    text = escape(one_line(clip_middle(item["text"], 80))) or "∅"
    return (
        f'<span style="display: inline-block; vertical-align: bottom; margin-right: 1px" '
        f'title="{title}">{bar}<span style="font-family: monospace; white-space: pre-wrap{look}">'
        f"{text}</span></span>"
    )
