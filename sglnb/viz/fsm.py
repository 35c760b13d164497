"""Pure functions for drawing a compressed automaton: which states, where, and a token's way.

A graph is :attr:`sglnb.events.ConstraintUsed.graph`. ``static/fsm.js`` holds the same in
JavaScript; change both together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .text import clip_middle, one_line

MAX_STATES = 60
MAX_EDGES = 90
LABEL = 16
"""Characters of an edge's label."""
ROW, CHAR, GAP, LEFT, TOP, TWIN, LINE = 40.0, 6.3, 40.0, 18.0, 14.0, 30.0, 20.0
RADIUS = 8.0

Record = dict[str, Any]


class FSM:
    """An automaton with its edges by state.

    Attributes:
        final: by drawn state, whether the text may end there; in the order of the graph.
        edges: ``[source, target, label, certain, via]``.
        out, into: indices of the edges of each drawn state.
        home: index of the edge that a state which is not drawn lies in.
    """

    def __init__(self, graph: dict[str, list[list[Any]]]):
        self.final = {state: bool(final) for state, final in graph["nodes"]}
        self.edges = graph["edges"]
        self.out: dict[int, list[int]] = {state: [] for state in self.final}
        self.into: dict[int, list[int]] = {state: [] for state in self.final}
        self.home: dict[int, int] = {}
        for i, (source, target, _, _, via) in enumerate(self.edges):
            self.out[source].append(i)
            self.into[target].append(i)
            self.home.update(dict.fromkeys(via, i))

    def drawn(self, state: int | None) -> int | None:
        """The drawn state that ``state`` is, or whose edge it lies in."""
        if state in self.home:
            return self.edges[self.home[state]][0]
        return state if state in self.final else None

    def forced(self, i: int) -> bool:
        """Whether the edge holds text that is not chosen: all of a lone exit, or what follows
        the first character of a chain."""
        source, _, _, certain, via = self.edges[i]
        alone = len(self.out[source]) == 1 and not self.final[source]
        return bool(certain) and (bool(via) or alone)

    def way(self, before: int | None, after: int | None, text: str = "") -> list[int]:
        """The edges that ``text`` took from ``before`` to ``after``. Where the text does not tell
        (it is only as precise as its display), the fewest."""
        found = self._spelled(before, after, text)
        if found is not None:
            return found
        start, goal = self.drawn(before), self.drawn(after)
        if start is None or goal is None:
            return []
        head = self.home.get(before)  # type: ignore[arg-type]
        tail = self.home.get(after)  # type: ignore[arg-type]
        if head is not None:
            via = self.edges[head][4]
            if head == tail and via.index(after) >= via.index(before):
                return [head]
            start = self.edges[head][1]
        elif before == after:
            return [i for i in self.out[start] if self.edges[i][1] == start][:1]
        return [
            *([] if head is None else [head]),
            *self._shortest(start, goal),
            *([] if tail is None else [tail]),
        ]

    def _spelled(self, before: int | None, after: int | None, text: str) -> list[int] | None:
        """The edges that spell ``text``; what a set of characters holds is not known here."""
        goal, inside = self.drawn(after), self.home.get(after)  # type: ignore[arg-type]
        if not text or goal is None or self.drawn(before) is None:
            return None
        todo: list[tuple[int, int, list[int]]] = []  # state, characters spelled, edges
        seen: set[tuple[int, int]] = set()
        head = self.home.get(before)  # type: ignore[arg-type]
        if head is None:
            todo.append((before, 0, []))  # type: ignore[arg-type]
        else:
            _, target, label, _, via = self.edges[head]
            begun = via.index(before) + 1
            rest = label[begun:]
            ends = inside == head and via.index(after) + 1 == begun + len(text)
            if ends and rest.startswith(text):
                return [head]
            if text.startswith(rest):
                todo.append((target, len(rest), [head]))
        while todo:
            state, at, edges = todo.pop()
            if at == len(text) and inside is None and state == goal:
                return edges
            if at >= len(text) or (state, at) in seen:
                continue
            seen.add((state, at))
            for i in reversed(self.out[state]):
                _, target, label, certain, via = self.edges[i]
                n, left = len(label) if certain else 1, len(text) - at
                if certain and not text.startswith(label[:left], at):
                    continue
                if left >= n:
                    todo.append((target, at + n, [*edges, i]))
                elif i == inside and via.index(after) + 1 == left:
                    return [*edges, i]
        return None

    def _shortest(self, start: int, goal: int) -> list[int]:
        came: dict[int, int] = {start: -1}
        todo = [start]
        for state in todo:
            if state == goal:
                break
            for i in self.out[state]:
                target = self.edges[i][1]
                if target not in came:
                    came[target] = i
                    todo.append(target)
        path: list[int] = []
        at = goal
        while came.get(at, -1) >= 0:
            path.append(came[at])
            at = self.edges[came[at]][0]
        return path[::-1]

    def layers(self) -> list[list[int]]:
        """The states from left to right: each behind all that lead to it, loops left out; within
        a layer near those before it."""
        layer = dict.fromkeys(self._sorted(), 0)
        seen: set[int] = set()
        for state in layer:
            seen.add(state)
            for i in self.out[state]:
                target = self.edges[i][1]
                if target not in seen:
                    layer[target] = max(layer[target], layer[state] + 1)
        columns: list[list[int]] = [[] for _ in range(1 + max(layer.values(), default=0))]
        for state, at in layer.items():
            columns[at].append(state)
        place: dict[int, float] = {}

        def key(state: int) -> tuple[float, int]:
            before = [place[s] for i in self.into[state] if (s := self.edges[i][0]) in place]
            return (sum(before) / len(before) if before else 0.0, state)

        for column in columns:
            column.sort(key=key)
            for i, state in enumerate(column):
                place[state] = i - (len(column) - 1) / 2
        return columns

    def _sorted(self) -> list[int]:
        """The states so that each comes before those it leads to, but for loops."""
        done: list[int] = []
        seen: set[int] = set()
        for root in self.final:
            todo = [(root, 0)]
            while todo:
                state, at = todo.pop()
                if at == 0:
                    if state in seen:
                        continue
                    seen.add(state)
                if at < len(self.out[state]):
                    todo.append((state, at + 1))
                    todo.append((self.edges[self.out[state][at]][1], 0))
                else:
                    done.append(state)
        return done[::-1]

    def around(self, current: int | None) -> set[int]:
        """The states to draw: all if they are few, else the nearest to ``current``."""
        if len(self.final) <= MAX_STATES and len(self.edges) <= MAX_EDGES:
            return set(self.final)
        middle = self.drawn(current)
        todo = [next(iter(self.final)) if middle is None else middle]
        shown: set[int] = set()
        edges = 0
        for state in todo:
            if state in shown:
                continue
            out = [self.edges[i][1] for i in self.out[state]]
            into = [self.edges[i][0] for i in self.into[state]]
            more = sum(each in shown or each == state for each in out)
            more += sum(each in shown for each in into)
            if shown and (len(shown) >= MAX_STATES or edges + more > MAX_EDGES):
                break
            shown.add(state)
            edges += more
            todo += out + into
        return shown


