// The run view: header, panes, replay, and one selection shared by all of them.
//
// The kernel sends events as custom messages and, about each second, a bounded copy of the log
// in the trait `saved`. Everything shown is a fold over the events; the slider folds a prefix.

import { initial, reduce, nodeTokens } from "./reduce.js";
import { makeDecoder } from "./wire.js";
import { countOf, groupDigits, oneLine, pathTo, poolWords, secondsText, visible } from "./layout.js";
import { make, setAttr, setText } from "./dom.js";
import { makeAsker } from "./ask.js";
import { makeCard } from "./card.js";
import { makeTokensPane, tokenCard } from "./tokens.js";
import { makeTreePane, nodeCard } from "./tree.js";
import { makeBranchesPane } from "./branches.js";

const REPLAY_SECONDS = 8;
const CONDENSED = ["", "saved copy without alternatives", "saved copy is condensed", "saved copy is cut short"];
const TREE_KINDS = new Set(["cache_snapshot", "node_inserted", "node_split", "node_hit", "node_locked", "node_evicted"]);
const TREE_SHARE = 6;

/** The events received so far and where among them the view stands. */
function makeStore() {
  let decode = makeDecoder();
  const store = {
    events: [], lastSeq: -2, behind: false, header: null, level: 0, omitted: 0,
    cursor: 0, following: true, view: initial(), folded: 0, treeVersion: 0,

    /** A message: its events come right after number `after`, or some were missed. */
    receive({ after, json, header, omitted }) {
      if (after > store.lastSeq) {
        store.behind = true;
        return;
      }
      for (const wire of JSON.parse(json)) {
        if (wire.s <= store.lastSeq) continue;
        store.events.push(decode(wire));
        store.lastSeq = wire.s;
      }
      store.header = header ?? null;
      store.omitted = omitted ?? 0;
    },

    /** The saved copy: taken when it is all there is, or when messages were missed. */
    restore(text) {
      if (!text || (store.events.length && !store.behind)) return;
      const saved = JSON.parse(text);
      decode = makeDecoder();
      store.events = saved.events.map(decode);
      // Merged events carry their first number: only the copy's end says where it stands.
      store.lastSeq = saved.last;
      store.behind = false;
      store.level = saved.level;
      store.omitted = saved.omitted;
      store.header = saved.level > 1 ? saved.header : null;
      store.view = initial();
      store.folded = 0;
    },

    /** Fold up to the cursor, onward from where the fold stands if possible. */
    settle() {
      if (store.following) store.cursor = store.events.length;
      store.cursor = Math.min(store.cursor, store.events.length);
      if (store.folded > store.cursor) {
        store.view = initial();
        store.folded = 0;
        store.treeVersion += 1;
      }
      while (store.folded < store.cursor) {
        const event = store.events[store.folded++];
        reduce(store.view, event);
        if (TREE_KINDS.has(event.kind)) store.treeVersion += 1;
      }
      return store.view;
    },
  };
  return store;
}

function button(text, label, className = "") {
  return make("button", { type: "button", text, "aria-label": label, title: label, class: className });
}

