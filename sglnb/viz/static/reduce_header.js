// The header line of a run: status, counts and times. The same fold as reduce_header.py: change both together.

import { table } from "./table.js";

// A stop: one of these errors, or a message of ours that says so. A line that begins with the
// name of another error is that error, whatever it says.
const STOPS = /^(?:(?:KeyboardInterrupt|RequestAborted|CancelledError|GenerationAborted)\b|(?!\w+: ).* was stopped|aborted$)/;

/** An event's `error` if it tells of a failure; "" when somebody stopped the work. */
export const failure = (error) => (STOPS.test(error) ? "" : error);

export function initialHeader() {
  return {
    run: "", title: "", status: "waiting", error: "",
    t0: null, t1: 0, first: null, busy: 0, last: 0,
    started: false, active: 0, requests: 0, aborted: 0, retracted: 0,
    prompt: 0, cached: 0, completion: 0, forced: 0, counts: table(),
    waits: table(),
  };
}

/** `[what, since when]` of what a run has waited for longest; null when it does not, or is over. */
export function waitingFor({ status, waits }) {
  const all = status === "running" ? Object.values(waits) : [];
  return all.reduce((first, wait) => (first && first[1] <= wait[1] ? first : wait), null);
}

export function reduceHeader(header, event) {
  const step = HEADER_STEPS[event.kind];
  if (!step) return;
  if (header.active > 0) header.busy += event.t - header.last;
  header.last = event.t;
  if (header.t0 === null) header.t0 = event.t;
  header.t1 = event.t;
  step(header, event);
}

function replaceCounts(header, rid, now) {
  const old = header.counts[rid];
  ["prompt", "cached", "completion", "forced"].forEach((name, i) => {
    header[name] += now[i] - old[i];
  });
  header.counts[rid] = now;
}

const HEADER_STEPS = {
  run_started(header, event) {
    header.run = event.run;
    header.title = event.title;
    header.status = "running";
    header.started = true;
    header.t0 = event.t;
  },
  run_ended(header, event) {
    header.error = failure(event.error);
    if (header.error) header.status = "failed";
    else header.status = event.error ? "stopped" : "done";
  },
  request_arrived(header, event) {
    header.requests += 1;
    header.active += 1;
    header.counts[event.rid] = [event.ids.length, 0, 0, 0];
    header.prompt += event.ids.length;
    if (!header.started) header.status = "running";
  },
  request_matched(header, event) {
    const c = header.counts[event.rid];
    // A retracted request matches again; what it reuses then is its own work.
    if (c && c[1] === 0 && c[2] === 0) {
      replaceCounts(header, event.rid, [c[0], Math.min(event.cached, c[0]), 0, 0]);
    }
  },
  preparing(header, event) {
    if (typeof event.seconds === "number") delete header.waits[event.rid ?? ""];
    else header.waits[event.rid ?? ""] = [event.what, event.t];
  },
  request_retracted(header) {
    header.retracted += 1;
  },
  tokens(header, event) {
    const c = header.counts[event.rid];
    if (!c) return;
    const n = event.ids.length - (event.replaced ?? 0);
    const forced = event.how === "forced" ? event.ids.length : 0;
    replaceCounts(header, event.rid, [c[0], c[1], c[2] + n, c[3] + forced]);
    if (header.first === null) header.first = event.t;
  },
  request_finished(header, event) {
    delete header.waits[event.rid];
    if (!header.counts[event.rid]) return;
    header.active -= 1;
    if (event.reason === "abort") header.aborted += 1;
    else {
      replaceCounts(header, event.rid, [
        event.prompt_tokens, event.cached_tokens, event.completion_tokens, event.forced_tokens,
      ]);
    }
    if (!header.started && header.active === 0) {
      header.status = header.aborted > 0 ? "stopped" : "done";
    }
  },
};
