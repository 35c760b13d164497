// The run view: header, panes, replay, and one selection shared by all of them.
//
// The kernel sends events as custom messages and, about each second, a bounded copy of the log
// in the trait `saved`. Everything shown is a fold over the events; the slider folds a prefix.

import { countOf, groupDigits, poolWords } from "./layout.js";
import { keepKeys, make, makeHelp, setAttr, setText } from "./dom.js";
import { makeAsker } from "./ask.js";
import { makeCard } from "./card.js";
import { isBusy } from "./columns.js";
import { makeBranchesPane } from "./branches.js";
import { makeConstraintPane } from "./constraint.js";
import { makeHeader } from "./header.js";
import { makeProgramPane } from "./program.js";
import { hasShape } from "./programrows.js";
import { makeReplay } from "./replay.js";
import { makeSchedulePane } from "./schedule.js";
import { makeStore } from "./store.js";
import { makeTokensPane } from "./tokens.js";
import { makeTreePane } from "./tree.js";
import { fillsWhere, lightsOf } from "./selection.js";

const CONDENSED = ["", "saved copy without alternatives", "saved copy is condensed", "saved copy is cut short"];
const TREE_SHARE = 6;
const SLICE = 25; // milliseconds of a frame that go to reading and folding the log

/** The panes in order. A pane has `root`, `draw(view, …)`, `light(…)` and `help` (what one
 * is looking at, in a few sentences), and may have `legend` (`[class, word]` pairs). */
const PANES = {
  tokens: makeTokensPane,
  tree: makeTreePane,
  program: makeProgramPane,
  constraint: makeConstraintPane,
  branches: makeBranchesPane,
  schedule: makeSchedulePane,
};

