"""The program of a run as rows to draw, and in words.

``static/programrows.js`` holds the same in JavaScript; change both together.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from .plain import row_label
from .text import clip_middle, count, one_line

Row = dict[str, Any]

WIDTH = 150
"""Characters of a text that are shown."""
MOST_FILLS = 6
"""Texts of one hole that are shown; of more, the first, the last and one that failed."""
MARKS = {
    "open": "○", "waiting": "○", "running": "▍", "done": "✓", "stopped": "◼", "failed": "✕",
    "missed": "–", "fork": "⇉", "join": "⇇", "loop": "↻", "if": "◇", "else": "◇", "call": "→",
}  # fmt: skip
"""What stands before a row, by its status, else by its kind."""
STATUSES = ("waiting", "running", "done", "stopped", "failed")
_HOLES = ("gen", "select")
_WRITTEN = ("text", "value", "use", "image")
_BLOCKS = ("loop", "if", "else", "call")


def has_shape(program: dict[str, Any]) -> bool:
    """Whether there is more to see than a few texts in a row: branches, loops, conditions, calls,
    or many holes."""
    holes = 0
    for node in program["nodes"]:
        if node["kind"] == "fork" or node["kind"] in _BLOCKS:
            return True
        holes += node["kind"] in _HOLES
    return holes > 2


def program_words(program: dict[str, Any]) -> str:
    """``2 of 5 holes filled · 1 running``."""
    holes = [node for node in program["nodes"] if node["kind"] in _HOLES]
    tally = Counter(fill["status"] for fill in program["fills"])
    filled = sum(
        bool(node["fills"]) and all(program["fills"][i]["status"] == "done" for i in node["fills"])
        for node in holes
    )
    words = [f"{filled:,} of {count(len(holes), 'hole')} filled"]
    if len(program["fills"]) > len(holes):
        words.append(count(len(program["fills"]), "text"))
    words += [f"{tally[s]:,} {s}" for s in ("waiting", "running", "stopped", "failed") if tally[s]]
    return " · ".join(words)


def program_rows(view: dict[str, Any]) -> list[Row]:
    """One row a node, and one for each text of a hole that has several. What the program itself
    writes into one message is one row, with ``parts``: ``[kind, text, share that was cached]``.

    ``share`` are the tokens of a constant that were cached, and all of them; ``status`` is that of
    a text, "open" of a hole that nobody came to yet, "missed" of one that nobody came to at all.
    """
    program, rows, role = view["program"], [], None
    for node in program["nodes"]:
        begins = node["kind"] not in _BLOCKS and (node["role"] != role or node["opens"])
        if node["kind"] not in _BLOCKS:
            role = node["role"]
        if rows and not begins and _goes_on(rows[-1], node):
            _add_part(rows[-1], node)
            continue
        row = {
            "key": f"n{node['id']}", "node": node["id"], "fill": None, "depth": node["depth"],
            "kind": node["kind"], "label": _label(node),
            "role": one_line(role or "") if begins else "",
            "parts": [], "last": node["id"], "text": "", "share": None, "status": "",
            "note": _note(program, node),
        }  # fmt: skip
        if node["kind"] in _WRITTEN:
            _add_part(row, node)
        rows.append(row)
        if node["kind"] in _HOLES:
            rows += _fill_rows(view, node, row)
    if program["more"]:
        rows.append({
            "key": "more", "node": None, "fill": None, "depth": 0, "kind": "more", "role": "",
            "label": f"+{count(program['more'], 'node')}", "parts": [], "last": None,
            "text": "", "share": None, "status": "", "note": "",
        })  # fmt: skip
    return rows


def program_text(view: dict[str, Any]) -> str:
    """The program as an indented list."""
    lines = [f"program: {program_words(view['program'])}"]
    for row in program_rows(view):
        mark = MARKS.get(row["status"] or row["kind"], "")
        role = f"{row['role']}:" if row["role"] else ""
        words = (mark, role, row["label"], row["text"], f"[{row['note']}]" if row["note"] else "")
        lines.append("  " * (row["depth"] + 1) + " ".join(word for word in words if word))
    return "\n".join(lines)


def _goes_on(row: Row, node: Row) -> bool:
    """Whether ``node`` is written right after ``row``, into the same message."""
    both = row["kind"] in _WRITTEN and node["kind"] in _WRITTEN
    return both and node["prev"] == row["last"] and node["depth"] == row["depth"]


def _add_part(row: Row, node: Row) -> None:
    text = _clip(_constant(node)) if node["kind"] == "text" else _label(node)
    cached, total = node["cached"] or (0, 0)
    row["parts"].append([node["kind"], text, cached / total if total else 0])
    row["text"] = "".join(t if kind == "text" else f"{{{t}}}" for kind, t, _ in row["parts"])
    row["last"], row["label"] = node["id"], ""
    if total:
        before = row["share"] or [0, 0]
        row["share"] = [before[0] + cached, before[1] + total]
        known, of = row["share"]
        row["note"] = f"{known:,} of {count(of, 'token')} cached" if known else ""


def _label(node: Row) -> str:
    kind, name = node["kind"], one_line(node["name"] or "")
    if kind in _HOLES:
        named = name or clip_middle(one_line(node["code"]), 40)
        return " ".join(word for word in (kind if kind == "select" else "", named) if word) or "gen"
    if kind == "fork":
        size = "" if node["size"] is None else f" {node['size']:,}"
        return " ".join(word for word in (f"fork{size}", name) if word)
    if kind == "use":
        return name
    return "" if kind == "text" else clip_middle(one_line(node["code"] or kind), 90)


def _constant(node: Row) -> str:
    if not node["hidden"]:
        return node["text"]
    return f"{node['text']} ⟨{node['hidden']:,} more⟩ {node['tail']}"


def _clip(text: str) -> str:
    return clip_middle(one_line(text), WIDTH)


def _note(program: dict[str, Any], node: Row) -> str:
    """What else is to be said of a node."""
    kind = node["kind"]
    if kind == "fork" and node["forks"]:
        n = sum(len(children) for children in node["forks"])
        return "1 branch" if n == 1 else f"{n:,} branches"
    if kind == "join" and node["joins"]:
        return "joined" if node["joins"] == 1 else f"joined {node['joins']:,} times"
    if kind == "call" and node["unread"]:
        return "its source is not read"
    if kind in ("loop", "if", "else"):
        named = [one_line(name) for name in node["uses"] if name]
        words = [f"depends on {', '.join(named)}"] if named else []
        if node["uses"] and not named:
            words = ["depends on what was written"]
        went = _went(program, node)
        return " · ".join([*words, went] if went else words)
    return "not in the source that was read" if node["unseen"] else ""


def _went(program: dict[str, Any], block: Row) -> str:
    """Whether a block was gone through, as far as its holes tell."""
    holes = []
    for node in program["nodes"][block["id"] + 1 :]:
        if node["depth"] <= block["depth"]:
            break
        if node["kind"] in _HOLES or node["kind"] == "fork":
            holes.append(node)
    if any(node["fills"] or node["forks"] for node in holes):
        return "" if block["kind"] == "loop" else "taken"
    return "not taken" if holes and program["over"] else ""


def _fill_rows(view: dict[str, Any], node: Row, row: Row) -> list[Row]:
    """Fill the row of a hole with its text; several have rows of their own."""
    program = view["program"]
    fills = [program["fills"][i] for i in node["fills"]]
    if not fills:
        row["status"] = "missed" if program["over"] else "open"
        return []
    if len(fills) == 1:
        note, filled = row["note"], _filled(fills[0], node["fills"][0])
        row.update(filled, note=" · ".join(word for word in (note, filled["note"]) if word))
        return []
    tally = Counter(fill["status"] for fill in fills)
    words = ", ".join(f"{tally[status]:,} {status}" for status in STATUSES if tally[status])
    row["note"] = " · ".join(word for word in (row["note"], words) if word)
    shown = _shown(fills)
    out, before = [], Counter()
    for at, fill in enumerate(fills):
        before[fill["state"]] += 1
        if at in shown:
            label = _fill_label(view, fill, before[fill["state"]])
            out.append({**row, "key": f"f{node['fills'][at]}", "kind": "fill", "role": "",
                        "depth": node["depth"] + 1, "label": label,
                        **_filled(fill, node["fills"][at])})  # fmt: skip
        elif at - 1 in shown:
            gap = next((i for i in range(at, len(fills)) if i in shown), len(fills)) - at
            out.append({**row, "key": f"gap{node['id']}.{at}", "kind": "more", "role": "",
                        "depth": node["depth"] + 1, "label": f"+{count(gap, 'text')}",
                        "note": ""})  # fmt: skip
    return out


def _shown(fills: list[Row]) -> set[int]:
    n = len(fills)
    if n <= MOST_FILLS:
        return set(range(n))
    failed = [i for i, fill in enumerate(fills) if fill["status"] == "failed"]
    return {0, 1, 2, n - 2, n - 1, *failed[:1]}


def _fill_label(view: dict[str, Any], fill: Row, nth: int) -> str:
    row = view["branches"]["rows"].get(fill["state"])
    named = row is not None and (row["parent"] is not None or row["index"] > 0)
    label = row_label(row, fill["name"]) if named else fill["name"] or "text"
    return clip_middle(one_line(label), 30) + (f" #{nth}" if nth > 1 else "")


def _filled(fill: Row, index: int) -> Row:
    text = "".join(fill["pieces"]) if fill["text"] is None else fill["text"]
    note = ""
    if fill["error"]:
        note = f"✕ {clip_middle(one_line(fill['error']), WIDTH)}"
    elif fill["cached"] is not None:
        note = f"{fill['cached']:,} of {count(fill['prompt'], 'prompt token')} cached"
    return {"fill": index, "text": _clip(text), "status": fill["status"], "note": note}
