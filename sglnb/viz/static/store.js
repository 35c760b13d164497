// The events received so far, and the view folded from them up to where the slider stands.

import { initial, reduce } from "./reduce.js";
import { makeDecoder, unmerged, unmerging } from "./wire.js";

const TREE_KINDS = new Set(["cache_snapshot", "node_inserted", "node_split", "node_hit", "node_locked", "node_evicted"]);

/** The events received so far and where among them the view stands. */
export function makeStore() {
  let decode = makeDecoder();
  const store = {
    events: [], lastSeq: -2, behind: false, header: null, level: 0, omitted: 0,
    cursor: 0, following: true, view: initial(), folded: 0, treeVersion: 0, reading: null,

    /** A message: its events come right after number `after`, or some were missed. */
    receive({ after, json, header, omitted }) {
      if (after > store.lastSeq) {
        store.behind = true;
        return;
      }
      if (store.reading) store.read(Infinity);
      for (const wire of unmerged(JSON.parse(json))) {
        if (wire.s <= store.lastSeq) continue;
        store.events.push(decode(wire));
        store.lastSeq = wire.s;
      }
      store.header = header ?? null;
      store.omitted = omitted ?? 0;
    },

    /** The saved copy: taken when it is all there is, or when messages were missed. Its events come
     * as `settle` reads them. Returns whether it is taken. */
    restore(text) {
      if (!text || ((store.events.length || store.reading) && !store.behind)) return false;
      const lines = text.split("\n"); // see SavedLog.text
      const saved = JSON.parse(`${lines[0]}]}`);
      decode = makeDecoder();
      store.events = [];
      store.lastSeq = saved.last; // it may not have the last ones, which it only counted
      store.behind = false;
      store.level = saved.level;
      store.omitted = saved.omitted;
      store.header = saved.level > 1 ? saved.header : null;
      store.view = initial();
      store.folded = 0;
      store.reading = reading(lines.slice(1, -1));
      return true;
    },

    /** Read on in the saved copy until `deadline` (see performance.now). */
    read(deadline) {
      while (store.reading && performance.now() < deadline) {
        if (store.reading.next().done) store.reading = null;
      }
    },

    /** Fold up to the cursor, onward from where the fold stands if possible. It stops after
     * `milliseconds` and returns whether it came to the end. */
    settle(milliseconds = Infinity) {
      const deadline = performance.now() + milliseconds;
      store.read(deadline);
      if (store.reading) return false;
      if (store.following) store.cursor = store.events.length;
      store.cursor = Math.min(store.cursor, store.events.length);
      if (store.folded > store.cursor) {
        store.view = initial();
        store.folded = 0;
        store.treeVersion += 1;
      }
      while (store.folded < store.cursor) {
        if (store.folded % 64 === 0 && performance.now() > deadline) return false;
        const event = store.events[store.folded++];
        reduce(store.view, event);
        if (TREE_KINDS.has(event.kind)) store.treeVersion += 1;
      }
      return true;
    },
  };

  /** Takes in the lines of a saved copy, some events at a time. */
  function* reading(lines) {
    const wires = [];
    for (const line of lines) {
      wires.push(...JSON.parse(`[${line.replace(/,$/, "")}]`));
      yield;
    }
    for (const some of unmerging(wires)) {
      for (const wire of some) store.events.push(decode(wire));
      yield;
    }
  }
  return store;
}
