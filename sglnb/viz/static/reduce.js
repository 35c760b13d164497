// The run view as a pure fold over the event log: the same fold, with the same JSON, as
// reduce.py and its reduce_*.py. Change both together; tests compare them on recorded logs.
//
// Events are plain objects as Event.to_dict() makes them. Tables keyed by names that come from
// outside have no prototype, so that a state called "__proto__" is a name like any other.

// A stop: one of these errors, or a message of ours that says so. A line that begins with the
// name of another error is that error, whatever it says.
const STOPS = /^(?:(?:KeyboardInterrupt|RequestAborted|CancelledError|GenerationAborted)\b|(?!\w+: ).* was stopped|aborted$)/;

/** An event's `error` if it tells of a failure; "" when somebody stopped the work. */
const failure = (error) => (STOPS.test(error) ? "" : error);
const KEEP = 24;
const MAX_GHOSTS = 40;
const UNSEEN = 8;

const table = () => Object.create(null);

export function initial() {
  return {
    header: initialHeader(),
    tokens: { rows: table(), order: [], requests: table() },
    tree: initialTree(),
    branches: { rows: table(), order: [], bars: table(), t0: null, t1: 0 },
  };
}

/** The view after one more event; may reuse the storage of `view`. */
export function reduce(view, event) {
  reduceHeader(view.header, event);
  TOKEN_STEPS[event.kind]?.(view.tokens, event);
  TREE_STEPS[event.kind]?.(view.tree, event);
  reduceBranches(view.branches, event);
  return view;
}

export function fold(events, view = initial()) {
  for (const event of events) reduce(view, event);
  return view;
}

// -- header ---------------------------------------------------------------------------------

function initialHeader() {
  return {
    run: "", title: "", status: "waiting", error: "",
    t0: null, t1: 0, first: null, busy: 0, last: 0,
    started: false, active: 0, requests: 0, aborted: 0, retracted: 0,
    prompt: 0, cached: 0, completion: 0, forced: 0, counts: table(),
  };
}

function reduceHeader(header, event) {
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

// -- tokens ---------------------------------------------------------------------------------

function tokenRow(view, key) {
  let row = view.rows[key];
  if (!row) {
    row = {
      state: key, label: "", parent: null, index: 0,
      tokens: [], shared: 0, shown: 0, cached: 0, aligned: false,
      forked: false, rid: "", name: "", status: "", error: "", ended: false,
      picks: [], variables: [], scoring: table(),
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

const itemAt = (items, i) => items?.[i] ?? null;

const TOKEN_STEPS = {
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
    if (event.replaced) row.tokens.splice(-event.replaced);
    event.ids.forEach((id, i) => {
      row.tokens.push({
        id, piece: event.pieces[i], kind: event.how, name: request.name,
        rid: event.rid, t: event.t, logprob: itemAt(event.logprobs, i),
        top: itemAt(event.top, i) ?? [], allowed: itemAt(event.allowed, i),
        mass: itemAt(event.mass, i), fsm: i === 0 ? event.fsm_before : null,
      });
    });
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

// -- radix tree -----------------------------------------------------------------------------

function treeNode(node, parent, [head, hidden, tail], t) {
  return {
    node, parent, head, hidden, tail,
    locks: 0, pins: 0, hits: 0, created: t, last_used: t, evicted: null, why: "",
  };
}

function initialTree() {
  const nodes = table();
  nodes["0"] = treeNode(0, null, [[], 0, []], 0);
  return {
    nodes, ghosts: [], tips: table(), holds: table(),
    total_slots: 0, used_slots: 0, evicted_nodes: 0, evicted_tokens: 0,
  };
}

/** Tokens on the edge to `node`. */
export function nodeTokens(node) {
  return node.head.length + node.hidden + node.tail.length;
}

function clipPieces(pieces) {
  if (pieces.length <= 2 * KEEP) return [pieces.slice(), 0, []];
  return [pieces.slice(0, KEEP), pieces.length - 2 * KEEP, pieces.slice(-KEEP)];
}

function splitText({ head, hidden, tail }, at) {
  const near = head.length;
  if (at <= near) return [[head.slice(0, at), 0, []], [head.slice(at), hidden, tail]];
  if (at <= near + hidden) return [[head, at - near, []], [[], hidden - (at - near), tail]];
  const cut = at - near - hidden;
  return [[head, hidden, tail.slice(0, cut)], [tail.slice(cut), 0, []]];
}

function setPool(tree, event) {
  tree.total_slots = event.total_slots;
  tree.used_slots = event.used_slots;
}

function changeHold(holds, event) {
  const held = holds[event.rid] ?? (holds[event.rid] = []);
  if (event.delta > 0) held.push(event.node);
  else if (held.includes(event.node)) held.splice(held.indexOf(event.node), 1);
  if (!held.length) delete holds[event.rid];
}

const TREE_STEPS = {
  cache_snapshot(tree, event) {
    const nodes = table();
    nodes["0"] = treeNode(0, null, [[], 0, []], 0);
    for (const record of event.nodes) {
      const text = "head" in record
        ? [record.head, record.hidden, record.tail] : clipPieces(record.pieces);
      const node = treeNode(record.node, record.parent, text, record.last_used);
      node.locks = record.locks;
      node.pins = record.pins ?? 0;
      node.hits = record.hits;
      node.created = record.created ?? record.last_used;
      if (record.node === 0) node.parent = null;
      nodes[record.node] = node;
    }
    const tips = table();
    for (const rid in tree.tips) if (nodes[tree.tips[rid]]) tips[rid] = tree.tips[rid];
    tree.nodes = nodes;
    tree.ghosts = [];
    tree.tips = tips;
    tree.holds = table();
    setPool(tree, event);
  },
  step: setPool,
  node_inserted(tree, event) {
    if (!tree.nodes[event.parent]) return;
    const text = "head" in event
      ? [event.head, event.hidden, event.tail] : clipPieces(event.pieces);
    tree.nodes[event.node] = treeNode(event.node, event.parent, text, event.t);
    if (event.rid) tree.tips[event.rid] = event.node;
  },
  node_split(tree, event) {
    const node = tree.nodes[event.node];
    if (!node) return;
    const [above, below] = splitText(node, event.at);
    const upper = treeNode(event.upper, node.parent, above, node.created);
    upper.locks = node.locks;
    upper.hits = node.hits;
    upper.last_used = node.last_used;
    tree.nodes[event.upper] = upper;
    node.parent = event.upper;
    [node.head, node.hidden, node.tail] = below;
  },
  node_hit(tree, event) {
    for (const key of event.nodes) {
      const node = tree.nodes[key];
      if (!node) continue;
      node.hits += 1;
      node.last_used = event.t;
      if (event.rid) tree.tips[event.rid] = key;
    }
  },
  node_locked(tree, event) {
    let node = tree.nodes[event.node];
    if (node && event.rid === "pin") node.pins += event.delta;
    else if (event.rid) changeHold(tree.holds, event);
    while (node) {
      node.locks += event.delta;
      node.last_used = event.t;
      node = node.parent === null ? null : tree.nodes[node.parent];
    }
  },
  node_evicted(tree, event) {
    tree.evicted_nodes += 1;
    tree.evicted_tokens += event.tokens;
    const node = tree.nodes[event.node];
    if (!node) return;
    node.evicted = event.t;
    node.why = event.why;
    tree.ghosts.push(event.node);
    if (tree.ghosts.length > MAX_GHOSTS) delete tree.nodes[tree.ghosts.shift()];
  },
};

// -- branches -------------------------------------------------------------------------------

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

function reduceBranches(view, event) {
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
