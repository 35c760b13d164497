// The program pane: what the source says the run will do, a row a node, filled in while it runs.

import { keyed, make, rove, setAttr, setText } from "./dom.js";
import { programRows, programWords } from "./programrows.js";

const PROGRAM_HELP = "This is your program as its source has it, read before it runs: your code is not run for it. "
  + "Plain text is constant, and hatched green where its KV was in the cache when a prompt first held it. A blue "
  + "box is a hole that the model fills, a dashed one text that your code makes as it runs. Loops and conditions "
  + "say what they depend on: only the run tells how often, and which way.";

const STATUS_MARKS = { open: "○", waiting: "○", running: "▍", done: "✓", stopped: "◼", failed: "✕", missed: "–" };
const STATUS_WORDS = { open: "not begun", waiting: "waiting", running: "running", done: "done",
  stopped: "stopped", failed: "failed", missed: "not reached" };
const KIND_NAMES = { text: "constant", value: "made by", use: "the variable", gen: "hole", select: "hole",
  loop: "loop", if: "condition", else: "condition", call: "call", image: "image", fork: "", join: "", fill: "", more: "" };
const NODE_SIGNS = { fork: "⇉", join: "⇇", loop: "↻", if: "◇", else: "◇", call: "→" };

export function makeProgramPane(hooks) {
  const root = make("div", { class: "program", role: "tree", "aria-label": "program" });
  const items = new Map();
  const stop = { current: null };

  const itemOf = (event) => event.target.closest?.(".pnode");
  const pick = (event) => {
    const item = itemOf(event);
    if (item) hooks.select(item.sglPick, item);
    return item;
  };
  root.addEventListener("pointerover", pick);
  root.addEventListener("click", pick);
  root.addEventListener("pointerleave", () => hooks.select(null));
  root.addEventListener("focusin", (event) => {
    const item = pick(event);
    if (item) rove(stop, item);
  });
  root.addEventListener("focusout", () => hooks.select(null));
  root.addEventListener("keydown", (event) => {
    const item = itemOf(event);
    const next = item && besideItem(item, event.key);
    if (next) {
      event.preventDefault();
      next.focus();
    } else if (event.key === "Escape") hooks.select(null);
    else if (event.key === "Enter" && item) hooks.select(item.sglPick, item);
  });

  /** Up and down along the rows, left and right out of a block and into it. */
  function besideItem(item, key) {
    const all = Array.from(root.children);
    const at = all.indexOf(item);
    const depth = (each) => Number(each.getAttribute("aria-level"));
    if (key === "ArrowLeft") return all.slice(0, at).reverse().find((each) => depth(each) < depth(item));
    if (key === "ArrowRight") return depth(all[at + 1] ?? item) > depth(item) ? all[at + 1] : null;
    return { ArrowDown: all[at + 1], ArrowUp: all[at - 1], Home: all[0], End: all.at(-1) }[key];
  }

  function createItem() {
    const part = {
      role: make("span", { class: "pnode-role" }), sign: make("span", { class: "pnode-sign", "aria-hidden": "true" }),
      label: make("span", { class: "pnode-label" }), text: make("span", { class: "pnode-text" }),
      note: make("span", { class: "small pnode-note" }),
    };
    const body = make("span", { class: "pnode-body" }, part.sign, part.label, part.text);
    const item = make("div", { class: "pnode", role: "treeitem", tabindex: "-1" }, part.role, body, part.note);
    item.sgl = part;
    return item;
  }

  /** The constants of a message and what is made between them. */
  function drawParts(text, parts) {
    const key = JSON.stringify(parts);
    if (text.sglKey === key) return;
    text.sglKey = key;
    text.replaceChildren(...parts.map(([kind, each, share]) => {
      const span = make("span", { class: `part-${kind}${share > 0 ? " cached" : ""}`, text: each });
      if (share > 0) span.style.setProperty("--share", `${(100 * share).toFixed(1)}%`);
      return span;
    }));
  }

  function updateItem(item, row) {
    const { role, sign, label, text, note } = item.sgl;
    setAttr(item, "data-kind", row.kind);
    setAttr(item, "data-status", row.status || null);
    item.style.setProperty("--depth", row.depth);
    setAttr(item, "aria-level", row.depth + 1);
    setText(role, row.role);
    setText(sign, row.status ? STATUS_MARKS[row.status] : NODE_SIGNS[row.kind] ?? "");
    setText(label, row.label);
    if (row.parts.length) drawParts(text, row.parts);
    else setText(text, row.text);
    setText(note, row.note);
    const words = [[KIND_NAMES[row.kind], row.label].filter(Boolean).join(" "), STATUS_WORDS[row.status] ?? "", row.text, row.note];
    setAttr(item, "aria-label", [row.role, ...words].filter(Boolean).join(", "));
    item.sglPick = { kind: "program", node: row.node, fill: row.fill };
  }

  return {
    root,
    help: PROGRAM_HELP,
    legend: [["cached-share", "constant, cached"], ["hole-mark", "hole"], ["value-mark", "made as it runs"]],
    words: "",
    draw(view) {
      const rows = programRows(view);
      keyed(root, items, rows, (row) => row.key, createItem, updateItem);
      if (!stop.current?.isConnected) rove(stop, root.firstElementChild);
      this.words = programWords(view.program);
      return rows.length;
    },
    /** Light the holes in `fills` and the nodes in `nodes`. */
    light({ nodes, fills }) {
      for (const item of root.children) {
        const { node, fill } = item.sglPick;
        item.classList.toggle("lit", fill !== null && fills.has(fill) || fill === null && nodes.has(node));
      }
    },
  };
}
