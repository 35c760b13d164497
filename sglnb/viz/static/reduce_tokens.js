// The text of every program state as tokens that know where they came from. The same fold as reduce_tokens.py: change both together.

import { failure } from "./reduce_header.js";
import { table } from "./table.js";

const UNSEEN = 8;

export function initialTokens() {
  return { rows: table(), order: [], requests: table() };
}

function tokenRow(view, key) {
  let row = view.rows[key];
  if (!row) {
    row = {
      state: key, label: "", parent: null, index: 0,
      tokens: [], shared: 0, shown: 0, cached: 0, aligned: false,
      forked: false, rid: "", name: "", status: "", error: "", ended: false,
      picks: [], variables: [], scoring: table(), back: 0,
    };
    view.rows[key] = row;
    view.order.push(key);
  }
  return row;
}

function commonPrefix(a, b, limit) {
  const n = Math.min(a.length, b.length, limit);
  for (let i = 0; i < n; i++) if (a[i] !== b[i]) return i;
  return n;
}

const agree = (tokens, ids) => commonPrefix(tokens.map((token) => token.id), ids, ids.length);

/** The tokens that `ids` continue and how many agree: the row's own, or at first its parent's,
 * or its first sibling's where no request showed the parent's text yet. */
function knownTokens(view, row, ids) {
  if (row.aligned) return { have: row.tokens, same: agree(row.tokens, ids) };
  if (row.parent === null) return { have: [], same: 0 };
  const have = view.rows[row.parent]?.tokens ?? [];
  const same = agree(have, ids);
  if (same > 0) return { have, same };
  const sibling = view.order.map((key) => view.rows[key])
    .find((each) => each.aligned && each.parent === row.parent);
  const more = sibling ? agree(sibling.tokens, ids) : 0;
  return more >= UNSEEN ? { have: sibling.tokens, same: more } : { have: [], same: 0 };
}

function alignRow(view, row, ids, pieces) {
  const { have, same } = knownTokens(view, row, ids);
  row.shared = row.aligned ? Math.min(row.shared, same) : same;
  row.aligned = true;
  row.tokens = have.slice(0, same);
  for (let i = same; i < ids.length; i++) {
    row.tokens.push({ id: ids[i], piece: pieces[i], kind: "prompt" });
  }
  row.shown = Math.min(row.shown, row.tokens.length);
}

/** One choice: what all the choices' prompts have in common is the text before them. */
function scoreChoice(view, row, event) {
  const group = row.scoring[event.name];
  if (!group) {
    row.scoring[event.name] = {
      ids: [event.ids], pieces: [event.pieces], same: event.ids.length, cached: null,
    };
    return;
  }
  group.same = commonPrefix(group.ids[0], event.ids, group.same);
  group.ids.push(event.ids);
  group.pieces.push(event.pieces);
  alignRow(view, row, event.ids.slice(0, group.same), event.pieces.slice(0, group.same));
  row.shown = row.tokens.length;
}

/** A prefill hint repeats the state's text and may run ahead of it, out of sight. */
function warmRow(view, row, event) {
  const { same } = knownTokens(view, row, event.ids);
  if (same < row.shown || same === event.ids.length) return;
  alignRow(view, row, event.ids, event.pieces);
  if (row.forked) row.shown = row.tokens.length;
}

/** The winning choice's request and where the choice starts in its prompt. */
function findWinner(group, event) {
  const order = group.ids.map((_, i) => i);
  const names = event.choices.map((choice) => choice[0]);
  const likely = names.indexOf(event.text);
  if (names.length === order.length && likely >= 0) order.unshift(likely);
  for (const i of order) {
    const pieces = group.pieces[i];
    let end = "";
    let start = pieces.length;
    while (start > 0 && end.length < event.text.length) {
      start -= 1;
      end = pieces[start] + end;
    }
    if (end.endsWith(event.text)) return { ids: group.ids[i], pieces, start };
  }
  return null;
}

