// What the tree pane tells: states of nodes, sums of subtrees, searches and sentences. No DOM.

import { nodeTokens } from "./reduce_tree.js";
import { clipMiddle, countOf, groupDigits, nodeText, oneLine, pathTo, secondsText } from "./layout.js";

export const ORDERS = { used: "last used", hits: "most hits", size: "largest", age: "oldest", text: "text" };

/** For each living node's id: nodes, tokens and pins from it downwards; 0 is the whole tree. */
export function treeSums(tree) {
  const sums = new Map();
  const sumOf = (key) => {
    if (!sums.has(key)) sums.set(key, { nodes: 0, tokens: 0, pins: 0 });
    return sums.get(key);
  };
  sumOf(0);
  for (const key in tree.nodes) {
    const node = tree.nodes[key];
    if (node.parent === null || node.evicted !== null) continue;
    const tokens = nodeTokens(node);
    for (let at = node; at; at = tree.nodes[at.parent]) {
      const sum = sumOf(at.node);
      sum.nodes += 1;
      sum.tokens += tokens;
      sum.pins += node.pins;
      if (at.parent === null) break;
    }
  }
  return sums;
}

/** How siblings stand: a comparison of nodes. */
export function siblingOrder(name, sums) {
  const size = (node) => sums.get(node.node)?.tokens ?? 0;
  const by = {
    used: (a, b) => b.last_used - a.last_used,
    hits: (a, b) => b.hits - a.hits,
    size: (a, b) => size(b) - size(a),
    age: (a, b) => a.created - b.created,
    text: (a, b) => (nodeText(a) < nodeText(b) ? -1 : nodeText(a) > nodeText(b) ? 1 : 0),
  }[name];
  return (a, b) => by(a, b) || a.node - b.node;
}

/** What holds of a node: `since` is when the run began, null when there is none. */
export function nodeState(node, sums, since) {
  const pins = sums.get(node.node)?.pins ?? 0;
  const ghost = node.evicted !== null;
  return {
    ghost,
    using: ghost ? 0 : Math.max(0, node.locks - pins),
    pinned: !ghost && node.pins > 0,
    held: !ghost && pins > node.pins,
    fresh: !ghost && since !== null && node.created >= since,
    reused: !ghost && node.hits > 0,
  };
}

const GONE = { flush: "flushed", asked: "evicted by hand", resize: "evicted: smaller pool", release: "released" };

/** `12 tok · new · 3 hits`: the small print under an edge. */
export function stateMeta(node, state) {
  const words = [`${groupDigits(nodeTokens(node))} tok`];
  if (state.ghost) words.push(GONE[node.why] ?? "evicted");
  else {
    if (state.fresh) words.push("new");
    if (node.hits) words.push(countOf(node.hits, "hit"));
  }
  if (state.using) words.push("in use");
  if (state.pinned) words.push("pinned");
  return words.join(" · ");
}

/** One node in words, for screen readers and the card. */
export function stateWords(node, state) {
  const words = [clipMiddle(oneLine(nodeText(node)), 80), countOf(nodeTokens(node), "token"),
    countOf(node.hits, "hit")];
  if (state.fresh) words.push("new");
  if (state.using) words.push(`in use by ${countOf(state.using, "request")}`);
  if (state.pinned) words.push("pinned");
  if (state.held) words.push("held by a pin below");
  if (state.ghost) words.push(goneWords(node));
  return words.join(", ");
}

export function goneWords(node) {
  return GONE[node.why] ?? "evicted to make room";
}

/** A moment on the log's clock in words. */
export function whenWords(t, now, since) {
  if (since === null) return `${secondsText(Math.max(0, now - t))} ago`;
  return t < since ? `${secondsText(since - t)} before the run` : `${secondsText(t - since)} into the run`;
}

/** Nodes whose text, or its seam with what is above, holds `query`; capitals do not matter. */
export function searchTree(tree, query) {
  const wanted = query.toLowerCase();
  const found = new Set();
  if (!wanted) return found;
  const ends = new Map(); // the last characters on the way down to each node
  const endOf = (key) => {
    const line = [];
    let at = tree.nodes[key];
    while (at && at.parent !== null && !ends.has(at.node)) {
      line.push(at);
      at = tree.nodes[at.parent];
    }
    for (const node of line.reverse()) {
      const before = ends.get(node.parent) ?? "";
      const text = before + nodeText(node).toLowerCase();
      // What lies wholly above was found there.
      if (text.includes(wanted)) found.add(node.node);
      ends.set(node.node, wanted.length > 1 ? text.slice(1 - wanted.length) : "");
    }
  };
  for (const key in tree.nodes) endOf(key);
  return found;
}

/** How much of each edge on `path` the first `cached` tokens cover: `{ node, part }`, part 0..1.
 * Nodes that are not in the tree any more end it. */
export function typedParts(tree, path, cached) {
  const out = [];
  let start = 0;
  for (const key of path) {
    const node = tree.nodes[key];
    if (!node || node.evicted !== null || start >= cached) break;
    const size = nodeTokens(node);
    out.push({ node: key, part: Math.min(1, (cached - start) / size) });
    start += size;
  }
  return out;
}

/** Requests that hold a lock at a node or below it, and those whose newest known tokens are. */
export function requestsThrough(tree, key) {
  const below = (node) => pathTo(tree, node).includes(key);
  return {
    now: Object.keys(tree.holds).filter((rid) => tree.holds[rid].some(below)),
    ever: Object.keys(tree.tips).filter((rid) => below(tree.tips[rid])),
  };
}

/** The whole text of an edge if this page knows it, from the tokens of a request that passes. */
export function wholeText(view, key) {
  const node = view.tree.nodes[key];
  if (!node.hidden) return nodeText(node);
  const above = pathTo(view.tree, key).slice(0, -1)
    .reduce((sum, each) => sum + nodeTokens(view.tree.nodes[each]), 0);
  const through = new Set(requestsThrough(view.tree, key).ever);
  const until = above + nodeTokens(node);
  for (const rid of through) {
    const row = view.tokens?.rows[view.tokens.requests[rid]?.row];
    if (!row || row.rid !== rid || row.tokens.length < until) continue;
    const pieces = row.tokens.slice(above, until).map((token) => token.piece);
    const ends = [...pieces.slice(0, node.head.length), ...pieces.slice(pieces.length - node.tail.length)];
    if (ends.join("\0") === [...node.head, ...node.tail].join("\0")) return pieces.join("");
  }
  return null;
}

/** The answer to "why did this miss?" in words. */
export function missWords(miss) {
  if (miss.reason === "cached") return `All ${countOf(miss.tokens, "token")} are cached: nothing misses.`;
  return `${groupDigits(miss.cached)} of ${countOf(miss.tokens, "token")} are cached. ${miss.detail}`;
}

/** The answer to "what would the edit throw away?" in words. */
export function editWords(cost) {
  if (!cost.cached) return `Nothing of the first text is cached, so nothing is lost; ${groupDigits(cost.compute)} are to be computed.`;
  const lost = cost.lost
    ? `The edit throws away ${groupDigits(cost.lost)} of ${countOf(cost.cached, "cached token")}`
    : `The edit keeps all ${countOf(cost.cached, "cached token")}`;
  return `${lost}; ${groupDigits(cost.compute)} are to be computed.`;
}
