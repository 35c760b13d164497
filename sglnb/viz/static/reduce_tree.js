// The radix tree. The same fold as reduce_tree.py: change both together.

import { table } from "./table.js";

const KEEP = 24;
const MAX_GHOSTS = 40;

function treeNode(node, parent, [head, hidden, tail], t) {
  return {
    node, parent, head, hidden, tail,
    locks: 0, pins: 0, hits: 0, created: t, last_used: t, evicted: null, why: "",
  };
}

export function initialTree() {
  const nodes = table();
  nodes["0"] = treeNode(0, null, [[], 0, []], 0);
  return {
    nodes, ghosts: [], tips: table(), holds: table(),
    total_slots: 0, used_slots: 0, evicted_nodes: 0, evicted_tokens: 0,
  };
}

/** Tokens on the edge to `node`. */
export function nodeTokens(node) {
  return node.head.length + node.hidden + node.tail.length;
}

function clipPieces(pieces) {
  if (pieces.length <= 2 * KEEP) return [pieces.slice(), 0, []];
  return [pieces.slice(0, KEEP), pieces.length - 2 * KEEP, pieces.slice(-KEEP)];
}

function splitText({ head, hidden, tail }, at) {
  const near = head.length;
  if (at <= near) return [[head.slice(0, at), 0, []], [head.slice(at), hidden, tail]];
  if (at <= near + hidden) return [[head, at - near, []], [[], hidden - (at - near), tail]];
  const cut = at - near - hidden;
  return [[head, hidden, tail.slice(0, cut)], [tail.slice(cut), 0, []]];
}

function setPool(tree, event) {
  tree.total_slots = event.total_slots;
  tree.used_slots = event.used_slots;
}

function changeHold(holds, event) {
  const held = holds[event.rid] ?? (holds[event.rid] = []);
  if (event.delta > 0) held.push(event.node);
  else if (held.includes(event.node)) held.splice(held.indexOf(event.node), 1);
  if (!held.length) delete holds[event.rid];
}

export const TREE_STEPS = {
  cache_snapshot(tree, event) {
    const nodes = table();
    nodes["0"] = treeNode(0, null, [[], 0, []], 0);
    for (const record of event.nodes) {
      const text = "head" in record
        ? [record.head, record.hidden, record.tail] : clipPieces(record.pieces);
      const node = treeNode(record.node, record.parent, text, record.last_used);
      node.locks = record.locks;
      node.pins = record.pins ?? 0;
      node.hits = record.hits;
      node.created = record.created ?? record.last_used;
      if (record.node === 0) node.parent = null;
      nodes[record.node] = node;
    }
    const tips = table();
    for (const rid in tree.tips) if (nodes[tree.tips[rid]]) tips[rid] = tree.tips[rid];
    tree.nodes = nodes;
    tree.ghosts = [];
    tree.tips = tips;
    tree.holds = table();
    setPool(tree, event);
  },
  step: setPool,
  node_inserted(tree, event) {
    if (!tree.nodes[event.parent] || tree.nodes[event.node]) return;
    const text = "head" in event
      ? [event.head, event.hidden, event.tail] : clipPieces(event.pieces);
    tree.nodes[event.node] = treeNode(event.node, event.parent, text, event.t);
    if (event.rid) tree.tips[event.rid] = event.node;
  },
  node_split(tree, event) {
    const node = tree.nodes[event.node];
    if (!node || tree.nodes[event.upper]) return;
    const [above, below] = splitText(node, event.at);
    const upper = treeNode(event.upper, node.parent, above, node.created);
    upper.locks = node.locks;
    upper.hits = node.hits;
    upper.last_used = node.last_used;
    tree.nodes[event.upper] = upper;
    node.parent = event.upper;
    [node.head, node.hidden, node.tail] = below;
  },
  node_hit(tree, event) {
    for (const key of event.nodes) {
      const node = tree.nodes[key];
      if (!node) continue;
      node.hits += 1;
      node.last_used = event.t;
      if (event.rid) tree.tips[event.rid] = key;
    }
  },
  node_locked(tree, event) {
    let node = tree.nodes[event.node];
    if (node && event.rid === "pin") node.pins += event.delta;
    else if (event.rid) changeHold(tree.holds, event);
    while (node) {
      node.locks += event.delta;
      node.last_used = event.t;
      node = node.parent === null ? null : tree.nodes[node.parent];
    }
  },
  node_evicted(tree, event) {
    tree.evicted_nodes += 1;
    tree.evicted_tokens += event.tokens;
    const node = tree.nodes[event.node];
    if (!node) return;
    node.evicted = event.t;
    node.why = event.why;
    tree.ghosts.push(event.node);
    if (tree.ghosts.length > MAX_GHOSTS) delete tree.nodes[tree.ghosts.shift()];
  },
};
