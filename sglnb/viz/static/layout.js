// Pure functions from view states to what is drawn: which nodes, where, which words. No DOM.

import { nodeTokens } from "./reduce_tree.js";

export const MAX_VISIBLE = 300;

// -- words ----------------------------------------------------------------------------------

const UNSEEN_CHARS =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ufffe\uffff\u{e0000}-\u{e0fff}]|[\ud800-\udfff]/gu;

/** `text` with what cannot be seen, or would change its surroundings, spelt out. */
export function visible(text) {
  return text.replace(UNSEEN_CHARS, (char) =>
    `⟨U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

export function oneLine(text) {
  return visible(text.replaceAll("\n", "⏎").replaceAll("\t", "⇥"));
}

/** At most `width` characters, the middle left out: both ends tell texts apart. */
export function clipMiddle(text, width) {
  const chars = Array.from(text);
  if (chars.length <= width) return text;
  const right = Math.floor((width - 1) / 2);
  const tail = right ? chars.slice(-right) : [];
  return [...chars.slice(0, width - 1 - right), "…", ...tail].join("");
}

export function groupDigits(n) {
  return String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ",");
}

export function countOf(n, unit) {
  return `${groupDigits(n)} ${unit}${n === 1 ? "" : "s"}`;
}

export function secondsText(t) {
  if (t < 0.9995) return `${Math.round(t * 1000)} ms`;
  if (t < 99.95) return `${t.toFixed(1)} s`;
  return `${Math.floor(t / 60)} min ${Math.floor(t) % 60} s`;
}

export function percentText(logprob) {
  if (logprob === null || logprob === undefined) return "";
  const p = 100 * Math.exp(Math.min(0, logprob));
  if (p >= 9.95) return `${p.toFixed(0)} %`;
  return p >= 0.095 ? `${p.toFixed(1)} %` : "< 0.1 %";
}

export function nodeText(node) {
  const hidden = node.hidden ? `⟨${groupDigits(node.hidden)} more⟩` : "";
  return node.head.join("") + hidden + node.tail.join("");
}

// -- rows of states -------------------------------------------------------------------------

/** `{ depth, row }` with children right after their parent. */
export function orderedRows({ rows, order }) {
  const kids = new Map([[null, []]]);
  for (const key of order) {
    const { parent } = rows[key];
    const under = parent !== null && parent !== key && rows[parent] ? parent : null;
    if (!kids.has(under)) kids.set(under, []);
    kids.get(under).push(key);
  }
  const out = [];
  const todo = kids.get(null).map((key) => [0, key]).reverse();
  while (todo.length) {
    const [depth, key] = todo.pop();
    out.push({ depth, row: rows[key] });
    for (const kid of (kids.get(key) ?? []).slice().reverse()) todo.push([depth + 1, kid]);
  }
  return out;
}

/** A name on one line, of a length that is one. */
export const nameText = (text) => clipMiddle(oneLine(text), 80);

/** A name for a state: its label, else the variable it makes (`name`), numbered in a fork. */
export function rowLabel(row, name = row.name) {
  if (row.label) return nameText(row.label);
  return nameText(row.parent === null ? name || row.state : `${name || "fork"}[${row.index}]`);
}

// -- radix tree -----------------------------------------------------------------------------

const byLastUse = (a, b) => b.last_used - a.last_used || a.node - b.node;

export function childrenOf(tree, order = byLastUse) {
  const kids = new Map();
  for (const key in tree.nodes) {
    const node = tree.nodes[key];
    if (node.parent === null) continue;
    if (!kids.has(node.parent)) kids.set(node.parent, []);
    kids.get(node.parent).push(node);
  }
  for (const group of kids.values()) group.sort(order);
  return kids;
}

/** Node ids from the top (the root left out) down to `node`; [] if it is gone. */
export function pathTo(tree, node) {
  const path = [];
  let found = tree.nodes[node];
  while (found && found.parent !== null) {
    path.push(found.node);
    found = tree.nodes[found.parent];
  }
  return path.reverse();
}

/** The visible part of the tree, depth first, siblings in `order`; the same choice as outline.py. */
export function outline(tree, keep = [], limit = MAX_VISIBLE, order = byLastUse) {
  const wanted = new Set(keep);
  const ranked = Object.values(tree.nodes).filter((node) => node.parent !== null);
  ranked.sort((a, b) => wanted.has(b.node) - wanted.has(a.node)
    || byLastUse(a, b));
  const shown = new Set();
  for (const node of ranked) {
    if (shown.size >= limit) break;
    const line = pathTo(tree, node.node).filter((key) => !shown.has(key));
    if (shown.size + line.length <= limit) line.forEach((key) => shown.add(key));
  }
  const kids = childrenOf(tree, order);
  const items = [];
  const size = (node) => {
    const sum = { nodes: 0, tokens: 0 };
    const todo = [node];
    while (todo.length) {
      const each = todo.pop();
      sum.nodes += 1;
      sum.tokens += nodeTokens(each);
      todo.push(...(kids.get(each.node) ?? []));
    }
    return sum;
  };
  const todo = [{ node: null, depth: 0, end: 0 }];
  while (todo.length) {
    const task = todo.pop();
    if (task.more) {
      items.push(task);
      continue;
    }
    let { end } = task;
    const { node, depth } = task;
    const key = node === null ? 0 : node.node;
    if (node !== null) {
      items.push({ node: key, depth, start: end, parent: node.parent });
      end += nodeTokens(node);
    }
    const below = kids.get(key) ?? [];
    const hidden = below.filter((kid) => !shown.has(kid.node)).map(size);
    if (hidden.length) {
      todo.push({
        more: hidden.reduce((sum, each) => sum + each.nodes, 0),
        tokens: hidden.reduce((sum, each) => sum + each.tokens, 0),
        depth: depth + 1, parent: key,
      });
    }
    const visibleKids = below.filter((kid) => shown.has(kid.node)).reverse();
    for (const kid of visibleKids) todo.push({ node: kid, depth: depth + 1, end });
  }
  return items;
}

/** ` · pool of 20,000`, where the pool's size is known. */
export function poolWords({ total_slots: total }) {
  return total ? ` · pool of ${groupDigits(total)}` : "";
}

export function treeTotals(tree) {
  const sum = { nodes: 0, tokens: 0 };
  for (const key in tree.nodes) {
    const node = tree.nodes[key];
    if (node.parent === null || node.evicted !== null) continue;
    sum.nodes += 1;
    sum.tokens += nodeTokens(node);
  }
  return sum;
}

const tokensMeta = (node) => `${groupDigits(nodeTokens(node))} tok`;

export const TREE = { row: 38, bend: 26, char: 6.65, small: 5.6, left: 12, top: 26 };

/**
 * Tidy left-to-right drawing: a node is level with its parent if it is the first child, else in
 * the first free row below, so that new leaves do not move what is there. An edge is as long as the logarithm of its tokens, or its label, asks for.
 * Returns `{ width, height, boxes }`; a box has x0, y0 (start), x1, y (end), label and meta, which
 * is `metaOf(node)`.
 */
export function treeLayout(tree, items, labelWidth = 34, metaOf = tokensMeta) {
  const boxes = new Map();
  const order = items.map((item) => {
    const key = item.more ? `more${item.parent}` : String(item.node);
    const node = item.more ? null : tree.nodes[item.node];
    const label = node
      ? clipMiddle(oneLine(nodeText(node)).trim(), labelWidth) || "␣"
      : `+${countOf(item.more, "node")}`;
    const meta = node ? metaOf(node) : countOf(item.tokens, "token");
    const text = Math.max(Array.from(label).length * TREE.char, meta.length * TREE.small);
    const tokens = node ? nodeTokens(node) : 1;
    const length = Math.max(text + 10, 12 * Math.log2(1 + tokens));
    const box = { key, item, node, label, meta, length, kids: [], y: null };
    boxes.set(key, box);
    boxes.get(String(item.parent))?.kids.push(box);
    return box;
  });
  let width = 0;
  for (const box of order) {
    const above = boxes.get(String(box.item.parent));
    box.x0 = above ? above.x1 : TREE.left;
    box.x1 = box.x0 + TREE.bend + box.length;
    width = Math.max(width, box.x1 + 16);
  }
  let rows = 0;
  const taken = [];
  for (const box of order) {
    if (box.row !== undefined) continue;
    // A run of first children lies in one row: the first below all that is in its way.
    const run = [box];
    while (run.at(-1).kids.length) run.push(run.at(-1).kids[0]);
    const right = run.at(-1).x1 + 24;
    let row = 0;
    for (const each of taken) if (each.x0 < right && box.x0 < each.x1) row = Math.max(row, each.row + 1);
    for (const each of run) {
      each.row = row;
      each.y = TREE.top + TREE.row * row;
    }
    taken.push({ x0: box.x0, x1: right, row });
    rows = Math.max(rows, row);
  }
  const rootY = order[0]?.y ?? TREE.top;
  for (const box of order) {
    box.y0 = boxes.get(String(box.item.parent))?.y ?? rootY;
  }
  return { width, height: TREE.top + TREE.row * rows + 22, rootY, boxes: order };
}

/** The first of the label widths `labels` with which the drawing is at most `room` wide, else the
 * last; found without drawing. */
export function fittingLabel(tree, items, labels, room, metaOf) {
  const parts = items.map((item) => {
    const node = item.more ? null : tree.nodes[item.node];
    const text = node ? oneLine(nodeText(node)).trim() || "␣" : `+${countOf(item.more, "node")}`;
    const meta = node ? metaOf(node) : countOf(item.tokens, "token");
    return { item, fixed: !node, chars: Array.from(text).length, meta: meta.length * TREE.small,
      least: 12 * Math.log2(1 + (node ? nodeTokens(node) : 1)) };
  });
  return labels.find((label) => {
    const ends = new Map();
    return parts.every(({ item, fixed, chars, meta, least }) => {
      const text = Math.max((fixed ? chars : Math.min(chars, label)) * TREE.char, meta);
      const end = (ends.get(item.parent) ?? TREE.left) + TREE.bend + Math.max(text + 10, least);
      if (!item.more) ends.set(item.node, end);
      return end + 16 <= room;
    });
  }) ?? labels.at(-1);
}

// -- timeline -------------------------------------------------------------------------------

/** Round steps for an axis from 0 to `span` seconds: about `wanted` of them. */
export function axisTicks(span, wanted = 6) {
  if (!(span > 0)) return [0];
  const rough = span / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const ticks = [];
  for (let i = 0; i * step <= span * 1.0001; i++) ticks.push(i * step);
  return ticks;
}

/** The part of an axis from `from` to `to` seconds: `{ ticks, step }`. */
export function axisWindow(from, to) {
  const step = axisTicks(to - from)[1] ?? 1;
  const ticks = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to * 1.0001; i++) ticks.push(i * step);
  return { ticks, step };
}

/** A tick's text: all in the unit of the step, so that they compare. */
export function tickText(t, step) {
  if (t === 0) return "0";
  if (step < 0.001) return `${(t * 1000).toFixed(step < 0.0001 ? 2 : 1)} ms`;
  if (step < 1) return step < 0.1 || t < 1 ? `${Math.round(t * 1000)} ms` : `${t.toFixed(1)} s`;
  return `${Math.round(t)} s`;
}

/** The stretches of one request's bar: `{ what, from, to }` in seconds on the log's clock. */
export function barStretches(bar, now) {
  const end = bar.end ?? now;
  const scheduled = bar.scheduled ?? end;
  const out = [{ what: "wait", from: bar.arrived, to: scheduled }];
  if (bar.scheduled !== null) {
    const begin = bar.first ?? end;
    const what = bar.purpose === "select" ? "score" : "prefill";
    out.push({ what, from: scheduled, to: begin });
    if (bar.first !== null) out.push({ what: "decode", from: bar.first, to: end });
    for (const [from, to] of bar.gaps) out.push({ what: "retracted", from, to: to ?? end });
  }
  return out.filter((stretch) => stretch.to >= stretch.from);
}

/** A request in words; `error` is what its state failed with. */
export function barWords(bar, now, error = "") {
  const kind = { select: "scores a choice for", prefill: "prefills the shared prefix" };
  const words = [`${kind[bar.purpose] ?? "generates"} ${nameText(bar.name)}`.trim()];
  for (const { what, from, to } of barStretches(bar, now)) {
    if (to - from > 0.0005) words.push(`${what} ${secondsText(to - from)}`);
  }
  if (bar.first !== null && bar.tokens) words.push(`first token after ${secondsText(bar.first - bar.arrived)}`);
  words.push(`${groupDigits(bar.cached)} of ${countOf(bar.prompt, "prompt token")} cached`);
  if (bar.tokens) words.push(countOf(bar.tokens, "token"));
  if (error) words.push(`✕ ${clipMiddle(oneLine(error), 240)}`);
  else if (bar.reason === "abort") words.push("stopped");
  return words.join(" · ");
}
