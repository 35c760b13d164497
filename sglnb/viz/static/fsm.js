// Pure functions for drawing a compressed automaton: which states, where, and a token's way. The
// same as fsm.py, which says what the parts are: change both together.

import { clipMiddle, oneLine } from "./layout.js";

const MAX_STATES = 60;
const MAX_EDGES = 90;
const EDGE_LABEL = 16;
const FSM_ROW = 40;
const FSM_CHAR = 6.3;
const FSM_GAP = 40;
const FSM_LEFT = 18;
const FSM_TOP = 14;
const FSM_TWIN = 30;
const FSM_LINE = 20;
export const FSM_RADIUS = 8;

/** An automaton with its edges by state. */
export class FSM {
  constructor({ nodes, edges }) {
    this.final = new Map(nodes.map(([state, final]) => [state, Boolean(final)]));
    this.edges = edges;
    this.out = new Map(nodes.map(([state]) => [state, []]));
    this.into = new Map(nodes.map(([state]) => [state, []]));
    this.home = new Map();
    edges.forEach(([source, target, , , via], i) => {
      this.out.get(source).push(i);
      this.into.get(target).push(i);
      for (const state of via) this.home.set(state, i);
    });
  }

  /** The drawn state that `state` is, or whose edge it lies in. */
  drawn(state) {
    const home = this.home.get(state);
    if (home !== undefined) return this.edges[home][0];
    return this.final.has(state) ? state : null;
  }

  /** Whether the edge holds text that is not chosen. */
  forced(i) {
    const [source, , , certain, via] = this.edges[i];
    const alone = this.out.get(source).length === 1 && !this.final.get(source);
    return Boolean(certain) && (via.length > 0 || alone);
  }

  /** The edges that `text` took from `before` to `after`; where it does not tell, the fewest. */
  way(before, after, text = "") {
    const found = this.spelled(before, after, Array.from(text));
    if (found) return found;
    let start = this.drawn(before);
    const goal = this.drawn(after);
    if (start === null || goal === null) return [];
    const head = this.home.get(before);
    const tail = this.home.get(after);
    if (head !== undefined) {
      const via = this.edges[head][4];
      if (head === tail && via.indexOf(after) >= via.indexOf(before)) return [head];
      start = this.edges[head][1];
    } else if (before === after) {
      return this.out.get(start).filter((i) => this.edges[i][1] === start).slice(0, 1);
    }
    return [...(head === undefined ? [] : [head]), ...this.shortest(start, goal),
      ...(tail === undefined ? [] : [tail])];
  }

  /** The edges that spell the characters `text`; what a set of them holds is not known here. */
  spelled(before, after, text) {
    const goal = this.drawn(after);
    if (!text.length || goal === null || this.drawn(before) === null) return null;
    const inside = this.home.get(after);
    const head = this.home.get(before);
    const agrees = (chars, at) => chars.every((char, i) => at + i >= text.length || char === text[at + i]);
    const todo = []; // state, characters spelled, edges
    const seen = new Set();
    if (head === undefined) todo.push([before, 0, []]);
    else {
      const [, target, label, , via] = this.edges[head];
      const begun = via.indexOf(before) + 1;
      const rest = Array.from(label).slice(begun);
      const ends = inside === head && via.indexOf(after) + 1 === begun + text.length;
      if (ends && agrees(rest, 0)) return [head];
      if (rest.length <= text.length && agrees(rest, 0)) todo.push([target, rest.length, [head]]);
    }
    while (todo.length) {
      const [state, at, edges] = todo.pop();
      if (at === text.length && inside === undefined && state === goal) return edges;
      if (at >= text.length || seen.has(`${state} ${at}`)) continue;
      seen.add(`${state} ${at}`);
      for (const i of this.out.get(state).slice().reverse()) {
        const [, target, label, certain, via] = this.edges[i];
        const chars = certain ? Array.from(label) : [];
        if (!agrees(chars, at)) continue;
        const n = certain ? chars.length : 1;
        const left = text.length - at;
        if (left >= n) todo.push([target, at + n, [...edges, i]]);
        else if (i === inside && via.indexOf(after) + 1 === left) return [...edges, i];
      }
    }
    return null;
  }

  shortest(start, goal) {
    const came = new Map([[start, -1]]);
    const todo = [start];
    for (const state of todo) {
      if (state === goal) break;
      for (const i of this.out.get(state)) {
        const target = this.edges[i][1];
        if (came.has(target)) continue;
        came.set(target, i);
        todo.push(target);
      }
    }
    const path = [];
    let at = goal;
    while ((came.get(at) ?? -1) >= 0) {
      path.push(came.get(at));
      at = this.edges[came.get(at)][0];
    }
    return path.reverse();
  }

