// The timeline of program states. The same fold as reduce_branches.py: change both together.

import { failure } from "./reduce_header.js";
import { table } from "./table.js";

export function initialBranches() {
  return { rows: table(), order: [], bars: table(), t0: null, t1: 0 };
}

function branchRow(view, key, t) {
  let row = view.rows[key];
  if (!row) {
    row = {
      state: key, label: "", parent: null, index: 0, t0: t, t1: null,
      bars: [], forks: [], joins: [], joined: null, error: "",
    };
    view.rows[key] = row;
    view.order.push(key);
  }
  return row;
}

export function reduceBranches(view, event) {
  const step = BRANCH_STEPS[event.kind];
  if (!step) return;
  if (view.t0 === null) view.t0 = event.t;
  view.t1 = event.t;
  step(view, event);
}

function closeGap(bar, t) {
  const gap = bar.gaps.at(-1);
  if (gap && gap[1] === null) gap[1] = t;
}

/** Admission begins the prefill; the chunks themselves are told of when they are done. */
function beginPrefill(view, event) {
  const bar = view.bars[event.rid];
  if (!bar || bar.end !== null) return;
  if (bar.scheduled === null) bar.scheduled = event.t;
  closeGap(bar, event.t);
}

const BRANCH_STEPS = {
  run_started() {},
  run_ended() {},
  variable_set() {},
  state_started(view, event) {
    const row = branchRow(view, event.state, event.t);
    row.label = event.label;
    row.parent = event.parent;
    row.index = event.index;
  },
  state_forked(view, event) {
    branchRow(view, event.parent, event.t).forks.push([event.t, event.children]);
  },
  state_joined(view, event) {
    branchRow(view, event.parent, event.t).joins.push([event.t, event.children]);
    for (const child of event.children) branchRow(view, child, event.t).joined = event.t;
  },
  state_ended(view, event) {
    const row = branchRow(view, event.state, event.t);
    row.t1 = event.t;
    row.error = failure(event.error);
  },
  request_arrived(view, event) {
    const key = event.state || event.rid;
    branchRow(view, key, event.t).bars.push(event.rid);
    view.bars[event.rid] = {
      rid: event.rid, row: key, name: event.name, purpose: event.purpose,
      prompt: event.ids.length, cached: 0, tokens: 0, forced: 0,
      arrived: event.t, scheduled: null, first: null, end: null,
      gaps: [], reason: "", error: "",
    };
  },
  request_matched(view, event) {
    const bar = view.bars[event.rid];
    if (bar?.scheduled === null) bar.cached = Math.min(event.cached, bar.prompt);
    beginPrefill(view, event);
  },
  request_scheduled: beginPrefill,
  request_retracted(view, event) {
    view.bars[event.rid]?.gaps.push([event.t, null]);
  },
  tokens(view, event) {
    const bar = view.bars[event.rid];
    if (!bar) return;
    if (bar.first === null) bar.first = event.t;
    bar.tokens += event.ids.length - (event.replaced ?? 0);
    if (event.how === "forced") bar.forced += event.ids.length;
  },
  request_finished(view, event) {
    const bar = view.bars[event.rid];
    if (!bar) return;
    bar.end = event.t;
    bar.reason = event.reason;
    bar.error = event.error;
    closeGap(bar, event.t);
  },
};
