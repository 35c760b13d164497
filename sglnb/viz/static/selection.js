// One selection, shared by all panes: what each of them lights for what is pointed at.

import { FSM } from "./fsm.js";
import { columnWords } from "./columns.js";
import { pathTo } from "./layout.js";
import { make } from "./dom.js";
import { nodeFacts } from "./programrows.js";
import { nodeTokens } from "./reduce_tree.js";
import { tokenCard } from "./tokencard.js";
import { nodeCard } from "./tree.js";

const MOST_PATHS = 40;

/**
 * What to light for `selection` in `view`: `path` and `tip` in the tree, `rows` and `rids` in the
 * branches, `test(row, pos, token)` in the tokens (null: all), `rid`, `pos` and `mark` (a state
 * or an edge) in the constraint, `columns` in the schedule, `program` (else what `rids` fill),
 * `card` beside what is pointed at.
 * Null when what was selected is gone.
 */
export function lightsOf(view, selection) {
  return LIGHTS[selection.kind](view, selection);
}

const facts = (lines) => lines.map((text, i) => make("div", { class: i ? "small" : "card-line", text }));

const LIGHTS = {
  token(view, selection) {
    const row = view.tokens.rows[selection.row];
    const path = row ? pathTo(view.tree, rowTip(view, row)) : [];
    const rid = selection.token.rid ?? row?.rid;
    return {
      path, tip: nodeAt(view.tree, path, selection.pos), rows: new Set([selection.row]),
      rids: new Set(rid ? [rid] : []), test: null, rid, pos: selection.pos,
      card: tokenCard(selection, row), program: fillsWhere(view, (fill) => isOf(fill, selection.token, selection.row)),
    };
  },
  node(view, { node }) {
    if (!view.tree.nodes[node]) return null;
    const path = pathTo(view.tree, node);
    const from = path.slice(0, -1).reduce((sum, key) => sum + nodeTokens(view.tree.nodes[key]), 0);
    const to = from + nodeTokens(view.tree.nodes[node]);
    const { rows } = view.tokens;
    const through = new Set(Object.keys(rows).filter((key) =>
      pathTo(view.tree, rowTip(view, rows[key])).includes(node)));
    return { path, tip: node, rows: through, rids: new Set(), card: nodeCard(view, node),
      test: (row, pos) => through.has(row) && pos >= from && pos < to };
  },
  bar(view, { rid, row: key, words }) {
    const bar = view.branches.bars[rid];
    return {
      path: pathTo(view.tree, view.tree.tips[rid]), rows: new Set([key]), rids: new Set([rid]), rid,
      test: (row, pos, token) => row === key
        && (token.rid === rid || (token.rid === undefined && pos < (bar?.prompt ?? 0))),
      card: facts(words.split(" · ")),
    };
  },
  /** A state or an edge of a constraint: the tokens that were made there, in all branches. */
  fsm(view, { source, state, edge, words, rid }) {
    const { requests, graphs } = view.constraint;
    if (!graphs[source]?.graph) return null;
    const fsm = edge === undefined ? null : new FSM(graphs[source].graph);
    const here = (token) => (fsm
      ? fsm.way(token.fsm, token.fsm_to, token.piece).includes(edge) : token.fsm === state);
    const test = (row, pos, token) => typeof token.fsm === "number"
      && requests[token.rid]?.source === source && here(token);
    return { path: [], rows: new Set(), rids: new Set(), test, rid, mark: { state, edge }, card: facts(words) };
  },
  /** A hole of the program, one of its texts, or a block with all that is in it. */
  program(view, { node: at, fill: one }) {
    const { nodes, fills } = view.program;
    if (!nodes[at]) return null;
    const node = nodes[at];
    let end = at + 1;
    if (["loop", "if", "else", "call"].includes(node.kind)) while (nodes[end]?.depth > node.depth) end += 1;
    const inside = nodes.slice(at, end);
    const chosen = one === null ? inside.flatMap((each) => each.fills.map((i) => fills[i])) : [fills[one]];
    const rids = new Set(chosen.map((fill) => fill.rid).filter(Boolean));
    const rows = new Set([...chosen.map((fill) => fill.state), ...inside.flatMap((each) => each.forks.flat())]);
    const paths = [...rids].slice(0, MOST_PATHS).map((rid) => pathTo(view.tree, view.tree.tips[rid]));
    const test = (row, pos, token) => chosen.some((fill) => isOf(fill, token, row));
    return { path: [...new Set(paths.flat())], tip: paths.length === 1 ? paths[0].at(-1) : undefined, rows, rids,
      rid: chosen[0]?.rid, test: chosen.length ? test : null, card: facts(nodeFacts(view, node, one === null ? null : fills[one])),
      program: { nodes: new Set(inside.map((each) => each.id)), fills: new Set(chosen.map((fill) => fills.indexOf(fill))) } };
  },
  /** Some steps of the engine: the requests that were in them and the tokens made there. */
  step(view, { first, size }) {
    const { steps, requests } = view.schedule;
    const chosen = steps.slice(first, first + size);
    if (!chosen.length) return null;
    const rids = new Set(chosen.flatMap((step) => step.parts.map(([rid]) => rid)));
    const rows = new Set([...rids].map((rid) => requests[rid].row));
    const from = first > 0 ? steps[first - 1].t : -Infinity;
    const to = chosen.at(-1).t;
    return { path: [], rows, rids, columns: { first, size },
      test: (row, pos, token) => rids.has(token.rid) && token.t > from && token.t <= to,
      card: facts(columnWords(view, first, size)) };
  },
};

/** Whether `token` of the state `row` is part of the text `fill`. */
const isOf = (fill, token, row) => (token.rid ? token.rid === fill.rid
  : token.kind === "select" && fill.state === row && fill.name === token.name);

/** The program's texts for which `test(fill)` holds, and the holes that they are in. */
export function fillsWhere({ program }, test) {
  const found = [...program.fills.keys()].filter((i) => test(program.fills[i]));
  return { fills: new Set(found), nodes: new Set(found.map((i) => program.fills[i].node)) };
}

/** The deepest node of the row's newest request that reached the tree. */
function rowTip(view, row) {
  let tip = view.tree.tips[row.rid];
  if (tip !== undefined) return tip;
  for (const rid in view.tokens.requests) {
    if (view.tokens.requests[rid].row === row.state) tip = view.tree.tips[rid] ?? tip;
  }
  return tip;
}

function nodeAt(tree, path, pos) {
  let end = 0;
  for (const key of path) {
    end += nodeTokens(tree.nodes[key]);
    if (pos < end) return key;
  }
  return undefined;
}
