// The program of a run as rows to draw, and in words. The same as program_rows.py: change both together.

import { clipMiddle, countOf, groupDigits, oneLine, rowLabel } from "./layout.js";

const ROW_TEXT = 150;
const MOST_FILLS = 6;
const FILL_STATUSES = ["waiting", "running", "done", "stopped", "failed"];
const isHole = (node) => node.kind === "gen" || node.kind === "select";
const isWritten = (row) => ["text", "value", "use", "image"].includes(row.kind);
const isBlock = (node) => ["loop", "if", "else", "call"].includes(node.kind);

/** Whether there is more to see than a few texts in a row. */
export function hasShape(program) {
  return program.nodes.some((node) => node.kind === "fork" || isBlock(node))
    || program.nodes.filter(isHole).length > 2;
}

function tallyOf(fills) {
  const tally = Object.fromEntries(FILL_STATUSES.map((status) => [status, 0]));
  for (const { status } of fills) tally[status] += 1;
  return tally;
}

/** `2 of 5 holes filled · 1 running`. */
export function programWords(program) {
  const holes = program.nodes.filter(isHole);
  const tally = tallyOf(program.fills);
  const filled = holes.filter((node) => node.fills.length
    && node.fills.every((i) => program.fills[i].status === "done")).length;
  const words = [`${groupDigits(filled)} of ${countOf(holes.length, "hole")} filled`];
  if (program.fills.length > holes.length) words.push(countOf(program.fills.length, "text"));
  for (const status of ["waiting", "running", "stopped", "failed"]) {
    if (tally[status]) words.push(`${groupDigits(tally[status])} ${status}`);
  }
  return words.join(" · ");
}

/** One row a node, and one for each text of a hole that has several. */
export function programRows(view) {
  const { program } = view;
  const rows = [];
  let role = null;
  for (const node of program.nodes) {
    const begins = !isBlock(node) && (node.role !== role || node.opens);
    if (!isBlock(node)) role = node.role;
    if (rows.length && !begins && goesOn(rows.at(-1), node)) {
      addPart(rows.at(-1), node);
      continue;
    }
    const row = {
      key: `n${node.id}`, node: node.id, fill: null, depth: node.depth,
      kind: node.kind, role: begins ? oneLine(role ?? "") : "", label: nodeLabel(node),
      parts: [], last: node.id, text: "", share: null, status: "", note: nodeNote(program, node),
    };
    if (isWritten(node)) addPart(row, node);
    rows.push(row);
    if (isHole(node)) rows.push(...fillRows(view, node, row));
  }
  if (program.more) {
    rows.push({ key: "more", node: null, fill: null, depth: 0, kind: "more", role: "",
      label: `+${countOf(program.more, "node")}`, parts: [], last: null, text: "", share: null, status: "", note: "" });
  }
  return rows;
}

/** Whether `node` is written right after `row`, into the same message. */
const goesOn = (row, node) => isWritten(row) && isWritten(node)
  && node.prev === row.last && node.depth === row.depth;

function addPart(row, node) {
  const text = node.kind === "text" ? clipRow(constantText(node)) : nodeLabel(node);
  const [cached, total] = node.cached ?? [0, 0];
  row.parts.push([node.kind, text, total ? cached / total : 0]);
  row.text = row.parts.map(([kind, each]) => (kind === "text" ? each : `{${each}}`)).join("");
  row.last = node.id;
  row.label = "";
  if (total) {
    const [known, of] = row.share ?? [0, 0];
    row.share = [known + cached, of + total];
    row.note = known + cached ? `${groupDigits(known + cached)} of ${countOf(of + total, "token")} cached` : "";
  }
}

function nodeLabel(node) {
  const name = oneLine(node.name ?? "");
  if (isHole(node)) {
    const named = name || clipMiddle(oneLine(node.code), 40);
    return [node.kind === "select" ? "select" : "", named].filter(Boolean).join(" ") || "gen";
  }
  if (node.kind === "fork") {
    return [`fork${node.size === null ? "" : ` ${groupDigits(node.size)}`}`, name].filter(Boolean).join(" ");
  }
  if (node.kind === "use") return name;
  return node.kind === "text" ? "" : clipMiddle(oneLine(node.code || node.kind), 90);
}

const constantText = (node) => (node.hidden
  ? `${node.text} ⟨${groupDigits(node.hidden)} more⟩ ${node.tail}` : node.text);

const clipRow = (text) => clipMiddle(oneLine(text), ROW_TEXT);

