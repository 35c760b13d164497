// Branches side by side, and the axis of a stretch of time.
import assert from "node:assert/strict";
import test from "node:test";

const base = new URL("../../sglnb/viz/static/", import.meta.url);
const C = await import(new URL("compare.js", base));
const L = await import(new URL("layout.js", base));

const differing = (column) => column.filter(({ differs }) => differs).map(({ text }) => text);

test("equal starts are folded and differing words marked", () => {
  const { same, columns } = C.compareTexts(["a b c d e", "a b x d e", "a b c d"]);
  assert.equal(same, "a b ");
  assert.deepEqual(columns.map(differing), [[], ["x"], []]);
  assert.deepEqual(columns.map((column) => column.map(({ text }) => text).join("")), ["c d e", "x d e", "c d"]);
  const other = C.compareTexts(["a b c d e", "a b x d e", "a b c d"], 1);
  assert.deepEqual(other.columns.map(differing), [["c"], ["x"], ["c"]]);
});

test("equal, empty and wholly different texts", () => {
  const equal = C.compareTexts(["one two", "one two"]);
  assert.equal(equal.same, "one two");
  assert.deepEqual(equal.columns, [[], []]);
  assert.deepEqual(C.compareTexts(["", "x"]).columns.map(differing), [[], ["x"]]);
  assert.deepEqual(C.compareTexts(["p q", "r s"]).columns.map(differing), [["p", "q"], ["r", "s"]]);
});

test("nothing is lost, whatever the texts", () => {
  let seed = 1;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  for (let round = 0; round < 50; round++) {
    const texts = Array.from({ length: 2 + random(3) }, () =>
      Array.from({ length: random(12) }, () => "ab\n c"[random(5)] + " "[random(2)]).join(""));
    const reference = random(texts.length);
    const { same, columns } = C.compareTexts(texts, reference);
    columns.forEach((column, i) => assert.equal(same + column.map(({ text }) => text).join(""), texts[i]));
  }
});

test("the common subsequence is a longest one", () => {
  const a = [..."abcbdab"], b = [..."bdcaba"];
  assert.equal(C.inCommon(a, b).filter(Boolean).length, 4);
});

test("an axis shows round times inside its window", () => {
  for (const [from, to] of [[0, 1], [0.31, 0.47], [12.2, 12.9], [0.1234, 0.1241], [59, 200]]) {
    const { ticks, step } = L.axisWindow(from, to);
    assert.ok(ticks.length >= 2 && ticks.length <= 10, `${from} to ${to}: ${ticks}`);
    ticks.forEach((t) => assert.ok(t >= from - 1e-9 && t <= to * 1.001));
    assert.equal(new Set(ticks.map((t) => L.tickText(t, step))).size, ticks.length);
  }
});

test("a bar tells its first token and its error", () => {
  const bar = { name: "a", purpose: "gen", arrived: 1, scheduled: 1.1, first: 1.3, end: 2, gaps: [], prompt: 5,
    cached: 0, tokens: 3, reason: "abort" };
  assert.match(L.barWords(bar, 2), /first token after 300 ms.*stopped/);
  assert.match(L.barWords(bar, 2, "no\u202e"), /✕ no⟨U\+202E⟩$/);
});
