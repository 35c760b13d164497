// The tokens pane: every state's text, one span a token.

import { make, setAttr, setText, keyed, rove } from "./dom.js";
import { countOf, groupDigits, oneLine, orderedRows, percentText, rowLabel, visible } from "./layout.js";

const MAX_SPANS = 3000;
const STEP_SPANS = 500;
const LONGEST = 400;
const TOKENS_HELP = "This is the text as the model sees it: token by token, with one block for each state of the "
  + "program. A blue tint marks what the model chose (the darker, the surer it was), a dotted line what a "
  + "constraint left no choice about, and a green bar what was in the cache and cost no computing. Point at a "
  + "token, or walk there with the arrow keys, for its probability and what else it could have been.";
const SPECIAL = /^(<\|[^|]*\|>|<\/?s>|<(bos|eos|pad|unk)>)$/;

/** `hooks.select(selection | null)` is told what is pointed at or focused. */
export function makeTokensPane(hooks) {
  const root = make("div", { class: "tokens", role: "group", "aria-label": "tokens" });
  const rows = new Map();
  const stop = { current: null };
  const opened = new Set();
  let spaces = false;

  const spanOf = (event) => event.target.closest?.(".tok");
  const pick = (event) => {
    const span = spanOf(event);
    if (span) hooks.select(selectionOf(span), span);
  };
  root.addEventListener("pointerover", pick);
  root.addEventListener("pointerleave", () => hooks.select(focused(), document.activeElement));
  root.addEventListener("focusin", (event) => {
    pick(event);
    const span = spanOf(event);
    if (span) rove(stop, span);
  });
  root.addEventListener("focusout", () => hooks.select(null));
  root.addEventListener("keydown", (event) => {
    const span = spanOf(event);
    const next = span && neighbour(span, event.key);
    if (next) {
      event.preventDefault();
      next.focus();
    } else if (event.key === "Escape") {
      hooks.select(null);
    }
  });
  root.addEventListener("click", (event) => {
    const button = event.target.closest?.("button[data-row]");
    if (!button) return;
    const key = button.dataset.row;
    if (!opened.delete(key)) opened.add(key);
    hooks.redraw();
  });

  const focused = () => {
    const span = root.contains(document.activeElement) ? document.activeElement : null;
    return span?.classList.contains("tok") ? selectionOf(span) : null;
  };

  function selectionOf(span) {
    return { kind: "token", row: span.sglRow, pos: span.sglPos, token: span.sglToken,
      cached: span.sglCached };
  }

  function neighbour(span, key) {
    const all = Array.from(root.querySelectorAll(".tok"));
    const at = all.indexOf(span);
    if (key === "ArrowRight") return all[at + 1];
    if (key === "ArrowLeft") return all[at - 1];
    if (key === "Home") return all[0];
    if (key === "End") return all.at(-1);
    if (key !== "ArrowDown" && key !== "ArrowUp") return null;
    // The nearest token on the next line in that direction.
    const here = span.getBoundingClientRect();
    const down = key === "ArrowDown";
    let best = null;
    let line = null;
    for (let i = at; i >= 0 && i < all.length; i += down ? 1 : -1) {
      const box = all[i].getClientRects()[0];
      if (!box || (down ? box.top < here.top + 4 : box.top > here.top - 4)) continue;
      if (line !== null && Math.abs(box.top - line) > 4) break;
      line = box.top;
      const away = Math.abs(box.left - here.left);
      if (!best || away < best.away) best = { away, span: all[i] };
    }
    return best?.span;
  }

  function createRow({ row }) {
    const part = {
      label: make("div", { class: "row-label" }),
      flow: make("div", { class: "flow" }),
      fold: make("button", { class: "fold", type: "button", "data-row": row.state }),
      early: make("span", { class: "early" }),
      list: make("span", { role: "listbox", "aria-orientation": "horizontal" }),
      tail: make("span", { class: "tail" }),
      picks: make("div", { class: "picks" }),
      error: make("div", { class: "error" }),
      spans: [], start: 0, pickMap: new Map(),
    };
    part.flow.append(part.fold, part.early, part.list, part.tail);
    const body = make("div", { class: "row-body" }, part.flow, part.picks, part.error);
    const element = make("div", { class: "row" }, part.label, body);
    element.sgl = part;
    return element;
  }

  function updateRow(element, { row, depth }, running, runError) {
    const part = element.sgl;
    const label = rowLabel(row);
    setText(part.label, label);
    setAttr(part.label, "title", label);
    setAttr(part.list, "aria-label", `tokens of ${label}`);
    element.style.setProperty("--depth", depth);
    const open = opened.has(row.state);
    const own = open ? 0 : Math.min(row.shared, row.shown);
    setAttr(part.fold, "hidden", row.shared === 0 || row.shown === 0);
    setAttr(part.fold, "aria-expanded", String(open));
    part.fold.classList.toggle("is-cached", !open && row.cached > 0);
    setText(part.fold, open ? "fold" : `⋯ ${countOf(row.shared, "token")} shared`);
    let start = own;
    if (row.shown - own > MAX_SPANS) {
      start = row.shown - MAX_SPANS;
      start -= start % STEP_SPANS;
      start = Math.max(start, own);
    }
    setText(part.early, start > own ? `⋯ ${countOf(start - own, "earlier token")} ` : "");
    if (start !== part.start) {
      part.spans.forEach((span) => span.remove());
      part.spans = [];
      part.start = start;
    }
    paintRow(part, row, start);
    const going = running && !row.ended && row.status === "" && row.rid !== "";
    part.tail.className = `tail${going ? " going" : ""}`;
    setText(part.tail, going ? "▍" : TAILS[row.status] ?? "");
    setText(part.error, row.error && row.error !== runError ? `✕ ${visible(row.error)}` : "");
    keyed(part.picks, part.pickMap, row.picks.map((value, i) => ({ value, i })), ({ i }) => i,
      createPick, () => {});
  }

  /** Bring the spans up to date. Records are appended or replaced, so if the array is the same
   * one and nothing else changed, only its new end needs work. */
  function paintRow(part, row, start) {
    const n = Math.max(0, row.shown - start);
    const { last } = part;
    const grown = last && last.tokens === row.tokens && last.start === start
      && last.cached === row.cached && last.spaces === spaces && n >= part.spans.length;
    while (part.spans.length > n) part.spans.pop().remove();
    const added = document.createDocumentFragment();
    for (let j = grown ? part.spans.length : 0; j < n; j++) {
      let span = part.spans[j];
      if (!span) {
        span = make("span", { tabindex: "-1", role: "option" });
        part.spans.push(span);
        added.append(span);
      }
      paint(span, row, start + j, j === 0 && (start === 0 || start !== row.shared));
    }
    if (added.childNodes.length) part.list.append(added);
    setAttr(part.list, "hidden", n === 0); // a list box must hold something
    part.last = { tokens: row.tokens, start, cached: row.cached, spaces };
  }

  function paint(span, row, pos, first) {
    const token = row.tokens[pos];
    const cached = pos < row.cached;
    const edge = cached && first ? 1 : 0;
    const last = cached && pos === row.cached - 1 ? 2 : 0;
    const look = edge + last;
    span.sglRow = row.state;
    span.sglPos = pos;
    if (span.sglToken === token && span.sglCached === cached && span.sglLook === look
      && span.sglSpaces === spaces) return;
    span.sglToken = token;
    span.sglCached = cached;
    span.sglLook = look;
    span.sglSpaces = spaces;
    const special = SPECIAL.test(token.piece);
    span.className = `tok ${token.kind}${cached ? " cached" : ""}${special ? " special" : ""}`
      + `${edge ? " from" : ""}${last ? " until" : ""}`;
    if (token.kind === "sampled") {
      const p = token.logprob === null ? 0.5 : Math.exp(Math.min(0, token.logprob));
      span.style.setProperty("--p", p.toFixed(3));
    } else span.style.removeProperty("--p");
    setText(span, shownText(token.piece, spaces));
    setAttr(span, "aria-label", tokenLabel(token, cached));
  }

  return {
    root,
    help: TOKENS_HELP,
    draw(view, running) {
      const atEnd = root.scrollHeight - root.scrollTop - root.clientHeight < 12;
      const runError = view.header.error;
      const items = orderedRows(view.tokens).filter(({ row }) =>
        row.shown > 0 || (row.error && row.error !== runError) || row.picks.length || row.rid);
      root.classList.toggle("many", items.length > 1);
      keyed(root, rows, items, ({ row }) => row.state, createRow,
        (element, item) => updateRow(element, item, running, runError));
      if (!stop.current?.isConnected) rove(stop, root.querySelector(".tok"));
      if (running && atEnd) root.scrollTop = root.scrollHeight;
      return items.length;
    },
    showSpaces(on) {
      spaces = on;
    },
    /** Light the tokens for which `test(row, pos, token)` holds; null lights none. */
    light(test) {
      if (test === null && !root.classList.contains("lighting")) return;
      root.classList.toggle("lighting", test !== null);
      for (const element of rows.values()) {
        for (const span of element.sgl.spans) {
          span.classList.toggle("lit", test !== null && test(span.sglRow, span.sglPos, span.sglToken));
        }
      }
    },
  };
}