function andItsGhosts({ ghosts = [], ...token }) {
  return [...ghosts, token];
}

const itemAt = (items, i) => items?.[i] ?? null;

export const TOKEN_STEPS = {
  state_started(view, event) {
    const row = tokenRow(view, event.state);
    row.label = event.label;
    row.parent = event.parent;
    row.index = event.index;
  },
  state_forked(view, event) {
    const row = tokenRow(view, event.parent);
    row.forked = true;
    row.shown = row.tokens.length;
  },
  state_ended(view, event) {
    const row = tokenRow(view, event.state);
    row.ended = true;
    row.error = failure(event.error);
  },
  variable_set(view, event) {
    const row = tokenRow(view, event.state);
    if (event.choices === null) {
      row.variables.push([event.name, event.text]);
      return;
    }
    const group = row.scoring[event.name];
    delete row.scoring[event.name];
    const pick = row.picks.length;
    row.picks.push({ name: event.name, text: event.text, choices: event.choices });
    const found = group ? findWinner(group, event) : null;
    if (!found) return;
    const { ids, pieces, start } = found;
    alignRow(view, row, ids.slice(0, start), pieces.slice(0, start));
    for (let i = start; i < ids.length; i++) {
      row.tokens.push({ id: ids[i], piece: pieces[i], kind: "select", name: event.name, pick });
    }
    row.shown = row.tokens.length;
  },
  request_arrived(view, event) {
    const key = event.state || event.rid;
    const row = tokenRow(view, key);
    view.requests[event.rid] = {
      row: key, name: event.name, purpose: event.purpose, prompt: event.ids.length, done: false,
      last: event.t,
    };
    if (event.purpose === "select") scoreChoice(view, row, event);
    else if (event.purpose === "prefill") warmRow(view, row, event);
    else {
      alignRow(view, row, event.ids, event.pieces);
      row.rid = event.rid;
      row.name = event.name;
      row.status = "";
      row.shown = row.tokens.length;
    }
  },
  request_matched(view, event) {
    const request = view.requests[event.rid];
    if (!request) return;
    const row = view.rows[request.row];
    if (request.purpose === "select") {
      // The first choice computes the text for the others: the least was there before.
      const group = row.scoring[request.name];
      if (group) {
        const old = group.cached;
        group.cached = old === null ? event.cached : Math.min(old, event.cached);
        row.cached = group.cached;
      }
    } else if (row.rid === event.rid || (request.purpose === "prefill" && !row.rid)) {
      row.cached = event.cached;
    }
  },
  tokens(view, event) {
    const request = view.requests[event.rid];
    if (!request || request.purpose !== "gen") return;
    const row = view.rows[request.row];
    if (row.rid !== event.rid) return;
    const ghosts = event.replaced ? row.tokens.splice(-event.replaced) : [];
    row.back += ghosts.length;
    const states = [event.fsm_before, ...(event.fsm_after ?? [])];
    event.ids.forEach((id, i) => {
      const record = {
        id, piece: event.pieces[i], kind: event.how, name: request.name,
        rid: event.rid, t: event.t, wait: event.t - request.last,
        logprob: itemAt(event.logprobs, i), entropy: itemAt(event.entropy, i),
        top: itemAt(event.top, i) ?? [], allowed: itemAt(event.allowed, i),
        mass: itemAt(event.mass, i), fsm: itemAt(states, i), fsm_to: itemAt(states, i + 1),
      };
      if (ghosts.length && i === 0) record.ghosts = ghosts.flatMap(andItsGhosts);
      row.tokens.push(record);
    });
    request.last = event.t;
    row.shown = row.tokens.length;
  },
  request_finished(view, event) {
    const request = view.requests[event.rid];
    if (!request) return;
    request.done = true;
    const row = view.rows[request.row];
    if (row.rid === event.rid) row.status = event.reason;
    if (event.error) row.error = failure(event.error);
  },
};
