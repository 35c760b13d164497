// The engine's steps: who was in each, how much was computed, how full the pool was. The same
// fold as reduce_schedule.py, which says what the parts are: change both together.

import { table } from "./table.js";

const sinceLast = () => ({ made: 0, forced: 0, cached: table(), read: table(), retracted: [] });

export function initialSchedule() {
  return { requests: table(), order: [], steps: [], queue: 0, prompt: 0, hits: 0, since: sinceLast() };
}

function setWaits(view, request, waits) {
  if (request.waits === waits) return;
  request.waits = waits;
  view.queue += waits ? 1 : -1;
}

export const SCHEDULE_STEPS = {
  request_arrived(view, event) {
    if (view.requests[event.rid]) return;
    view.requests[event.rid] = {
      rid: event.rid, at: view.order.length, row: event.state || event.rid,
      name: event.name, purpose: event.purpose, prompt: event.ids.length, cached: null,
      out: 0, owed: 0, fresh: 0, waits: true,
    };
    view.order.push(event.rid);
    view.queue += 1;
  },
  request_matched(view, event) {
    const request = view.requests[event.rid];
    if (!request) return;
    setWaits(view, request, false);
    view.since.cached[event.rid] = event.cached;
    if (request.cached === null) {
      request.cached = Math.min(event.cached, request.prompt);
      view.prompt += request.prompt;
      view.hits += request.cached;
    }
    request.owed = Math.max(0, request.prompt + request.out - event.cached);
    request.fresh = 0;
  },
  request_scheduled(view, event) {
    const { read } = view.since;
    read[event.rid] = (read[event.rid] ?? 0) + event.end - event.start;
  },
  tokens(view, event) {
    const request = view.requests[event.rid];
    if (!request) return;
    const n = event.ids.length;
    const replaced = event.replaced ?? 0;
    request.out += n - replaced;
    request.fresh += n;
    view.since.made += n - replaced;
    if (event.how === "forced") view.since.forced += n;
  },
  request_retracted(view, event) {
    const request = view.requests[event.rid];
    if (!request) return;
    setWaits(view, request, true);
    view.since.retracted.push(event.rid);
  },
  request_finished(view, event) {
    const request = view.requests[event.rid];
    if (request) setWaits(view, request, false);
  },
  step(view, event) {
    const { since, requests } = view;
    const count = event.count ?? 1;
    const parts = [];
    const others = [0, 0, 0];
    let readByOwn = 0;
    for (const [rids, reads] of [[event.prefill, true], [event.decode, false]]) {
      for (const rid of rids) {
        const request = requests[rid];
        if (!request) {
          others[reads ? 0 : 2] += 1;
          continue;
        }
        const read = reads ? since.read[rid] ?? 0 : 0;
        readByOwn += read;
        parts.push([rid, read, reads ? 0 : Math.max(count, request.owed), since.cached[rid] ?? 0]);
        request.owed = request.fresh;
        request.fresh = 0;
      }
    }
    others[1] = Math.max(0, event.prefill_tokens - readByOwn);
    view.steps.push({
      step: event.step, t: event.t, seconds: event.seconds, count, parts, others,
      waiting: event.waiting, queue: view.queue, used: event.used_slots, total: event.total_slots,
      made: since.made, forced: since.forced, retracted: since.retracted,
      prompt: view.prompt, hits: view.hits,
    });
    view.since = sinceLast();
  },
};