  /** The states from left to right: each behind all that lead to it, loops left out. */
  layers() {
    const layer = new Map(this.sorted().map((state) => [state, 0]));
    const seen = new Set();
    for (const state of layer.keys()) {
      seen.add(state);
      for (const i of this.out.get(state)) {
        const target = this.edges[i][1];
        if (!seen.has(target)) layer.set(target, Math.max(layer.get(target), layer.get(state) + 1));
      }
    }
    const columns = Array.from({ length: 1 + Math.max(0, ...layer.values()) }, () => []);
    for (const [state, at] of layer) columns[at].push(state);
    const place = new Map();
    for (const column of columns) {
      const key = new Map(column.map((state) => {
        const before = this.into.get(state).map((i) => place.get(this.edges[i][0]))
          .filter((each) => each !== undefined);
        return [state, before.length ? before.reduce((a, b) => a + b, 0) / before.length : 0];
      }));
      column.sort((a, b) => key.get(a) - key.get(b) || a - b);
      column.forEach((state, i) => place.set(state, i - (column.length - 1) / 2));
    }
    return columns;
  }

  /** The states so that each comes before those it leads to, but for loops. */
  sorted() {
    const done = [];
    const seen = new Set();
    for (const root of this.final.keys()) {
      const todo = [[root, 0]];
      while (todo.length) {
        const [state, at] = todo.pop();
        if (at === 0) {
          if (seen.has(state)) continue;
          seen.add(state);
        }
        const out = this.out.get(state);
        if (at < out.length) {
          todo.push([state, at + 1], [this.edges[out[at]][1], 0]);
        } else done.push(state);
      }
    }
    return done.reverse();
  }

  /** The states to draw: all if they are few, else the nearest to `current`. */
  around(current) {
    if (this.final.size <= MAX_STATES && this.edges.length <= MAX_EDGES) return new Set(this.final.keys());
    const todo = [this.drawn(current) ?? this.final.keys().next().value];
    const shown = new Set();
    let edges = 0;
    for (const state of todo) {
      if (shown.has(state)) continue;
      const out = this.out.get(state).map((i) => this.edges[i][1]);
      const into = this.into.get(state).map((i) => this.edges[i][0]);
      const more = out.filter((each) => shown.has(each) || each === state).length
        + into.filter((each) => shown.has(each)).length;
      if (shown.size && (shown.size >= MAX_STATES || edges + more > MAX_EDGES)) break;
      shown.add(state);
      edges += more;
      todo.push(...out, ...into);
    }
    return shown;
  }
}

/** An edge's text on one line, spaces shown where it has nothing else. */
const edgeLabel = (text) => (/^ *$/.test(text) ? "␣".repeat(Math.max(1, text.length)) : oneLine(text));

/**
 * `shown` states of `fsm`, left to right, in pixels. An edge to the next layer is a curve; those
 * that skip layers run along a line above, those that lead back along one below.
 */
export function drawFsm(fsm, shown, layers) {
  const columns = layers.map((column) => column.filter((state) => shown.has(state)))
    .filter((column) => column.length);
  const rank = new Map();
  columns.forEach((column, r) => column.forEach((state) => rank.set(state, r)));
  const kept = fsm.edges.map((edge, i) => i)
    .filter((i) => rank.has(fsm.edges[i][0]) && rank.has(fsm.edges[i][1]));
  const labels = new Map(kept.map((i) => [i, clipMiddle(edgeLabel(fsm.edges[i][2]), EDGE_LABEL)]));
  const long = (i) => FSM_CHAR * Array.from(labels.get(i)).length;
  const kinds = new Map();
  const gaps = columns.map(() => FSM_GAP);
  const twins = new Map();
  for (const i of kept) {
    const [source, target] = fsm.edges[i];
    const r = rank.get(source);
    const span = rank.get(target) - r;
    kinds.set(i, source === target ? "loop" : span <= 0 ? "back" : span > 1 ? "skip" : "step");
    if (span !== 1) continue;
    gaps[r] = Math.max(gaps[r], long(i) + FSM_GAP + 8 * fsm.forced(i));
    const key = `${source} ${target}`;
    twins.set(key, [...(twins.get(key) ?? []), i]);
  }
  const place = new Map();
  let x = FSM_LEFT;
  columns.forEach((column, r) => {
    column.forEach((state, at) => place.set(state, [x, FSM_ROW * (at - (column.length - 1) / 2)]));
    x += gaps[r];
  });
  const bends = new Map();
  for (const group of twins.values()) group.forEach((i, at) => bends.set(i, FSM_TWIN * (at - (group.length - 1) / 2)));
  const heights = [...[...place.values()].map(([, y]) => y),
    ...[...bends].map(([i, bend]) => place.get(fsm.edges[i][0])[1] + bend * 0.75)];
  const below = Math.max(...heights);
  let above = Math.min(...heights);
  if ([...kinds.values()].includes("loop")) above -= 28;
  const ofKind = (kind) => kept.filter((i) => kinds.get(i) === kind);
  putOnLines(bends, fsm, ofKind("skip"), place, above - 20, -FSM_LINE);
  putOnLines(bends, fsm, ofKind("back"), place, below + 22, FSM_LINE);
  const top = FSM_TOP - Math.min(above, ...bends.values());
  const edges = kept.map((i) => {
    const [source, target] = fsm.edges[i];
    const [x0, y0] = place.get(source);
    const [x1, y1] = place.get(target);
    const kind = kinds.get(i);
    let bend = bends.get(i) ?? 0;
    let lx = x0;
    let ly = y0 - 30;
    if (kind === "step") {
      let near = fsm.out.get(source).length > 1 ? 0.62 : 0.5;
      if (bend || fsm.forced(i)) near = 0.5;
      else if (fsm.out.get(source).length === 1 && fsm.into.get(target).length > 1) near = 0.38;
      lx = x0 + (x1 - x0) * near;
      ly = y0 + (y1 - y0) * near * near * (3 - 2 * near) + bend * 0.75;
    } else if (kind !== "loop") {
      lx = kind === "skip" ? x0 + 20 + long(i) / 2 : x0 - 8 - long(i) / 2;
      ly = bend;
      bend += top;
    }
    return { edge: i, kind, x0, y0: y0 + top, x1, y1: y1 + top, bend, lx, ly: ly + top,
      label: labels.get(i), box: fsm.forced(i) };
  });
  const states = [...place].map(([state, [at, y]]) => ({ state, x: at, y: y + top, final: fsm.final.get(state) }));
  const width = Math.max(...[...place.values()].map(([at]) => at)) + FSM_LEFT + 8;
  const low = Math.max(below, ...ofKind("back").map((i) => bends.get(i)));
  return { width, height: low + top + 22, states, edges };
}