export function render({ model, el }) {
  const store = makeStore();
  const root = make("div", { class: "sglnb", role: "region", "aria-label": "sglnb run", "data-lm-suppress-shortcuts": "true" });
  const card = makeCard(root);
  let selection = null;
  let hovered = null;
  let dirty = false;
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
      selection = next;
      hovered = next ? anchor : null;
      drawSelection();
    },
  };

  // -- parts --
  const name = make("b", { class: "name" });
  const status = make("span", { class: "status" });
  const statusWord = make("span", { role: "status" });
  status.append(make("span", { class: "light", "aria-hidden": "true" }), statusWord);
  const words = ["sampled", "cached", "forced", "select"].map((kind) => {
    const word = button("", `show only ${kind} tokens`, `word ${kind}`);
    word.dataset.kind = kind;
    setAttr(word, "aria-pressed", "false");
    return word;
  });
  const time = make("span", { class: "number" });
  const speed = make("span", { class: "number" });
  const spacesButton = button("¶", "show spaces and newlines", "quiet");
  setAttr(spacesButton, "aria-pressed", "false");
  const stop = button("Stop", "stop this run and keep its text", "stop");
  const header = make("div", { class: "head" }, name, status, ...words, time, speed,
    make("span", { class: "grow" }), spacesButton, stop);
  const error = make("div", { class: "error" });
  const note = make("div", { class: "small note" });

  const panes = {
    tokens: makeTokensPane(hooks),
    tree: makeTreePane(hooks),
    branches: makeBranchesPane(hooks),
  };
  const sections = {};
  const grid = make("div", { class: "panes" });
  for (const key in panes) {
    const title = make("button", { type: "button", class: "pane-title", "aria-expanded": "true" },
      make("span", { class: "chevron", "aria-hidden": "true", text: "▾" }), make("span", { text: key }));
    const info = make("span", { class: "small pane-info" });
    const body = make("div", { class: "pane-body" }, panes[key].root);
    const section = make("section", { class: `pane pane-${key}`, "aria-label": key },
      make("div", { class: "pane-head" }, title, info), body);
    title.addEventListener("click", () => {
      const open = title.getAttribute("aria-expanded") !== "true";
      setAttr(title, "aria-expanded", String(open));
      setAttr(body, "hidden", !open);
      section.classList.toggle("closed", !open);
    });
    sections[key] = { section, info };
    grid.append(section);
  }
  sections.branches.info.before(legend());

  const back = button("‹", "one event back", "quiet");
  const play = button("▶\uFE0E", "replay", "quiet");
  const forward = button("›", "one event on", "quiet");
  const slider = make("input", { type: "range", min: 0, step: 1, "aria-label": "replay position" });
  const where = make("span", { class: "small number where" });
  const replay = make("div", { class: "replay" }, back, play, forward, slider, where);
  root.append(header, error, grid, replay, note, card.element);
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
    const view = store.settle();
    const atEnd = store.cursor === store.events.length;
    const live = atEnd && store.following;
    const summary = atEnd && store.header ? { ...view.header, ...store.header } : view.header;
    const running = atEnd && (summary.status === "running" || summary.status === "waiting");
    drawHeader(summary, running, view);
    panes.tokens.draw(view, running);
    drawTree(view, live && running);
    const bars = panes.branches.draw(view);
    const { nodes, tokens } = panes.tree.totals;
    setText(sections.tree.info, `${countOf(nodes, "node")} · ${countOf(tokens, "token")}`
      + poolWords(view.tree)
      + (view.tree.evicted_nodes ? ` · ${groupDigits(view.tree.evicted_nodes)} evicted` : ""));
    setText(sections.branches.info, panes.branches.words);
    showPane("tokens", true);
    showPane("tree", tree.items > 0);
    showPane("branches", bars > 1);
    drawReplay();
    drawSelection();
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

  function showPane(key, something) {
    const asked = model.get("panes") || "auto";
    const wanted = asked === "auto" || asked.split(",").some((each) => each.trim() === key);
    // A pane that was there stays while the slider moves: nothing jumps.
    const was = sections[key].shown === true;
    sections[key].shown = wanted && (something || was);
    setAttr(sections[key].section, "hidden", !sections[key].shown);
    grid.classList.toggle(`has-${key}`, sections[key].shown);
  }

  function drawHeader(head, running, view) {
    setText(name, oneLine(head.title || model.get("title") || head.run || "run"));
    root.dataset.status = head.status;
    setText(statusWord, head.status);
    const chosen = Object.values(view.tokens.rows).reduce((sum, row) => sum + row.picks.length, 0);
    const texts = {
      sampled: countOf(head.completion, "token"),
      cached: `${groupDigits(head.cached)} cached`,
      forced: `${groupDigits(head.forced)} forced`,
      select: `${groupDigits(chosen)} chosen`,
    };
    const tips = {
      sampled: `${countOf(head.completion, "token")} generated; tint: how probable the model found it`,
      cached: `${groupDigits(head.cached)} of ${countOf(head.prompt, "prompt token")} came from the cache`,
      forced: `${countOf(head.forced, "token")} written without asking the model: the constraint left one way`,
      select: "the likeliest of the given choices",
    };
    for (const word of words) {
      const { kind } = word.dataset;
      setText(word, texts[kind]);
      setAttr(word, "title", tips[kind]);
      setAttr(word, "hidden", (kind === "forced" && !head.forced) || (kind === "select" && !chosen)
        || (kind === "cached" && !head.prompt));
    }
    const begun = head.t0 ?? 0;
    const ticking = running && store.following && head.status === "running" && isLive();
    const since = ticking ? (performance.now() - arrived) / 1000 : 0;
    setText(time, secondsText(Math.max(0, head.t1 - begun + since)));
    const rate = head.busy > 0 ? head.completion / head.busy : 0;
    setText(speed, rate ? `${rate < 10 ? rate.toFixed(1) : groupDigits(rate)} tok/s` : "");
    setAttr(stop, "hidden", !(running && isLive()));
    setText(error, head.error ? `✕ ${visible(head.error)}` : "");
    const notes = [];
    if (store.omitted) notes.push(`${countOf(store.omitted, "event")} not shown: the view keeps a limited number`);
    if (store.level && CONDENSED[store.level]) notes.push(CONDENSED[store.level]);
    setText(note, notes.join(" · "));
  }

  /** Whether a kernel may still send: not in a page of its own. */
  const isLive = () => typeof model.widget_manager === "object" && model.widget_manager !== null;

  function drawReplay() {
    const n = store.events.length;
    setAttr(replay, "hidden", n < 2);
    setAttr(slider, "max", n);
    if (Number(slider.value) !== store.cursor) slider.value = String(store.cursor);
    slider.style.setProperty("--done", `${n ? (100 * store.cursor) / n : 0}%`);
    const t0 = store.view.header.t0 ?? 0;
    const at = store.cursor ? store.events[store.cursor - 1].t - t0 : 0;
    setText(where, `event ${groupDigits(store.cursor)} / ${groupDigits(n)} · ${secondsText(Math.max(0, at))}`);
    setAttr(slider, "aria-valuetext", where.textContent);
  }

  // -- the linked selection --
  function drawSelection() {
    const { view } = store;
    const { tokens, branches } = view;
    if (!selection) {
      panes.tree.light([], undefined);
      panes.branches.light(new Set(), new Set());
      panes.tokens.light(filterTest());
      card.hide();
      return;
    }
    let content = [];
    if (selection.kind === "token") {
      const row = tokens.rows[selection.row];
      const path = row ? pathTo(view.tree, rowTip(view, row)) : [];
      const rid = selection.token.rid ?? row?.rid;
      panes.tree.light(path, nodeAt(view.tree, path, selection.pos));
      panes.branches.light(new Set([selection.row]), new Set(rid ? [rid] : []));
      panes.tokens.light(filterTest());
      content = tokenCard(selection, row);
    } else if (selection.kind === "node") {
      if (!view.tree.nodes[selection.node]) return hooks.select(null);
      const path = pathTo(view.tree, selection.node);
      const from = path.slice(0, -1).reduce((sum, key) => sum + nodeTokens(view.tree.nodes[key]), 0);
      const to = from + nodeTokens(view.tree.nodes[selection.node]);
      const through = new Set(Object.keys(tokens.rows).filter((key) =>
        pathTo(view.tree, rowTip(view, tokens.rows[key])).includes(selection.node)));
      panes.tree.light(path, selection.node);
      panes.branches.light(through, new Set());
      panes.tokens.light((row, pos) => through.has(row) && pos >= from && pos < to);
      content = nodeCard(view, selection.node);
    } else {
      const bar = branches.bars[selection.rid];
      const path = pathTo(view.tree, view.tree.tips[selection.rid]);
      panes.tree.light(path, undefined);
      panes.branches.light(new Set([selection.row]), new Set([selection.rid]));
      panes.tokens.light((row, pos, token) => row === selection.row
        && (token.rid === selection.rid || (token.kind !== "sampled" && token.kind !== "forced" && pos < (bar?.prompt ?? 0))));
      content = selection.words.split(" · ").map((text, i) => make("div", { class: i ? "small" : "card-line", text }));
    }
    card.show(content, hovered);
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

  let filter = null;
  function filterTest() {
    if (!filter) return null;
    return (row, pos, token) => filter === "cached"
      ? pos < store.view.tokens.rows[row].cached : token.kind === filter;
  }

  header.addEventListener("click", (event) => {
    const word = event.target.closest(".word");
    if (!word) return;
    filter = filter === word.dataset.kind ? null : word.dataset.kind;
    for (const each of words) setAttr(each, "aria-pressed", String(each.dataset.kind === filter));
    drawSelection();
  });
  spacesButton.addEventListener("click", () => {
    const on = spacesButton.getAttribute("aria-pressed") !== "true";
    setAttr(spacesButton, "aria-pressed", String(on));
    panes.tokens.showSpaces(on);
    schedule();
  });

  // -- stop --
  stop.addEventListener("click", () => {
    setText(stop, "Stopping…");
    setAttr(stop, "disabled", true);
    const kernel = model.widget_manager?.kernel;
    if (model.get("foreground") && typeof kernel?.interrupt === "function") kernel.interrupt();
    else model.send({ kind: "cancel" });
  });

  // -- replay --
  let playing = null;
  function goTo(cursor) {
    store.cursor = Math.max(0, Math.min(store.events.length, cursor));
    store.following = store.cursor === store.events.length;
    schedule();
  }
  function pause() {
    if (playing === null) return;
    cancelAnimationFrame(playing);
    playing = null;
    setText(play, "▶\uFE0E");
    setAttr(play, "aria-label", "replay");
  }
  slider.addEventListener("input", () => {
    pause();
    goTo(Number(slider.value));
  });
  back.addEventListener("click", () => { pause(); goTo(store.cursor - 1); });
  forward.addEventListener("click", () => { pause(); goTo(store.cursor + 1); });
  play.addEventListener("click", () => {
    if (playing !== null) return pause();
    const { events } = store;
    if (store.cursor >= events.length) store.cursor = 0;
    const first = events.findIndex((event) => event.kind !== "cache_snapshot");
    const begin = Math.max(store.cursor, first < 0 ? 0 : first);
    const t0 = events[begin]?.t ?? 0;
    const span = (events.at(-1)?.t ?? 0) - t0;
    const pace = Math.max(1, span / REPLAY_SECONDS);
    const started = performance.now();
    let at = begin;
    const tick = () => {
      const t = t0 + pace * (performance.now() - started) / 1000;
      while (at < events.length && events[at].t <= t) at++;
      goTo(at);
      if (at < events.length) playing = requestAnimationFrame(tick);
      else pause();
    };
    setText(play, "❚❚");
    setAttr(play, "aria-label", "pause");
    playing = requestAnimationFrame(tick);
  });

  // Keys stay here: in JupyterLab a stray "b" would insert a cell.
  root.addEventListener("keydown", (event) => event.stopPropagation());

  // -- life --
  const onMessage = (message) => {
    asker.receive(message);
    if (message?.kind !== "events") return;
    store.receive(message);
    arrived = performance.now();
    schedule();
  };
  const onSaved = () => {
    const before = store.events.length;
    store.restore(model.get("saved"));
    if (store.events.length !== before) schedule();
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
    pause();
  };
}

function legend() {
  const items = [["wait", "waiting"], ["prefill", "prefill"], ["cached-share", "cached share"], ["decode", "decode"], ["score", "select"]];
  return make("span", { class: "legend small" }, ...items.map(([className, text]) =>
    make("span", {}, make("i", { class: `part ${className}`, "aria-hidden": "true" }), text)));
}

export default { render };