def edge_label(text: str) -> str:
    """An edge's text on one line, spaces shown where it has nothing else."""
    return one_line(text) if text.strip(" ") else "␣" * max(1, len(text))


class Drawing(NamedTuple):
    """Places in pixels. ``states`` have state, x, y, final; ``edges`` have edge (its index), kind,
    x0, y0, x1, y1, bend, lx, ly (the label's centre), label and box (whether it is forced)."""

    width: float
    height: float
    states: list[Record]
    edges: list[Record]


def draw_fsm(fsm: FSM, shown: set[int], layers: list[list[int]]) -> Drawing:
    """``shown`` states of ``fsm``, left to right.

    An edge to the next layer is a curve; edges that lead from one state to the same other one are
    spread. Those that skip layers run along a line above, those that lead back along one below, one
    line for each state they lead to.
    """
    columns = [[s for s in column if s in shown] for column in layers]
    columns = [column for column in columns if column]
    rank = {state: r for r, column in enumerate(columns) for state in column}
    kept = [i for i, edge in enumerate(fsm.edges) if edge[0] in rank and edge[1] in rank]
    labels = {i: clip_middle(edge_label(fsm.edges[i][2]), LABEL) for i in kept}
    kinds, gaps = {}, [GAP] * len(columns)
    twins: dict[tuple[int, int], list[int]] = {}
    for i in kept:
        source, target = fsm.edges[i][:2]
        span = rank[target] - rank[source]
        kinds[i] = (
            "loop" if source == target else "back" if span <= 0 else "skip" if span > 1 else "step"
        )
        if span == 1:
            wide = CHAR * len(labels[i]) + GAP + 8 * fsm.forced(i)
            gaps[rank[source]] = max(gaps[rank[source]], wide)
            twins.setdefault((source, target), []).append(i)
    place, x = {}, LEFT
    for r, column in enumerate(columns):
        for at, state in enumerate(column):
            place[state] = (x, ROW * (at - (len(column) - 1) / 2))
        x += gaps[r]
    bends = {
        i: TWIN * (at - (len(group) - 1) / 2)
        for group in twins.values()
        for at, i in enumerate(group)
    }
    heights = [y for _, y in place.values()]
    heights += [place[fsm.edges[i][0]][1] + bend * 0.75 for i, bend in bends.items()]
    above, below = min(heights, default=0.0), max(heights, default=0.0)
    if "loop" in kinds.values():
        above -= 28
    bends |= _lines(fsm, [i for i in kept if kinds[i] == "skip"], place, above - 20, -LINE)
    bends |= _lines(fsm, [i for i in kept if kinds[i] == "back"], place, below + 22, LINE)
    top = TOP - min([above, *bends.values()])
    edges = []
    for i in kept:
        source, target = fsm.edges[i][:2]
        (x0, y0), (x1, y1) = place[source], place[target]
        kind, bend, half = kinds[i], bends.get(i, 0.0), CHAR * len(labels[i]) / 2
        if kind == "loop":
            lx, ly = x0, y0 - 30
        elif kind == "step":
            near = 0.62 if len(fsm.out[source]) > 1 else 0.5
            if bend or fsm.forced(i):
                near = 0.5
            elif len(fsm.out[source]) == 1 and len(fsm.into[target]) > 1:
                near = 0.38
            lx = x0 + (x1 - x0) * near
            ly = y0 + (y1 - y0) * near * near * (3 - 2 * near) + bend * 0.75
        else:
            lx, ly, bend = x0 + 20 + half if kind == "skip" else x0 - 8 - half, bend, bend + top
        edges.append({
            "edge": i, "kind": kind, "x0": x0, "y0": y0 + top, "x1": x1, "y1": y1 + top,
            "bend": bend, "lx": lx, "ly": ly + top, "label": labels[i], "box": fsm.forced(i),
        })  # fmt: skip
    states = [{"state": state, "x": x, "y": y + top, "final": fsm.final[state]}
              for state, (x, y) in place.items()]  # fmt: skip
    width = max([x for x, _ in place.values()], default=LEFT) + LEFT + 8
    low = max([below, *(bends[i] for i in kept if kinds[i] == "back")])
    return Drawing(width, low + top + 22, states, edges)