const TAILS = { length: " ⋯ length limit", abort: " ◼ stopped" };

function shownText(piece, spaces) {
  if (piece === "") return "∅";
  let text = piece.length > LONGEST ? `${Array.from(piece.slice(0, LONGEST)).join("")}…` : piece;
  text = visible(text);
  if (!spaces) return text;
  return text.replaceAll(" ", "·").replaceAll("\n", "⏎\n").replaceAll("\t", "⇥\t");
}

export const KIND_WORDS = {
  prompt: "prompt",
  sampled: "sampled",
  forced: "forced by the constraint",
  closing: "written to end in time: max_tokens ran out",
  retokenized: "other tokens for text that was there",
  select: "chosen by select",
};

function tokenLabel(token, cached) {
  const words = [oneLine(token.piece.slice(0, 60)) || "empty", KIND_WORDS[token.kind]];
  const p = percentText(token.logprob);
  if (p) words.push(p);
  if (cached) words.push("cached");
  return words.join(", ");
}

function createPick({ value: { name, text, choices } }) {
  const best = Math.max(...choices.map(([, score]) => score));
  const head = make("div", { class: "small", text: `select ${oneLine(name)} · mean logprob of each choice` });
  return make("div", { class: "pick-group" }, head, ...choices.map(([choice, score]) => {
    const won = choice === text;
    return make("div", { class: `pick${won ? " won" : ""}` },
      make("span", { class: "pick-text", text: oneLine(choice) }),
      barBox(Math.exp(Math.min(0, score - best))),
      make("span", { class: "number", text: score.toFixed(2) }),
      make("span", { class: "why", text: won ? "✓ chosen" : "" }));
  }));
}

