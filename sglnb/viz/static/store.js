// The events received so far, and the view folded from them up to where the slider stands.

import { initial, reduce } from "./reduce.js";
import { makeDecoder } from "./wire.js";

const TREE_KINDS = new Set(["cache_snapshot", "node_inserted", "node_split", "node_hit", "node_locked", "node_evicted"]);

/** The events received so far and where among them the view stands. */
export function makeStore() {
  let decode = makeDecoder();
  const store = {
    events: [], lastSeq: -2, behind: false, header: null, level: 0, omitted: 0,
    cursor: 0, following: true, view: initial(), folded: 0, treeVersion: 0,

    /** A message: its events come right after number `after`, or some were missed. */
    receive({ after, json, header, omitted }) {
      if (after > store.lastSeq) {
        store.behind = true;
        return;
      }
      for (const wire of JSON.parse(json)) {
        if (wire.s <= store.lastSeq) continue;
        store.events.push(decode(wire));
        store.lastSeq = wire.s;
      }
      store.header = header ?? null;
      store.omitted = omitted ?? 0;
    },

    /** The saved copy: taken when it is all there is, or when messages were missed. */
    restore(text) {
      if (!text || (store.events.length && !store.behind)) return;
      const saved = JSON.parse(text);
      decode = makeDecoder();
      store.events = saved.events.map(decode);
      // Merged events carry their first number: only the copy's end says where it stands.
      store.lastSeq = saved.last;
      store.behind = false;
      store.level = saved.level;
      store.omitted = saved.omitted;
      store.header = saved.level > 1 ? saved.header : null;
      store.view = initial();
      store.folded = 0;
    },

    /** Fold up to the cursor, onward from where the fold stands if possible. */
    settle() {
      if (store.following) store.cursor = store.events.length;
      store.cursor = Math.min(store.cursor, store.events.length);
      if (store.folded > store.cursor) {
        store.view = initial();
        store.folded = 0;
        store.treeVersion += 1;
      }
      while (store.folded < store.cursor) {
        const event = store.events[store.folded++];
        reduce(store.view, event);
        if (TREE_KINDS.has(event.kind)) store.treeVersion += 1;
      }
      return store.view;
    },
  };
  return store;
}