def _lines(
    fsm: FSM, edges: list[int], place: dict[int, tuple[float, float]], first: float, step: float
) -> dict[int, float]:
    """The height of each edge's line: the first one that is free over all its length. Edges from
    one state to the same other one have lines of their own."""
    groups: dict[tuple[int, int], list[int]] = {}
    twins: dict[tuple[int, int], int] = {}
    for i in edges:
        source, target = fsm.edges[i][:2]
        nth = twins[source, target] = twins.get((source, target), -1) + 1
        groups.setdefault((target, nth), []).append(i)
    taken: list[list[tuple[float, float]]] = []
    out: dict[int, float] = {}
    for target, nth in sorted(groups, key=lambda key: (place[key[0]][0], *key)):
        group = groups[target, nth]
        ends = [place[target][0], *(place[fsm.edges[i][0]][0] for i in group)]
        left, right = min(ends), max(ends)
        level = 0
        while level < len(taken) and any(a < right and left < b for a, b in taken[level]):
            level += 1
        if level == len(taken):
            taken.append([])
        taken[level].append((left, right))
        out.update(dict.fromkeys(group, first + step * level))
    return out


def edge_path(edge: Record) -> str:
    """The SVG path of an edge, from rim to rim."""
    x0, y0, x1, y1, bend = edge["x0"], edge["y0"], edge["x1"], edge["y1"], edge["bend"]
    r = RADIUS
    if edge["kind"] == "loop":
        points = ["M", x0 - 5, y0 - r, "C", x0 - 14, y0 - 28, x0 + 14, y0 - 28, x0 + 5, y0 - r]
    elif edge["kind"] == "step":
        half = (x1 - x0) / 2
        points = ["M", x0 + r, y0, "C", x0 + half, y0 + bend, x1 - half, y1 + bend, x1 - r, y1]
    else:
        side, far = (-1, 18) if edge["kind"] == "skip" else (1, 2)
        rim = 0.7 * r
        points = ["M", x0 + rim, y0 + side * rim, "C", x0 + 16, y0 + side * 14, x0 + 16, bend,
                  x0 + far + 2, bend, "H", x1 - far, "C", x1 - 16, bend, x1 - 16, y1 + side * 14,
                  x1 - rim, y1 + side * rim]  # fmt: skip
    return " ".join(each if isinstance(each, str) else f"{each:.1f}" for each in points)


def strip(tokens: Record, request: Record) -> list[Record]:
    """What a request wrote under its constraint, in order; forced tokens that follow each other
    are one jump. ``removed`` is the share of probability that the mask took away."""
    row = tokens["rows"].get(request["row"])
    items: list[Record] = []
    for pos, token in enumerate([] if row is None else row["tokens"][: row["shown"]]):
        if token.get("rid") != request["rid"]:
            continue
        last = items[-1] if items else None
        if token["kind"] == "forced" and last and last["kind"] == "forced" and last["end"] == pos:
            last["end"] = pos + 1
            last["text"] += token["piece"]
            last["fsm_to"] = token["fsm_to"]
            continue
        mass = token["mass"]
        items.append({
            "pos": pos, "end": pos + 1, "kind": token["kind"], "text": token["piece"],
            "allowed": token["allowed"], "removed": None if mass is None else 1 - mass,
            "fsm": token["fsm"], "fsm_to": token["fsm_to"],
        })  # fmt: skip
    return items


def focus_of(constraint: Record, rid: str | None = None) -> Record | None:
    """The request to show: ``rid`` if it has a constraint, else the first that is under way, else
    the last one that wrote something."""
    requests = constraint["requests"]
    if rid in requests:
        return requests[rid]
    known = [requests[key] for key in constraint["order"]]
    going = [each for each in known if each["started"] and not each["done"]]
    wrote = [each for each in known if each["started"]]
    return (going[:1] or wrote[-1:] or known[-1:] or [None])[0]