export function render({ model, el }) {
  const store = makeStore();
  const root = make("div", { class: "sglnb", role: "region", "aria-label": "sglnb run" });
  const card = makeCard(root);
  let selection = null;
  let hovered = null;
  let kept = null; // what has the focus: shown again when the mouse leaves what it showed
  let filter = null;
  let dirty = false;
  let drawn = store.view; // while the slider's place is folded anew, the one that is seen
  const begun = new Set(); // panes that were drawn before
  let onScreen = true;
  let arrived = performance.now();

  const asker = makeAsker(model, () => hooks.redraw(true));
  const hooks = {
    asker,
    /** Draw again; `tree`: the tree too, though no event changed it. */
    redraw(tree = false) {
      if (tree) store.treeVersion += 1;
      schedule();
    },
    select(next, anchor) {
      if (next && anchor === document.activeElement) kept = { next, anchor };
      if (!next && kept?.anchor === document.activeElement) ({ next, anchor } = kept);
      selection = next;
      hovered = next ? anchor : null;
      drawSelection();
    },
  };

  // -- parts --
  const header = makeHeader(model, {
    filter(kind) {
      filter = kind;
      drawSelection();
    },
    spaces(on) {
      panes.tokens.showSpaces(on);
      schedule();
    },
    stop() {
      const kernel = model.widget_manager?.kernel;
      if (model.get("foreground") && typeof kernel?.interrupt === "function") kernel.interrupt();
      else model.send({ kind: "cancel" });
    },
  });
  const note = make("div", { class: "small note" });
  const panes = {};
  const sections = {};
  const grid = make("div", { class: "panes" });
  for (const key in PANES) {
    panes[key] = PANES[key](hooks);
    sections[key] = makeSection(key, panes[key], schedule);
    grid.append(sections[key].section);
  }
  const replay = makeReplay(store, schedule);
  root.append(header.root, header.error, grid, replay.root, note, card.element);
  el.append(root);

  // -- drawing --
  function schedule() {
    if (dirty) return;
    dirty = true;
    requestAnimationFrame(() => {
      dirty = false;
      if (onScreen) draw();
    });
  }

  function draw() {
    if (!store.settle(SLICE)) {
      schedule(); // the picture stays as it was till then
      setText(note, store.reading ? "reading the log …" : "");
      return;
    }
    const { view } = store;
    drawn = view;
    const atEnd = store.cursor === store.events.length;
    const live = atEnd && store.following;
    const head = atEnd && store.header ? { ...view.header, ...store.header } : view.header;
    const running = atEnd && (head.status === "running" || head.status === "waiting");
    const ticking = running && store.following && head.status === "running" && isLive();
    root.dataset.status = head.status;
    header.draw(head, view, {
      since: ticking ? (performance.now() - arrived) / 1000 : 0, stoppable: running && isLive(),
    });
    drawNotes();
    showPane("tokens", true);
    panes.tokens.draw(view, running);
    drawTree(view, live && running);
    const turn = turns();
    const bars = turn("branches") ? panes.branches.draw(view) : 0;
    const { nodes, tokens } = panes.tree.totals;
    setText(sections.tree.info, `${countOf(nodes, "node")} · ${countOf(tokens, "token")}`
      + poolWords(view.tree)
      + (view.tree.evicted_nodes ? ` · ${groupDigits(view.tree.evicted_nodes)} evicted` : ""));
    setText(sections.branches.info, panes.branches.words);
    showPane("tree", tree.items > 0);
    showPane("branches", bars > 1);
    // These two are painted with the selection, which may choose what they show.
    showPane("constraint", view.constraint.order.length > 0);
    showPane("schedule", view.schedule.steps.length > 0 && (isAsked("schedule") || isBusy(view.schedule)));
    showPane("program", view.program.nodes.length > 0 && (isAsked("program") || hasShape(view.program)));
    if (sections.program.isOpen() && turn("program")) panes.program.draw(view);
    setText(sections.program.info, panes.program.words);
    if (sections.constraint.isOpen() && turn("constraint")) panes.constraint.draw(view, live && running);
    if (sections.schedule.isOpen() && turn("schedule")) panes.schedule.draw(view);
    setText(sections.schedule.info, panes.schedule.words);
    replay.draw();
    drawSelection();
  }

  /** Whether a pane may draw in this frame. The first drawing is the longest, so those of several
   * panes go to frames of their own. */
  function turns() {
    const deadline = performance.now() + SLICE / 2;
    let first = true;
    return (key) => {
      if (begun.has(key)) return true;
      if (!first && performance.now() > deadline) {
        schedule();
        return false;
      }
      first = false;
      begun.add(key);
      return true;
    };
  }

  /** Draw the tree if it changed; a large one takes no more than its share of the time. */
  const tree = { version: -1, cost: 0, at: 0, items: 0, later: null };
  function drawTree(view, live) {
    const ghosts = live && view.tree.ghosts.length > 0;
    if (tree.version === store.treeVersion && tree.live === live && !ghosts) return;
    const begin = performance.now();
    const wait = tree.at + TREE_SHARE * tree.cost - begin;
    if (live && wait > 0) {
      tree.later ??= setTimeout(() => { tree.later = null; schedule(); }, wait);
      return;
    }
    const keep = Object.keys(view.header.counts)
      .map((rid) => view.tree.tips[rid]).filter((tip) => tip !== undefined);
    tree.items = panes.tree.draw(view, { live, keep });
    tree.version = store.treeVersion;
    tree.live = live;
    tree.at = performance.now();
    tree.cost = tree.at - begin;
  }

  /** Whether the pane was named, not only left to what there is to see. */
  function isAsked(key) {
    return (model.get("panes") || "auto").split(",").some((each) => each.trim() === key);
  }

  function showPane(key, something) {
    const wanted = (model.get("panes") || "auto") === "auto" || isAsked(key);
    // A pane that was there stays while the slider moves: nothing jumps.
    sections[key].shown = wanted && (something || sections[key].shown);
    setAttr(sections[key].section, "hidden", !sections[key].shown);
    grid.classList.toggle(`has-${key}`, sections[key].shown);
  }

  function drawNotes() {
    const notes = [];
    if (store.omitted) notes.push(`${countOf(store.omitted, "event")} not shown: the view keeps a limited number`);
    if (store.level && CONDENSED[store.level]) notes.push(CONDENSED[store.level]);
    setText(note, notes.join(" · "));
  }

  /** Whether a kernel may still send: not in a page of its own. */
  const isLive = () => typeof model.widget_manager === "object" && model.widget_manager !== null;

  // -- the linked selection --
  function drawSelection() {
    const view = drawn;
    let lights = selection && lightsOf(view, selection);
    if (!lights) {
      selection = null;
      hovered = null;
      lights = { path: [], rows: new Set(), rids: new Set(), test: null };
    }
    panes.tree.light(lights.path, lights.tip);
    panes.branches.light(lights.rows, lights.rids);
    panes.tokens.light(lights.test ?? filterTest(view));
    if (sections.constraint.isOpen()) panes.constraint.light(lights);
    if (sections.schedule.isOpen()) panes.schedule.light(lights);
    if (sections.program.isOpen()) panes.program.light(lights.program ?? fillsWhere(view, (fill) => lights.rids.has(fill.rid)));
    setText(sections.constraint.info, panes.constraint.words);
    if (lights.card) card.show(lights.card, hovered);
    else card.hide();
  }

  function filterTest(view) {
    if (!filter) return null;
    return (row, pos, token) => filter === "cached"
      ? pos < view.tokens.rows[row].cached : token.kind === filter;
  }

  keepKeys(root);
  root.addEventListener("keydown", (event) => { if (event.key === "Escape") kept = null; }, { capture: true });

  // -- life --
  const onMessage = (message) => {
    asker.receive(message);
    if (message?.kind !== "events") return;
    store.receive(message);
    arrived = performance.now();
    schedule();
  };
  const onSaved = () => {
    if (store.restore(model.get("saved"))) schedule();
  };
  model.on("msg:custom", onMessage);
  model.on("change:saved", onSaved);
  store.restore(model.get("saved"));
  const watcher = new IntersectionObserver((entries) => {
    onScreen = entries.at(-1).isIntersecting;
    if (onScreen) schedule();
  });
  watcher.observe(root);
  const clock = setInterval(() => {
    if (onScreen && store.following && root.dataset.status === "running" && isLive()) schedule();
  }, 250);
  draw();
  return () => {
    model.off("msg:custom", onMessage);
    model.off("change:saved", onSaved);
    watcher.disconnect();
    card.close();
    asker.close();
    clearInterval(clock);
    clearTimeout(tree.later);
    replay.pause();
  };
}