/** A horizontal bar for a share between 0 and 1. */
function barBox(share) {
  const bar = make("span", { class: "share" });
  bar.style.setProperty("--w", share.toFixed(4));
  return bar;
}

/** The card for one token: what it is, how sure the model was, what else it could have been. */
export function tokenCard({ token, pos, cached }, row) {
  const rows = [];
  const head = make("div", { class: "card-head" },
    make("code", { text: shownText(token.piece, true).trimEnd() || "∅" }),
    make("span", { class: "small", text: `id ${token.id} · position ${groupDigits(pos)}` }));
  rows.push(head);
  const what = [KIND_WORDS[token.kind]];
  if (token.name) what.push(`for ${oneLine(token.name)}`);
  rows.push(make("div", { class: `what ${token.kind}`, text: what.join(" ") }));
  if (cached) rows.push(make("div", { class: "what is-cached", text: "its KV came from the cache" }));
  if (typeof token.logprob === "number") {
    rows.push(make("div", { class: "card-line" },
      make("b", { text: percentText(token.logprob) }),
      make("span", { class: "small", text: `logprob ${token.logprob.toFixed(3)}` })));
  } else if (token.kind === "forced") {
    rows.push(make("div", { class: "small", text: "the only way to go on: the model was not asked" }));
  }
  if (typeof token.allowed === "number" && token.kind !== "forced") {
    let line = `${countOf(token.allowed, "token")} allowed here`;
    if (typeof token.mass === "number") line += ` · mask kept ${Math.round(100 * token.mass)} % of the probability`;
    rows.push(make("div", { class: "small", text: line }));
  }
  if (token.top?.length) rows.push(alternatives(token));
  if (token.kind === "select") {
    const pick = row?.picks[token.pick];
    if (pick) rows.push(createPick({ value: pick }));
  }
  return rows;
}

function alternatives(token) {
  return make("div", { class: "alts" }, ...token.top.map(([piece, id, logprob, allowed]) => {
    const taken = id === token.id;
    let why = taken ? "✓" : "";
    if (!taken && !allowed) why = token.fsm === null ? "not allowed" : `not allowed in state ${token.fsm}`;
    return make("div", { class: `alt${allowed ? "" : " masked"}${taken ? " taken" : ""}` },
      make("span", { class: "alt-text", text: shownText(piece, true).trimEnd() }),
      barBox(Math.exp(Math.min(0, logprob ?? -99))),
      make("span", { class: "number", text: percentText(logprob) }),
      make("span", { class: "why", text: why }));
  }));
}
