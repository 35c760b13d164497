// What the tree pane tells: states of nodes, sums, searches, paths.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const base = new URL("../../sglnb/viz/static/", import.meta.url);
const { fold } = await import(new URL("reduce.js", base));
const { nodeTokens } = await import(new URL("reduce_tree.js", base));
const L = await import(new URL("layout.js", base));
const W = await import(new URL("treewords.js", base));
const { meterFigures } = await import(new URL("meter.js", base));

const log = (name) => readFileSync(new URL(`fixtures/${name}.jsonl`, import.meta.url), "utf8")
  .trim().split("\n").map((line) => JSON.parse(line));

const insert = (seq, node, parent, pieces) =>
  ({ kind: "node_inserted", seq, t: seq, node, parent, ids: pieces.map(() => 1), pieces, rid: `r${node}` });
const lock = (seq, node, delta, rid) => ({ kind: "node_locked", seq, t: seq, node, delta, rid });
const SMALL = [insert(1, 1, 0, ["The ", "sky ", "is"]), insert(2, 2, 1, [" bl", "ue"]), insert(3, 3, 1, [" red"])];

test("sums are those of the living subtree", () => {
  const { tree } = fold([...SMALL, { kind: "node_evicted", seq: 4, t: 4, node: 3, tokens: 1, why: "space" }]);
  const sums = W.treeSums(tree);
  assert.deepEqual(sums.get(1), { nodes: 2, tokens: 5, pins: 0 });
  assert.deepEqual(sums.get(0), { nodes: 2, tokens: 5, pins: 0 });
  for (const name of ["forks", "eviction", "hostile"]) {
    const whole = fold(log(name)).tree;
    const { nodes, tokens } = W.treeSums(whole).get(0);
    assert.deepEqual({ nodes, tokens }, L.treeTotals(whole));
  }
});

test("pinned, held, in use, new and evicted are told apart", () => {
  const events = [...SMALL, lock(4, 2, 1, "pin"), lock(5, 3, 1, "r9"),
    { kind: "node_hit", seq: 6, t: 6, nodes: [1], rid: "r9" }];
  const { tree } = fold(events);
  const sums = W.treeSums(tree);
  const marks = (key, since = 2.5) => {
    const state = W.nodeState(tree.nodes[key], sums, since);
    return Object.keys(state).filter((name) => state[name]);
  };
  assert.deepEqual(marks(1), ["using", "held", "reused"]);
  assert.deepEqual(marks(2), ["pinned"]);
  assert.deepEqual(marks(3), ["using", "fresh"]);
  assert.deepEqual(marks(3, null), ["using"]);
  assert.deepEqual(W.requestsThrough(tree, 1).now, ["r9"]);
  assert.deepEqual(W.requestsThrough(tree, 2).now, []);
  const after = fold([...events, lock(7, 3, -1, "r9"), lock(8, 2, -1, "pin")]).tree;
  assert.deepEqual(Object.keys(after.holds), []);
  assert.equal(after.nodes[2].pins, 0);
});

test("a pin stays at the end of its edge when that is split", () => {
  const { tree } = fold([...SMALL, lock(4, 2, 1, "pin"), { kind: "node_split", seq: 5, t: 5, node: 2, upper: 4, at: 1 }]);
  assert.equal(tree.nodes[2].pins, 1);
  assert.equal(tree.nodes[4].pins, 0);
  assert.ok(W.nodeState(tree.nodes[4], W.treeSums(tree), null).held);
});

test("search finds text on edges and across their seams, whatever its case", () => {
  const { tree } = fold(SMALL);
  const found = (query) => [...W.searchTree(tree, query)].sort();
  assert.deepEqual(found("SKY"), [1]);
  assert.deepEqual(found("is bl"), [2]);
  assert.deepEqual(found("is r"), [3]);
  assert.deepEqual(found("blue"), [2]);
  assert.deepEqual(found(""), []);
  assert.deepEqual(found("grey"), []);
});

test("a typed text covers whole edges and then a part", () => {
  const { tree } = fold(SMALL);
  assert.deepEqual(W.typedParts(tree, [1, 2], 4), [{ node: 1, part: 1 }, { node: 2, part: 0.5 }]);
  assert.deepEqual(W.typedParts(tree, [1, 2], 2), [{ node: 1, part: 2 / 3 }]);
  assert.deepEqual(W.typedParts(tree, [], 0), []);
  assert.deepEqual(W.typedParts(tree, [7], 3), []); // gone meanwhile
});

test("siblings stand in each order, and all of them stay", () => {
  const { tree } = fold(log("forks"));
  const sums = W.treeSums(tree);
  const ids = L.outline(tree).map((item) => item.node).sort();
  for (const name of Object.keys(W.ORDERS)) {
    const items = L.outline(tree, [], undefined, W.siblingOrder(name, sums));
    assert.deepEqual(items.map((item) => item.node).sort(), ids);
  }
  const { tree: small } = fold(SMALL);
  const order = (name) => L.outline(small, [], undefined, W.siblingOrder(name, W.treeSums(small)))
    .map((item) => item.node);
  assert.deepEqual(order("age"), [1, 2, 3]);
  assert.deepEqual(order("used"), [1, 3, 2]);
  assert.deepEqual(order("text"), [1, 2, 3]);
  assert.deepEqual(order("size"), [1, 2, 3]);
});

test("the middle of a long edge comes from the tokens of a request that passes", () => {
  const pieces = Array.from({ length: 100 }, (_, i) => `w${i} `);
  const ids = pieces.map((_, i) => i);
  const view = fold([
    { kind: "run_started", seq: 0, t: 0, run: "x", title: "" },
    { kind: "state_started", seq: 1, t: 0, state: "s", run: "x", parent: null, index: 0, label: "" },
    { kind: "request_arrived", seq: 2, t: 1, rid: "r", run: "x", state: "s", name: "a", purpose: "gen", ids, pieces },
    { kind: "node_inserted", seq: 3, t: 2, node: 1, parent: 0, ids, pieces, rid: "r" },
  ]);
  assert.ok(view.tree.nodes[1].hidden > 0);
  assert.equal(W.wholeText(view, 1), pieces.join(""));
  view.tokens.rows = {};
  assert.equal(W.wholeText(view, 1), null);
  assert.equal(nodeTokens(view.tree.nodes[1]), 100);
});

test("sentences", () => {
  const cost = { cached: 30, kept: 12, lost: 18, compute: 5 };
  assert.equal(W.editWords(cost), "The edit throws away 18 of 30 cached tokens; 5 are to be computed.");
  assert.match(W.editWords({ ...cost, kept: 30, lost: 0 }), /keeps all 30/);
  assert.match(W.editWords({ cached: 0, kept: 0, lost: 0, compute: 5 }), /nothing is lost/);
  assert.equal(W.missWords({ reason: "cached", tokens: 3 }), "All 3 tokens are cached: nothing misses.");
  assert.equal(W.whenWords(3, 5, null), "2.0 s ago");
  assert.equal(W.whenWords(3, 5, 4), "1.0 s before the run");
});

test("a meter's figures", () => {
  assert.deepEqual(meterFigures({ model: "x", state: "closed" }), []);
  const figures = meterFigures({ running: 2, waiting: 1, rate: 61.4, tokens_so_far: 1200, prompt_tokens: 0,
    cached_tokens: 0, cache_hit_rate: 0, kv_tokens: 1000, kv_used: 250, kv_locked: 100, kv_cached: 200 });
  assert.deepEqual(figures.map(({ value }) => value), ["2", "61", "–", "250"]);
  assert.equal(figures[3].share, 0.25);
});
