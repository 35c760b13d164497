// The constraints of a run: what each looks like and which requests are under it. The same fold
// as reduce_constraint.py: change both together.

import { table } from "./table.js";

export function initialConstraint() {
  return { graphs: table(), requests: table(), order: [] };
}

export const CONSTRAINT_STEPS = {
  constraint_used(view, event) {
    view.graphs[event.source] = { states: event.states ?? null, graph: event.graph ?? null };
  },
  request_arrived(view, event) {
    if (!event.constraint || view.requests[event.rid]) return;
    view.order.push(event.rid);
    view.requests[event.rid] = {
      rid: event.rid, source: event.constraint, row: event.state || event.rid,
      name: event.name, started: false, done: false,
    };
  },
  tokens(view, event) {
    const request = view.requests[event.rid];
    if (request) request.started = true;
  },
  request_finished(view, event) {
    const request = view.requests[event.rid];
    if (request) request.done = true;
  },
};