/** The height of each edge's line, one for each state they lead to: the first that is free. Edges
 * from one state to the same other one have lines of their own. */
function putOnLines(bends, fsm, edges, place, first, step) {
  const groups = new Map();
  const twins = new Map();
  for (const i of edges) {
    const [source, target] = fsm.edges[i];
    const nth = (twins.get(`${source} ${target}`) ?? -1) + 1;
    twins.set(`${source} ${target}`, nth);
    const key = `${target} ${nth}`;
    if (!groups.has(key)) groups.set(key, { target, nth, group: [] });
    groups.get(key).group.push(i);
  }
  const taken = [];
  const sorted = [...groups.values()].sort((a, b) => place.get(a.target)[0] - place.get(b.target)[0]
    || a.target - b.target || a.nth - b.nth);
  for (const { target, group } of sorted) {
    const ends = [place.get(target)[0], ...group.map((i) => place.get(fsm.edges[i][0])[0])];
    const left = Math.min(...ends);
    const right = Math.max(...ends);
    let level = 0;
    while (taken[level]?.some(([a, b]) => a < right && left < b)) level += 1;
    (taken[level] ??= []).push([left, right]);
    for (const i of group) bends.set(i, first + step * level);
  }
}

/** The SVG path of an edge, from rim to rim. */
export function edgePath({ kind, x0, y0, x1, y1, bend }) {
  const r = FSM_RADIUS;
  if (kind === "loop") return `M${x0 - 5} ${y0 - r}C${x0 - 14} ${y0 - 28} ${x0 + 14} ${y0 - 28} ${x0 + 5} ${y0 - r}`;
  if (kind === "step") {
    const half = (x1 - x0) / 2;
    return `M${x0 + r} ${y0}C${x0 + half} ${y0 + bend} ${x1 - half} ${y1 + bend} ${x1 - r} ${y1}`;
  }
  const [side, far] = kind === "skip" ? [-1, 18] : [1, 2];
  const rim = 0.7 * r;
  return `M${x0 + rim} ${y0 + side * rim}C${x0 + 16} ${y0 + side * 14} ${x0 + 16} ${bend} ${x0 + far + 2} ${bend}`
    + `H${x1 - far}C${x1 - 16} ${bend} ${x1 - 16} ${y1 + side * 14} ${x1 - rim} ${y1 + side * rim}`;
}

/** What a request wrote under its constraint, in order; forced tokens that follow each other are
 * one jump. `removed` is the share of probability that the mask took away. */
export function strip(tokens, request) {
  const row = tokens.rows[request.row];
  const items = [];
  for (let pos = 0; pos < (row?.shown ?? 0); pos++) {
    const token = row.tokens[pos];
    if (token.rid !== request.rid) continue;
    const last = items.at(-1);
    if (token.kind === "forced" && last?.kind === "forced" && last.end === pos) {
      last.end = pos + 1;
      last.text += token.piece;
      last.fsm_to = token.fsm_to;
      continue;
    }
    items.push({
      pos, end: pos + 1, kind: token.kind, text: token.piece, allowed: token.allowed,
      removed: token.mass === null ? null : 1 - token.mass, fsm: token.fsm, fsm_to: token.fsm_to,
    });
  }
  return items;
}

/** The request to show: `rid` if it has a constraint, else the first that is under way, else the
 * last one that wrote something. */
export function focusOf({ requests, order }, rid) {
  if (rid && requests[rid]) return requests[rid];
  const known = order.map((key) => requests[key]);
  return known.find((each) => each.started && !each.done)
    ?? known.filter((each) => each.started).at(-1) ?? known.at(-1) ?? null;
}