/** A pane with its head: a title that folds it, its legend, a few words, and its help. */
function makeSection(key, pane, redraw) {
  const title = make("button", { type: "button", class: "pane-title", "aria-expanded": "true" },
    make("span", { class: "chevron", "aria-hidden": "true", text: "▾" }), make("span", { text: key }));
  const info = make("span", { class: "small pane-info" });
  const head = make("div", { class: "pane-head" }, title);
  const body = make("div", { class: "pane-body" });
  const [ask, text] = makeHelp(key, pane.help);
  head.append(ask);
  body.append(text);
  if (pane.legend) head.append(legendOf(pane.legend));
  head.append(info);
  body.append(pane.root);
  const section = make("section", { class: `pane pane-${key}`, "aria-label": key }, head, body);
  const unfolded = () => title.getAttribute("aria-expanded") === "true";
  title.addEventListener("click", () => {
    setAttr(title, "aria-expanded", String(!unfolded()));
    setAttr(body, "hidden", !unfolded());
    section.classList.toggle("closed", !unfolded());
    redraw();
  });
  const part = { section, info, shown: false, isOpen: () => part.shown && unfolded() };
  return part;
}

function legendOf(items) {
  return make("span", { class: "legend small" }, ...items.map(([className, text]) =>
    make("span", {}, make("i", { class: `part ${className}`, "aria-hidden": "true" }), text)));
}

export default { render };
