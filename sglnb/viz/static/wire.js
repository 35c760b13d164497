// Reads the small JSON that wire.py writes back into events as reduce.js takes them.

const WIRE_DEFAULTS = {
  run_started: { title: "" },
  run_ended: { error: "" },
  program_reached: { node: null, name: "" },
  state_started: { parent: null, index: 0, label: "" },
  state_ended: { error: "" },
  variable_set: { choices: null, name: "", text: "" },
  request_arrived: { run: "", state: "", name: "", purpose: "", constraint: "" },
  request_matched: { path: [] },
  request_finished: { matched: "", error: "" },
  tokens: { how: "sampled" },
  node_inserted: { rid: "" },
  node_hit: { rid: "" },
  node_locked: { rid: "" },
  node_evicted: { why: "" },
};

const WIRE_TICKS = 1e5; // a second, as precise as times are sent
const WIRE_STRETCH = 16;
const WIRE_PARTS = 1e4; // of 1: log-probabilities and the like are whole numbers of these

const unscaled = (values) => values?.map((value) => (value === null ? null : value / WIRE_PARTS));

const WIRE_READERS = {
  request_arrived(event, wire, sequences, rids) {
    if (wire.cut) {
      event.ids = Array(wire.cut).fill(-1);
      event.pieces = Array(wire.cut).fill("");
      event.pieces[0] = "⟨prompt not kept⟩";
    } else if (wire.same) {
      const [rid, n] = wire.same;
      const before = sequences.get(rid) ?? { ids: [], pieces: [] };
      event.ids = before.ids.slice(0, n);
      event.pieces = before.pieces.slice(0, n);
      while (event.ids.length < n) {
        event.ids.push(-1);
        event.pieces.push("⋯");
      }
      event.ids.push(...wire.ids);
      event.pieces.push(...wire.pieces);
    }
    rids[wire.i] = event.rid;
    sequences.set(event.rid, { ids: event.ids.slice(), pieces: event.pieces.slice() });
    for (const name of ["same", "cut", "i"]) delete event[name];
  },
  tokens(event, wire, sequences) {
    const blank = event.ids.map(() => null);
    event.logprobs = unscaled(wire.lp) ?? blank;
    event.mass = unscaled(wire.mass) ?? blank;
    event.entropy = unscaled(wire.ent) ?? blank;
    event.allowed = wire.allowed ?? blank;
    event.top = readTop(wire);
    [event.fsm_before, ...event.fsm_after] = wire.fsm ?? [null];
    const sequence = sequences.get(event.rid);
    if (event.replaced) {
      sequence?.ids.splice(-event.replaced);
      sequence?.pieces.splice(-event.replaced);
    }
    sequence?.ids.push(...event.ids);
    sequence?.pieces.push(...event.pieces);
    delete event.lp;
    delete event.ent;
    delete event.fsm;
  },
  step(event, wire, sequences, rids) {
    const named = (own = [], others = 0) => [...own.map((i) => rids[i] ?? ""), ...Array(others).fill("")];
    return {
      kind: "step", seq: event.seq, t: event.t, step: wire.n, prefill: named(wire.p, wire.op),
      decode: named(wire.d, wire.od), prefill_tokens: wire.pt ?? 0, waiting: wire.w ?? 0,
      used_slots: wire.u[0], total_slots: wire.u[1], seconds: wire.x, count: wire.c ?? 1,
    };
  },
  node_inserted(event, wire) {
    [event.head, event.hidden, event.tail] = wire.text;
    delete event.text;
  },
  cache_snapshot(event, wire) {
    event.nodes = wire.nodes.map(([node, parent, locks, hits, last_used, head, hidden, tail, created, pins]) =>
      ({ node, parent, locks, hits, last_used, head, hidden, tail, created, pins }));
  },
};

/** Wire objects in order and one an event, of some that events share (see shared_wire.py). */
export const unmerged = (wires) => [...unmerging(wires)].flat();

/** The same some at a time, so that a long log can be read between frames: after each stretch of
 * `wires`, those that nothing to come is before. */
export function* unmerging(wires) {
  const ahead = wires.map((wire) => wire.s); // the lowest number from here on
  for (let i = ahead.length - 2; i >= 0; i--) ahead[i] = Math.min(ahead[i], ahead[i + 1]);
  let parts = [];
  for (let i = 0; i < wires.length; i += WIRE_STRETCH) {
    const end = ahead[i + WIRE_STRETCH] ?? Infinity;
    for (const wire of wires.slice(i, i + WIRE_STRETCH)) parts.push(...(wire.sq ? partsOf(wire) : [wire]));
    yield parts.filter((part) => part.s < end).sort((a, b) => a.s - b.s);
    parts = parts.filter((part) => part.s >= end);
  }
}

/** The likeliest tokens of each token, from their columns. */
function readTop({ ids, top }) {
  if (!top) return ids.map(() => []);
  if (Array.isArray(top)) return top; // of a part
  const lp = unscaled(top.lp);
  const forbidden = new Set(top.no);
  let at = 0;
  return ids.map((_, i) => {
    const items = [];
    for (const end = at + (top.n[i] ?? top.n); at < end; at++) {
      items.push([top.p[at], top.i[at], lp[at], !forbidden.has(at)]);
    }
    return items;
  });
}

function partsOf({ sq, at, ...wire }) {
  if (wire.top) wire.top = readTop(wire);
  const parts = [];
  for (let i = 0, j = 0; i < sq.length; i = j) {
    while (j < sq.length && sq[j] === sq[i]) j++;
    const t = Math.round(wire.t * WIRE_TICKS + at[i]) / WIRE_TICKS;
    const part = { ...wire, s: wire.s + sq[i], t };
    if (wire.k === "step") {
      part.n = wire.n + i;
      part.u = [wire.u[0][i], wire.u[1]];
      part.x = wire.x[i];
    } else {
      for (const name of ["ids", "pieces", "lp", "allowed", "mass", "ent", "top"]) {
        if (wire[name]) part[name] = wire[name].slice(i, j);
      }
      if (wire.fsm) part.fsm = wire.fsm.slice(i, j + 1);
      if (i) delete part.replaced;
    }
    parts.push(part);
  }
  return parts;
}

/** A function from wire objects, in order and one an event, to events. */
export function makeDecoder() {
  const sequences = new Map();
  const rids = [];
  return (wire) => {
    const { k, s, t, ...rest } = wire;
    const event = { kind: k, seq: s, t, ...WIRE_DEFAULTS[k], ...rest };
    return WIRE_READERS[k]?.(event, wire, sequences, rids) ?? event;
  };
}
