// The engine's steps as columns to draw, and in words. The same as columns.py, which says what
// the parts are: change both together.

import { countOf, groupDigits, nameText, oneLine, rowLabel, secondsText } from "./layout.js";

/** How high `tokens` stand: a decoded token is 1, a prompt grows by its logarithm. */
const heightOf = (tokens) => (tokens <= 1 ? tokens : 1 + Math.log2(tokens) / 2);

/** One column a step; if they are more than `limit`, one for 2, 4, 8, ... steps. `before` are columns
 * of the same schedule when it had fewer steps: those that were full then are taken over. */
export function stepColumns(schedule, limit, before = []) {
  const { steps } = schedule;
  let size = 1;
  while (steps.length > limit * size) size *= 2;
  const columns = [];
  for (let i = 0; i < steps.length; i += size) {
    const old = before[columns.length];
    columns.push(old?.first === i && old.size === size ? old : columnOf(schedule, i, steps.slice(i, i + size)));
  }
  return columns;
}

function columnOf(schedule, first, steps) {
  const weight = 1 / steps.length;
  const bands = new Map();
  const band = (rid) => {
    if (!bands.has(rid)) bands.set(rid, [0, 0, 0]);
    return bands.get(rid);
  };
  const sums = { waiting: 0, queue: 0, retracted: 0 };
  for (const step of steps) {
    for (const [rid, read, wrote, cached] of step.parts) {
      const heights = band(rid);
      heights[0] += weight * heightOf(cached);
      heights[1] += weight * heightOf(read);
      heights[2] += weight * heightOf(wrote / step.count);
    }
    const [prefilling, tokens, decoding] = step.others;
    if (prefilling || decoding) {
      const heights = band("");
      heights[1] += prefilling ? weight * prefilling * heightOf(tokens / prefilling) : 0;
      heights[2] += weight * decoding;
    }
    sums.waiting += step.waiting * weight;
    sums.queue += step.queue * weight;
    sums.retracted += step.retracted.length;
  }
  const place = (rid) => (rid ? schedule.requests[rid].at : Infinity);
  const order = [...bands.keys()].sort((a, b) => place(a) - place(b));
  const last = steps.at(-1);
  return {
    first, size: steps.length, bands: order.map((rid) => [rid, ...bands.get(rid)]),
    top: order.reduce((top, rid) => top + bands.get(rid).reduce((a, b) => a + b), 0),
    ...sums,
    pool: last.total ? last.used / last.total : null,
    hit: last.prompt ? last.hits / last.prompt : null,
  };
}

const totalOf = (items, part) => items.reduce((sum, item) => sum + part(item), 0);
const mostOf = (items, part) => items.reduce((top, item) => Math.max(top, part(item)), 0);
const crowdOf = ({ parts, others }) => parts.length + others[0] + others[2];

/** What happened in `size` steps from the one at `first`: a head and plain sentences. */
export function columnWords(view, first, size) {
  const { schedule } = view;
  const steps = schedule.steps.slice(first, first + size);
  if (!steps.length) return [];
  const last = steps.at(-1);
  const t0 = schedule.steps[0].t - schedule.steps[0].seconds;
  const spent = totalOf(steps, (step) => step.seconds);
  const begun = steps[0].step - steps[0].count + 1;
  const name = begun === last.step ? `step ${begun}` : `steps ${begun} to ${last.step}`;
  const words = [`${name} · ${secondsText(spent)}, at ${secondsText(Math.max(0, last.t - t0))}`];
  const named = (rids) => {
    const names = [...new Set(rids.map((rid) => nameInStep(view, rid)))];
    return [...names.slice(0, 4), ...(names.length > 4 ? [`${names.length - 4} more`] : [])].join(", ");
  };
  const parts = steps.flatMap((step) => step.parts);
  const readers = parts.filter((part) => part[1]).map(([rid]) => rid);
  if (readers.length) {
    const cached = totalOf(parts, (part) => part[3]);
    const found = cached ? ` and finds ${groupDigits(cached)} in the cache` : "";
    words.push(`reads ${countOf(totalOf(parts, (part) => part[1]), "prompt token")} of ${named(readers)}${found}`);
  }
  const writers = parts.filter((part) => part[2]).map(([rid]) => rid);
  const made = totalOf(steps, (step) => step.made);
  const forced = totalOf(steps, (step) => step.forced);
  if (made) {
    const rate = spent > 0 ? ` (${groupDigits(made / spent)} tokens/s)` : "";
    const whom = writers.length ? ` for ${named(writers)}` : "";
    const jumped = forced ? `; ${groupDigits(forced)} without a forward pass` : "";
    words.push(`writes ${countOf(made, "token")}${whom}${rate}${jumped}`);
  }
  const others = [0, 2].map((i) => mostOf(steps, (step) => step.others[i]));
  if (others[0] || others[1]) {
    words.push(`beside others: ${groupDigits(others[0])} that read, ${groupDigits(others[1])} that write`);
  }
  if (last.waiting) {
    const own = last.queue < last.waiting ? `, ${groupDigits(last.queue)} of them known here` : "";
    words.push(`${countOf(last.waiting, "request")} waiting${own}`);
  }
  const back = steps.flatMap((step) => step.retracted);
  if (back.length) words.push(`sent back to the queue to make room: ${named(back)}`);
  if (last.total) {
    words.push(`the pool is ${Math.round((100 * last.used) / last.total)} % full: `
      + `${groupDigits(last.used)} of ${groupDigits(last.total)} tokens`);
  }
  if (last.prompt) {
    words.push(`hit rate so far ${Math.round((100 * last.hits) / last.prompt)} %: `
      + `${groupDigits(last.hits)} of ${countOf(last.prompt, "prompt token")}`);
  }
  return words;
}

/** A request's name for people. */
function nameInStep(view, rid) {
  const request = view.schedule.requests[rid];
  if (!request) return oneLine(rid);
  const row = view.tokens.rows[request.row];
  return row ? rowLabel(row, request.name) : nameText(request.name || rid);
}

/** `41 steps of 12 ms · up to 5 requests at once · 186 tokens/s`. */
export function scheduleWords({ steps }) {
  const n = totalOf(steps, (step) => step.count);
  if (!n) return "";
  const spent = totalOf(steps, (step) => step.seconds);
  const words = [`${countOf(n, "step")} of ${secondsText(spent / n)}`,
    `up to ${countOf(mostOf(steps, crowdOf), "request")} at once`];
  if (spent > 0) words.push(`${groupDigits(totalOf(steps, (step) => step.made) / spent)} tokens/s`);
  const waited = mostOf(steps, (step) => step.waiting);
  if (waited) words.push(`up to ${groupDigits(waited)} waiting`);
  const back = totalOf(steps, (step) => step.retracted.length);
  if (back) words.push(`${groupDigits(back)} sent back`);
  return words.join(" · ");
}

/** Whether there is more to see than one request after the other. */
export const isBusy = ({ steps }) =>
  steps.some((step) => crowdOf(step) > 1 || step.waiting || step.retracted.length);