function nodeNote(program, node) {
  if (node.kind === "fork" && node.forks.length) {
    const n = node.forks.reduce((sum, children) => sum + children.length, 0);
    return n === 1 ? "1 branch" : `${groupDigits(n)} branches`;
  }
  if (node.kind === "join" && node.joins) return node.joins === 1 ? "joined" : `joined ${groupDigits(node.joins)} times`;
  if (node.kind === "call" && node.unread) return "its source is not read";
  if (["loop", "if", "else"].includes(node.kind)) {
    const named = node.uses.filter(Boolean).map(oneLine);
    const words = named.length ? [`depends on ${named.join(", ")}`] : [];
    if (node.uses.length && !named.length) words.push("depends on what was written");
    words.push(whereItWent(program, node));
    return words.filter(Boolean).join(" · ");
  }
  return node.unseen ? "not in the source that was read" : "";
}

/** Whether a block was gone through, as far as its holes tell. */
function whereItWent(program, block) {
  const holes = [];
  for (const node of program.nodes.slice(block.id + 1)) {
    if (node.depth <= block.depth) break;
    if (isHole(node) || node.kind === "fork") holes.push(node);
  }
  if (holes.some((node) => node.fills.length || node.forks.length)) return block.kind === "loop" ? "" : "taken";
  return holes.length && program.over ? "not taken" : "";
}

function fillRows(view, node, row) {
  const { program } = view;
  const fills = node.fills.map((i) => program.fills[i]);
  if (!fills.length) {
    row.status = program.over ? "missed" : "open";
    return [];
  }
  if (fills.length === 1) {
    const filled = filledRow(fills[0], node.fills[0]);
    Object.assign(row, filled, { note: [row.note, filled.note].filter(Boolean).join(" · ") });
    return [];
  }
  const tally = tallyOf(fills);
  const words = FILL_STATUSES.filter((status) => tally[status])
    .map((status) => `${groupDigits(tally[status])} ${status}`).join(", ");
  row.note = [row.note, words].filter(Boolean).join(" · ");
  const shown = shownFills(fills);
  const out = [];
  const before = new Map();
  fills.forEach((fill, at) => {
    const nth = (before.get(fill.state) ?? 0) + 1;
    before.set(fill.state, nth);
    const below = { ...row, role: "", depth: node.depth + 1 };
    if (shown.has(at)) {
      out.push({ ...below, key: `f${node.fills[at]}`, kind: "fill", label: fillLabel(view, fill, nth),
        ...filledRow(fill, node.fills[at]) });
    } else if (shown.has(at - 1)) {
      let end = at;
      while (end < fills.length && !shown.has(end)) end += 1;
      out.push({ ...below, key: `gap${node.id}.${at}`, kind: "more",
        label: `+${countOf(end - at, "text")}`, note: "" });
    }
  });
  return out;
}

function shownFills(fills) {
  const n = fills.length;
  if (n <= MOST_FILLS) return new Set(fills.keys());
  const failed = fills.findIndex((fill) => fill.status === "failed");
  return new Set([0, 1, 2, n - 2, n - 1, ...(failed < 0 ? [] : [failed])]);
}

function fillLabel(view, fill, nth) {
  const row = view.branches.rows[fill.state];
  const named = row && (row.parent !== null || row.index > 0);
  const label = named ? rowLabel(row, fill.name) : fill.name || "text";
  return clipMiddle(oneLine(label), 30) + (nth > 1 ? ` #${nth}` : "");
}

/** What the card of a node, or of one of its texts, says. */
export function nodeFacts({ program }, node, fill) {
  const title = { text: "constant", value: `made as it runs: ${node.code}`, gen: "hole for the model", select: "choice of the model" };
  const lines = [title[node.kind] ?? (node.code || node.kind)];
  if (node.kind === "text") lines.push(clipMiddle(oneLine(constantText(node)), 400));
  const text = fill ? fill.text ?? fill.pieces.join("") : "";
  if (text) lines.push(clipMiddle(oneLine(text), 400));
  lines.push(nodeNote(program, node));
  if (fill) lines.push(`${fill.status}${fill.cached === null ? "" : ` · ${filledRow(fill, 0).note}`}`);
  if (node.line !== null) lines.push(`line ${groupDigits(node.line)}`);
  return lines.filter(Boolean);
}

function filledRow(fill, index) {
  const text = fill.text ?? fill.pieces.join("");
  let note = "";
  if (fill.error) note = `✕ ${clipMiddle(oneLine(fill.error), ROW_TEXT)}`;
  else if (fill.cached !== null) note = `${groupDigits(fill.cached)} of ${countOf(fill.prompt, "prompt token")} cached`;
  return { fill: index, text: clipRow(text), status: fill.status, note };
}
