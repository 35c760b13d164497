// The tokens pane: every state's text, one span a token. Of long texts only what is near the window
// is in the page: see tokenpages.js.

import { make, setAttr, setText, keyed, rove } from "./dom.js";
import { countOf, orderedRows, rowLabel, visible } from "./layout.js";
import { createPick } from "./tokencard.js";
import { MODES } from "./tokenlooks.js";
import { TokenPages } from "./tokenpages.js";
import { makeTokenTools } from "./tokentools.js";

const TOKENS_HELP = "This is the text as the model sees it: token by token, with one block for each state of the "
  + "program. A blue tint marks what the model chose (the darker, the surer it was), a dotted line what a "
  + "constraint left no choice about, and a green bar what was in the cache and cost no computing. Point at a "
  + "token, or walk there with the arrow keys, for its probability and what else it could have been.";
export const WHOLE = 2000; // so many tokens are drawn in any case
const NEAR = 500; // pixels beyond the window that are filled,
const FAR = 1000; // and that may stay so
const RULED = 40; // characters that are measured
const TAILS = { length: " ⋯ length limit", abort: " ◼ stopped" };

/** `hooks.select(selection | null)` is told what is pointed at or focused. */
export function makeTokensPane(hooks) {
  const root = make("div", { class: "tokens", role: "group", "aria-label": "tokens" });
  const rows = new Map();
  const stop = { current: null };
  const opened = new Set();
  const shows = { spaces: false, ghosts: false, mode: "type" };
  let parts = []; // of the rows in order
  let total = 0;
  let repaint = false;
  let test = null; // which tokens are lit; null: all are
  const tools = makeTokenTools({
    mode(mode) {
      shows.mode = mode;
      root.classList.toggle("measuring", MODES[mode].of !== undefined);
      again();
    },
    ghosts(on) {
      shows.ghosts = on;
      again();
    },
    find() {
      again();
    },
    go(row, pos) {
      const span = reveal(parts.find((part) => part.text.key === row), pos);
      if (!span) return;
      span.scrollIntoView({ block: "nearest" });
      rove(stop, span);
      hooks.select(selectionOf(span), span);
    },
  });
  const again = () => {
    repaint = true;
    hooks.redraw();
  };

  // -- pointing and keys --
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
    if (!span) return;
    rove(stop, span);
    span.sglPages.place(span);
  });
  root.addEventListener("focusout", () => hooks.select(null));
  root.addEventListener("keydown", (event) => {
    const span = spanOf(event);
    const next = span && neighbour(span, event.key);
    if (next) {
      event.preventDefault();
      next.focus();
    } else if (event.key === "Escape") hooks.select(null);
  });
  root.addEventListener("click", (event) => {
    const fold = event.target.closest?.("button[data-row]");
    if (!fold) return;
    const key = fold.dataset.row;
    if (!opened.delete(key)) opened.add(key);
    hooks.redraw();
  });
  root.addEventListener("scroll", () => fillNear(), { passive: true });

  const focused = () => {
    const span = root.contains(document.activeElement) ? document.activeElement : null;
    return span?.classList.contains("tok") ? selectionOf(span) : null;
  };

  function selectionOf(span) {
    return { kind: "token", row: span.sglPages.key, pos: span.sglPos, token: span.sglToken,
      cached: span.sglCached };
  }

  /** The element of a token, wherever it is. */
  function reveal(part, pos) {
    const page = part?.text.pageAt(pos);
    if (!page) return null;
    fill(page);
    return page.spans[pos - page.from];
  }

  function neighbour(span, key) {
    const texts = parts.filter(({ text }) => text.pages.length);
    const at = texts.findIndex(({ text }) => text === span.sglPages);
    const { start, end } = span.sglPages;
    const first = (part) => part && reveal(part, part.text.start);
    const last = (part) => part && reveal(part, part.text.end - 1);
    switch (key) {
      case "ArrowRight": return span.sglPos + 1 < end ? reveal(texts[at], span.sglPos + 1) : first(texts[at + 1]);
      case "ArrowLeft": return span.sglPos > start ? reveal(texts[at], span.sglPos - 1) : last(texts[at - 1]);
      case "Home": return first(texts[0]);
      case "End": return last(texts.at(-1));
      case "ArrowDown": return onNextLine(span, 1);
      case "ArrowUp": return onNextLine(span, -1);
      case "PageDown": return onNextScreen(span, 1);
      case "PageUp": return onNextScreen(span, -1);
      default: return null;
    }
  }

  /** The nearest token on the next line up or down. */
  function onNextLine(span, way) {
    const pages = parts.flatMap(({ text }) => text.pages);
    const at = pages.indexOf(span.sglPages.pageAt(span.sglPos));
    const around = pages.slice(Math.max(0, at - 1), at + 2);
    around.forEach(fill);
    const all = around.flatMap((page) => page.spans);
    const here = span.getBoundingClientRect();
    let best = null;
    let line = null;
    for (let i = all.indexOf(span); i >= 0 && i < all.length; i += way) {
      const box = all[i].getClientRects()[0];
      if (!box || (way > 0 ? box.top < here.top + 4 : box.top > here.top - 4)) continue;
      if (line !== null && Math.abs(box.top - line) > 4) break;
      line = box.top;
      const away = Math.abs(box.left - here.left);
      if (!best || away < best.away) best = { away, span: all[i] };
    }
    return best?.span;
  }

  /** The token in the same place of the window, a window further. */
  function onNextScreen(span, way) {
    const here = span.getBoundingClientRect();
    const before = root.scrollTop;
    root.scrollTop += way * Math.max(25, root.clientHeight - 50);
    fillNear();
    if (root.scrollTop === before) return neighbour(span, way > 0 ? "End" : "Home");
    let best = null;
    for (const each of root.querySelectorAll(".tok")) {
      const box = each.getBoundingClientRect();
      const away = Math.abs(box.top - here.top) * 1000 + Math.abs(box.left - here.left);
      if (!best || away < best.away) best = { away, span: each };
    }
    return best?.span;
  }

  // -- what is near --
  function fill(page) {
    for (const span of page.owner.fill(page)) light(span);
  }

  /** Fill the pages near the window and empty those far away. */
  function fillNear() {
    const pages = parts.flatMap(({ text }) => text.pages);
    if (total <= WHOLE) {
      pages.forEach(fill);
      return;
    }
    if (!root.clientHeight) return; // folded: there is no window
    const frame = root.getBoundingClientRect();
    for (let missing = null; missing?.length !== 0; missing.forEach(fill)) {
      // Once more after each round: pages may take other heights than was thought.
      missing = [];
      for (let i = firstBelow(pages, frame.top - NEAR); i < pages.length; i++) {
        if (pages[i].element.getBoundingClientRect().top > frame.bottom + NEAR) break;
        if (!pages[i].spans) missing.push(pages[i]);
      }
    }
    const active = stop.current?.isConnected ? stop.current : null;
    const stays = active?.sglPages.pageAt(active.sglPos);
    pages.filter((page) => page.spans && page !== stays)
      .map((page) => ({ page, box: page.element.getBoundingClientRect() }))
      .filter(({ box }) => box.bottom < frame.top - FAR || box.top > frame.bottom + FAR)
      .forEach(({ page, box }) => page.owner.empty(page, box.height));
    if (!active) rove(stop, root.querySelector(".tok"));
  }

  /** The first page that ends below `y`: pages follow each other. */
  function firstBelow(pages, y) {
    let low = 0;
    let high = pages.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pages[middle].element.getBoundingClientRect().bottom < y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  let width = 0;
  const ruler = make("span", { class: "flow ruler", "aria-hidden": "true", text: "0".repeat(RULED) });
  root.append(ruler);
  new ResizeObserver(() => {
    if (root.clientWidth !== width) {
      width = root.clientWidth;
      const character = ruler.getBoundingClientRect().width / RULED;
      const columns = parts.map(({ text }) => Math.floor(text.flow.clientWidth / character) || 80);
      parts.forEach(({ text }, i) => text.reflow(columns[i]));
    }
    fillNear();
  }).observe(root);
  // -- drawing --
  function createRow({ row }) {
    const flow = make("div", { class: "flow" });
    const part = {
      label: make("div", { class: "row-label" }),
      fold: make("button", { class: "fold", type: "button", "data-row": row.state }),
      tail: make("span", { class: "tail" }),
      picks: make("div", { class: "picks" }),
      error: make("div", { class: "error" }),
      pickMap: new Map(),
    };
    part.text = new TokenPages(flow, part.fold, part.tail);
    const body = make("div", { class: "row-body" }, flow, part.picks, part.error);
    const element = make("div", { class: "row" }, part.label, body);
    element.sgl = part;
    return element;
  }

  /** The first position shown: what a fork shares with its parent is folded. */
  const startOf = (row) => (opened.has(row.state) ? 0 : Math.min(row.shared, row.shown));

  function updateRow(element, { row, depth }, running, runError) {
    const part = element.sgl;
    total += row.shown - startOf(row);
    const hits = tools.hits.get(row.state);
    const state = [row.shown, row.shared, row.cached, row.status, row.ended, row.rid, row.error, row.picks.length,
      row.label, row.name, depth, running, opened.has(row.state), runError].join();
    const newest = row.tokens[row.shown - 1];
    if (!repaint && state === part.state && newest === part.newest && hits === part.hits) return;
    Object.assign(part, { state, newest, hits });
    part.rare = tools.rareKinds(row);
    const label = rowLabel(row);
    setText(part.label, label);
    setAttr(part.label, "title", label);
    part.text.name(`tokens of ${label}`);
    element.style.setProperty("--depth", depth);
    const open = opened.has(row.state);
    const start = startOf(row);
    setAttr(part.fold, "hidden", row.shared === 0 || row.shown === 0);
    setAttr(part.fold, "aria-expanded", String(open));
    part.fold.classList.toggle("is-cached", !open && row.cached > 0);
    setText(part.fold, open ? "fold" : `⋯ ${countOf(row.shared, "token")} shared`);
    part.text.update(row, start, (pos) => ({
      ...shows, found: hits?.has(pos) ?? false, cached: pos < row.cached,
      from: pos < row.cached && pos === start && (start === 0 || start !== row.shared),
      until: pos === row.cached - 1,
    }), repaint || part.cached !== row.cached);
    part.cached = row.cached;
    const going = running && !row.ended && row.status === "" && row.rid !== "";
    part.tail.className = `tail${going ? " going" : ""}`;
    setText(part.tail, going ? "▍" : TAILS[row.status] ?? "");
    setText(part.error, row.error && row.error !== runError ? `✕ ${visible(row.error)}` : "");
    keyed(part.picks, part.pickMap, row.picks.map((value, i) => ({ value, i })), ({ i }) => i,
      createPick, () => {});
  }

  function light(span) {
    span.classList.toggle("lit", test !== null && test(span.sglPages.key, span.sglPos, span.sglToken));
  }

  const filled = () => parts.flatMap(({ text }) => text.pages.flatMap((page) => page.spans ?? []));

  return {
    root: make("div", {}, tools.root, root),
    help: TOKENS_HELP,
    draw(view, running) {
      const atEnd = root.scrollHeight - root.scrollTop - root.clientHeight < 12;
      const runError = view.header.error;
      const items = orderedRows(view.tokens).filter(({ row }) =>
        row.shown > 0 || (row.error && row.error !== runError) || row.picks.length || row.rid);
      root.classList.toggle("many", items.length > 1);
      tools.read(items.map(({ row }) => ({ row, start: startOf(row) })));
      total = 0;
      keyed(root, rows, items, ({ row }) => row.state, createRow,
        (element, item) => updateRow(element, item, running, runError));
      repaint = false;
      parts = items.map(({ row }) => rows.get(row.state).sgl);
      tools.draw(new Set(parts.flatMap((part) => part.rare)), total > WHOLE);
      if (running && atEnd) root.scrollTop = root.scrollHeight;
      fillNear();
      if (running && atEnd) root.scrollTop = root.scrollHeight;
      if (!stop.current?.isConnected) rove(stop, root.querySelector(".tok"));
      return items.length;
    },
    showSpaces(on) {
      shows.spaces = on;
      repaint = true;
    },
    /** Light the tokens for which `wanted(row, pos, token)` holds; null lights none. */
    light(wanted) {
      if (wanted === null && test === null) return;
      test = wanted;
      root.classList.toggle("lighting", test !== null);
      filled().forEach(light);
    },
  };
}
