// Layout and words: pure functions of the run view.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const base = new URL("../../sglnb/viz/static/", import.meta.url);
const { fold } = await import(new URL("reduce.js", base));
const { nodeTokens } = await import(new URL("reduce_tree.js", base));
const L = await import(new URL("layout.js", base));

const log = (name) => readFileSync(new URL(`fixtures/${name}.jsonl`, import.meta.url), "utf8")
  .trim().split("\n").map((line) => JSON.parse(line));

for (const name of ["chat", "forks", "regex", "select", "eviction", "hostile"]) {
  test(`tree of ${name}: edges start where their parent ends and nothing overlaps`, () => {
    const { tree } = fold(log(name));
    const { boxes, width, height } = L.treeLayout(tree, L.outline(tree), 26);
    for (const box of boxes) {
      const parent = boxes.find((each) => each.item.node === box.item.parent);
      if (parent) {
        assert.equal(box.x0, parent.x1);
        assert.equal(box.y0, parent.y);
        assert.ok(box.y >= parent.y);
      }
      assert.ok(box.x1 <= width && box.y < height);
      for (const other of boxes) {
        const apart = other === box || other.y !== box.y || other.x1 <= box.x0 || box.x1 <= other.x0;
        assert.ok(apart, `${box.key} and ${other.key}`);
      }
    }
  });
}

test("a wide tree shows at most 300 nodes and counts the rest", () => {
  const events = [];
  for (let i = 1; i <= 1000; i++) {
    events.push({ kind: "node_inserted", seq: i, t: i, node: i, parent: 0, ids: [i], pieces: [`w${i}`], rid: "" });
  }
  const { tree } = fold(events);
  const items = L.outline(tree);
  const more = items.filter((item) => item.more);
  assert.equal(items.length, 301);
  assert.deepEqual(more.map(({ more: n, tokens }) => [n, tokens]), [[700, 700]]);
  assert.equal(items[0].node, 1000);
  const kept = L.outline(tree, [1]);
  assert.ok(kept.some((item) => item.node === 1));
});

test("5,000 nodes are laid out in a frame", () => {
  const events = [];
  for (let i = 1; i <= 5000; i++) {
    events.push({ kind: "node_inserted", seq: i, t: i, node: i, parent: Math.floor(i / 4), ids: [i], pieces: [`w${i}`], rid: "" });
  }
  const { tree } = fold(events);
  L.treeLayout(tree, L.outline(tree));
  const begin = performance.now();
  L.treeLayout(tree, L.outline(tree));
  assert.ok(performance.now() - begin < 200); // some 20 ms on an idle machine
});

test("stretches of a bar follow each other", () => {
  const { branches } = fold(log("eviction"));
  for (const rid in branches.bars) {
    const parts = L.barStretches(branches.bars[rid], branches.t1);
    const main = parts.filter(({ what }) => what !== "retracted");
    main.slice(1).forEach((part, i) => assert.equal(part.from, main[i].to));
    assert.equal(main.at(-1).to, branches.bars[rid].end);
  }
  const waiting = { arrived: 1, scheduled: null, first: null, end: null, gaps: [], purpose: "gen" };
  assert.deepEqual(L.barStretches(waiting, 3), [{ what: "wait", from: 1, to: 3 }]);
});

test("axis ticks are round and few", () => {
  for (const span of [0.0007, 0.031, 0.978, 1.9, 12, 61, 4000]) {
    const ticks = L.axisTicks(span);
    assert.ok(ticks.length >= 3 && ticks.length <= 9, `${span}: ${ticks}`);
    assert.ok(ticks.at(-1) <= span * 1.001);
  }
  assert.deepEqual(L.axisTicks(0), [0]);
  assert.equal(L.tickText(0.2, 0.2), "200 ms");
  assert.equal(L.tickText(1.5, 0.5), "1.5 s");
  assert.equal(L.tickText(30, 10), "30 s");
});

test("paths and depths agree with the tree", () => {
  const { tree } = fold(log("forks"));
  for (const item of L.outline(tree)) {
    const path = L.pathTo(tree, item.node);
    assert.equal(path.length, item.depth);
    const above = path.slice(0, -1).reduce((sum, key) => sum + nodeTokens(tree.nodes[key]), 0);
    assert.equal(item.start, above);
  }
  assert.deepEqual(L.pathTo(tree, 12345), []);
});

test("names of rows", () => {
  assert.equal(L.rowLabel({ label: "", name: "joke", parent: "s", index: 2, state: "x" }), "joke[2]");
  assert.equal(L.rowLabel({ label: "", name: "", parent: null, index: 0, state: "x" }), "x");
  assert.equal(L.rowLabel({ label: "a", name: "b", parent: "s", index: 0, state: "x" }), "a");
});

test("a label width fits if and only if the drawing does", () => {
  const tree = { nodes: { 0: { node: 0, parent: null, head: [], tail: [], hidden: 0 } } };
  const items = [];
  for (let i = 1; i <= 60; i++) {
    const parent = i % 3 ? i - 1 : 0;
    tree.nodes[i] = { node: i, parent, head: ["word ".repeat(i % 13)], tail: [], hidden: i % 5 };
    items.push({ node: i, depth: 1, start: 0, parent });
  }
  items.push({ more: 12, tokens: 900, depth: 1, parent: 60 });
  const labels = [44, 34, 26, 20, 14];
  const meta = () => "12 tok";
  for (let room = 100; room < 1500; room += 50) {
    const first = labels.find((label) => L.treeLayout(tree, items, label, meta).width <= room) ?? 14;
    assert.equal(L.fittingLabel(tree, items, labels, room, meta), first);
  }
});
