// The program of a run as its source has it, filled in while it runs. The same fold as reduce_program.py: change both together.

import { failure } from "./reduce_header.js";
import { table } from "./table.js";

const PROGRAM_START = -1;

export function initialProgram() {
  return {
    nodes: [], more: 0, fills: [], now: table(), rids: table(), forking: table(), forked: table(), branch: table(),
    over: false,
  };
}

export function reduceProgram(view, event) {
  const step = PROGRAM_STEPS[event.kind];
  if (step && (view.nodes.length || event.kind === "program_read")) step(view, event);
}

function programNode(view, fields) {
  const node = {
    name: null, code: "", text: "", tail: "", hidden: 0, role: null, prev: null,
    of: null, size: null, uses: [], unread: false, line: null, unseen: false, opens: false,
    ...fields, fills: [], cached: null, forks: [], joins: 0,
  };
  view.nodes.push(node);
  return node;
}

/** The event's node; where the source did not say so, one for all that are alike. */
function nodeReached(view, event) {
  const { nodes } = view;
  if (event.node !== null && event.node < nodes.length) return nodes[event.node];
  return nodes.find((node) => node.unseen && node.kind === event.what && node.name === event.name)
    ?? programNode(view, { id: nodes.length, kind: event.what, depth: 0, name: event.name, unseen: true });
}

/** How many of the sorted `ends` are at most `at`. */
function countUpTo(ends, at) {
  let low = 0;
  let high = ends.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle] <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}

const isSpace = (text) => /^[ \n\t\r]*$/.test(text);

/** `[node, first token, end, exact]` of the constants before `node` in a prompt, not seen yet. */
function constantSpans(nodes, node, pieces) {
  const chain = [];
  let at = nodes[node].prev;
  while (at !== null && at !== PROGRAM_START && at < nodes.length) {
    chain.push(nodes[at]);
    at = nodes[at].prev;
  }
  if (!chain.some((each) => each.kind === "text" && each.cached === null)) return [];
  const text = pieces.join("");
  let sum = 0;
  const ends = pieces.map((piece) => (sum += piece.length));
  const found = new Map();
  let pos = text.length;
  let exact = true;
  for (const each of chain) {
    if (each.kind !== "text") {
      exact &&= each.kind === "fork";
      continue;
    }
    if (isSpace(each.text)) continue;
    const start = pos - each.text.length;
    const i = each.hidden || start < 0 ? -1 : text.lastIndexOf(each.text, start);
    if (i < 0) break;
    found.set(each.id, [i, i + each.text.length, exact]);
    pos = i;
  }
  pos = 0;
  for (const each of at === PROGRAM_START ? chain.reverse() : []) {
    if (each.kind !== "text" || each.hidden) break;
    const i = text.indexOf(each.text, pos);
    if (i < 0) break;
    pos = i + each.text.length;
    if (!isSpace(each.text)) found.set(each.id, [i, pos, true]);
  }
  return [...found].filter(([key]) => nodes[key].cached === null).sort(([a], [b]) => a - b)
    .map(([key, [i, j, sure]]) => [key, countUpTo(ends, i), countUpTo(ends, j - 1) + 1, sure]);
}

function closeFill(fill, error) {
  if (fill.status !== "waiting" && fill.status !== "running") return;
  if (failure(error)) {
    fill.status = "failed";
    fill.error = error;
  } else fill.status = error ? "stopped" : "done";
}

const PROGRAM_STEPS = {
  program_read(view, event) {
    if (view.nodes.length) return;
    view.more = event.graph.more;
    for (const fields of event.graph.nodes) programNode(view, fields);
  },
  program_reached(view, event) {
    const node = nodeReached(view, event);
    if (event.what === "fork") {
      view.forking[event.state] = node.id;
      view.forked[event.state] = node.id;
      return;
    }
    if (event.state in view.now) closeFill(view.fills[view.now[event.state]], "");
    node.fills.push(view.fills.length);
    view.now[event.state] = view.fills.length;
    view.fills.push({
      node: node.id, state: event.state, name: event.name, status: "waiting",
      pieces: [], text: null, rid: "", prompt: 0, cached: null, open: 0, error: "",
    });
  },
  request_arrived(view, event) {
    if (event.purpose === "prefill" && event.state in view.forked) {
      // What the branches share is computed before they ask for it.
      const spans = constantSpans(view.nodes, view.forked[event.state], event.pieces);
      view.rids[event.rid] = { fill: null, purpose: "prefill", spans };
    }
    const at = view.now[event.state];
    if (at === undefined || (event.purpose !== "gen" && event.purpose !== "select")) return;
    const fill = view.fills[at];
    const first = fill.rid === "";
    if (first) {
      fill.rid = event.rid;
      fill.prompt = event.ids.length;
    }
    fill.open += 1;
    if (fill.status === "done") fill.status = "running";
    const spans = first ? constantSpans(view.nodes, fill.node, event.pieces) : [];
    view.rids[event.rid] = { fill: at, purpose: event.purpose, spans };
  },
  request_matched(view, event) {
    const request = view.rids[event.rid];
    if (!request) return;
    const fill = view.fills[request.fill];
    if (fill?.rid === event.rid && fill.cached === null) fill.cached = Math.min(event.cached, fill.prompt);
    for (const [key, start, end, exact] of request.spans) {
      const node = view.nodes[key];
      if (node.cached === null && (exact || event.cached >= end)) {
        node.cached = [Math.max(0, Math.min(event.cached, end) - start), end - start];
      }
    }
    request.spans = [];
  },
  tokens(view, event) {
    const request = view.rids[event.rid];
    if (!request || request.fill === null) return;
    const fill = view.fills[request.fill];
    if (fill.status === "waiting") fill.status = "running";
    if (request.purpose !== "gen" || fill.rid !== event.rid) return;
    if (event.replaced) fill.pieces.splice(-event.replaced);
    fill.pieces.push(...event.pieces);
  },
  request_finished(view, event) {
    const request = view.rids[event.rid];
    if (!request) return;
    delete view.rids[event.rid];
    if (request.fill === null) return;
    const fill = view.fills[request.fill];
    fill.open -= 1;
    if (failure(event.error)) {
      fill.status = "failed";
      fill.error = event.error;
    } else if (fill.status !== "failed" && event.reason === "abort") fill.status = "stopped";
    else if (fill.status === "waiting" || fill.status === "running") fill.status = fill.open ? "running" : "done";
  },
  variable_set(view, event) {
    const fill = view.fills[view.now[event.state]];
    if (!fill || fill.name !== event.name) return;
    if (event.choices !== null || fill.pieces.join("").startsWith(event.text)) fill.text = event.text;
    if (fill.status === "waiting" || fill.status === "running") fill.status = "done";
  },
  state_forked(view, event) {
    const key = view.forking[event.parent];
    if (key === undefined) return;
    delete view.forking[event.parent];
    view.nodes[key].forks.push(event.children);
    for (const child of event.children) view.branch[child] = key;
  },
  state_joined(view, event) {
    const fork = view.branch[event.children[0]];
    if (fork === undefined) return;
    for (const node of view.nodes) if (node.kind === "join" && node.of === fork) node.joins += 1;
  },
  state_ended(view, event) {
    const at = view.now[event.state];
    if (at === undefined) return;
    delete view.now[event.state];
    closeFill(view.fills[at], event.error);
  },
  run_ended(view, event) {
    view.over = true;
    for (const state in view.now) closeFill(view.fills[view.now[state]], event.error);
  },
};
