// The constraint pane: the compressed automaton with the way that a request went through it, and
// below it what it wrote, with the share of probability that the mask took away at each token.

import { FSM, FSM_RADIUS, drawFsm, edgePath, focusOf, strip } from "./fsm.js";
import { alternatives } from "./tokencard.js";
import { animate, keyed, make, makeSvg, rove, setAttr, setText } from "./dom.js";
import { clipMiddle, countOf, groupDigits, nameText, oneLine, rowLabel } from "./layout.js";

const MAX_CELLS = 60;
const MAX_STEPS = 12;
const CONSTRAINT_HELP = "The circles are the states of your constraint after it was compiled (a double one is "
  + "where the text may end; ways that lead to no end are gone), and only tokens along their edges are allowed. A rounded box is text "
  + "that leaves no choice: the engine writes it without asking the model. Below is what was written, and "
  + "the hatched bar over a token is the share of the model's probability that the mask took away there.";

const TOO_LARGE = "Too many states to draw. ";
const NO_STATES = "No automaton to draw: its states are made as it is parsed, and the parser does not tell which "
  + "rules are open. ";
const STEPS_BELOW = "A column is a step: how many tokens were allowed, and the likeliest; those struck through "
  + "were not.";

export function makeConstraintPane(hooks) {
  const which = make("select", { "aria-label": "request under a constraint" });
  const source = make("code", { class: "source" });
  const svg = makeSvg("svg", { class: "fsm", role: "group", "aria-label": "automaton of the constraint" });
  const lines = makeSvg("g");
  const marks = makeSvg("g");
  svg.append(lines, marks);
  const scroll = make("div", { class: "fsm-scroll" }, svg);
  const small = make("div", { class: "small" });
  const cells = make("div", { class: "strip", role: "listbox", "aria-orientation": "horizontal", "aria-label": "what was written under the constraint" });
  const steps = make("div", { class: "choice-steps", role: "list", "aria-label": "what each step could have been" });
  const root = make("div", { class: "constraint" }, make("div", { class: "of" }, which, source), scroll, small, cells, steps);
  const lineMap = new Map();
  const markMap = new Map();
  const cellMap = new Map();
  const stepMap = new Map();
  const options = new Map();
  const fsmStop = { current: null };
  const cellStop = { current: null };
  let view = null;
  let live = false;
  let chosen = null;
  let looked = null;
  let items = [];
  let drawn = { graph: null, shown: new Set(), places: [], way: new Set() };

  // -- pointing --
  for (const [element, name, stop] of [[svg, ".mark", fsmStop], [cells, ".cell", cellStop]]) {
    const pick = (event) => {
      const at = event.target.closest?.(name);
      if (at) hooks.select(at.sglPick, at);
      return at;
    };
    element.addEventListener("pointerover", pick);
    element.addEventListener("click", pick);
    element.addEventListener("pointerleave", () => hooks.select(null));
    element.addEventListener("focusin", (event) => {
      const at = pick(event);
      if (at) rove(stop, at);
    });
    element.addEventListener("focusout", () => hooks.select(null));
    element.addEventListener("keydown", (event) => {
      const at = event.target.closest?.(name);
      const next = at && (name === ".cell" ? cellBeside(at, event.key) : markBeside(at.sglItem, event.key));
      if (next) {
        event.preventDefault();
        next.focus();
      } else if (event.key === "Escape") hooks.select(null);
    });
  }
  which.addEventListener("change", () => {
    chosen = which.value;
    looked = null;
    hooks.redraw();
  });

  function cellBeside(cell, key) {
    const all = Array.from(cells.children);
    const at = all.indexOf(cell);
    return { ArrowRight: all[at + 1], ArrowLeft: all[at - 1], Home: all[0], End: all.at(-1) }[key];
  }

  function markBeside(item, key) {
    const next = neighbour(item, key);
    return next && markMap.get(next.key);
  }

  /** The state or box beside `item` in a direction: along the edges, or up and down. */
  function neighbour(item, key) {
    const { places, fsm, way } = drawn;
    const states = places.filter((each) => each.state !== undefined);
    if (key === "Home") return states[0];
    if (key === "End") return states.at(-1);
    if (key === "ArrowRight" || key === "ArrowLeft") {
      const end = key === "ArrowRight" ? 1 : 0;
      if (item.edge !== undefined) return states.find((each) => each.state === fsm.edges[item.edge][end]);
      const edges = (end ? fsm.out : fsm.into).get(item.state)
        .filter((i) => fsm.edges[i][0] !== fsm.edges[i][1]);
      const best = edges.find((i) => way.has(i)) ?? edges[0];
      if (best === undefined) return null;
      return places.find((each) => each.edge === best) ?? states.find((each) => each.state === fsm.edges[best][end]);
    }
    if (key !== "ArrowUp" && key !== "ArrowDown") return null;
    const side = (each) => (key === "ArrowDown" ? each.y - item.y : item.y - each.y);
    const far = (each) => side(each) + 2 * Math.abs(each.x - item.x);
    return places.filter((each) => side(each) > 4).sort((a, b) => far(a) - far(b))[0];
  }

  // -- drawing --
  function paint(lights) {
    const { constraint, tokens } = view;
    const known = constraint.order.map((rid) => constraint.requests[rid]);
    // What was pointed at stays, so that one can go over to it, until there is a newer request.
    if (constraint.requests[lights.rid]) looked = { rid: lights.rid, of: known.length };
    else if (looked?.of !== known.length) looked = null;
    const request = focusOf(constraint, looked?.rid ?? chosen);
    for (const part of root.children) part.style.visibility = request ? "" : "hidden"; // its place stays
    if (!request) return "";
    setAttr(which, "hidden", known.length < 2);
    keyed(which, options, known, (each) => each.rid, (each) => make("option", { value: each.rid }),
      (option, each) => {
        const row = tokens.rows[each.row];
        setText(option, clipMiddle(row ? rowLabel(row, each.name) : nameText(each.name), 40));
      });
    if (which.value !== request.rid) which.value = request.rid;
    setText(source, clipMiddle(oneLine(request.source), 160));
    setAttr(source, "title", oneLine(request.source));
    items = strip(tokens, request);
    const row = tokens.rows[request.row];
    const at = lights.rid === request.rid
      ? items.findIndex((item) => item.pos <= lights.pos && lights.pos < item.end) : -1;
    const token = at >= 0 ? row.tokens[lights.pos] : null;
    const now = token ?? row?.tokens[(items.at(-1)?.end ?? 0) - 1] ?? null;
    drawCells(request, at);
    const entry = constraint.graphs[request.source];
    setAttr(scroll, "hidden", !entry?.graph);
    setText(small, entry && !entry.graph ? `${entry.states ? TOO_LARGE : NO_STATES}${STEPS_BELOW}` : "");
    if (entry?.graph) drawGraph(entry.graph, request, now, token, lights);
    drawSteps(request, entry && !entry.graph ? at : null);
    return wordsOf(entry, items[at >= 0 ? at : items.length - 1], now);
  }

  function drawGraph(graph, request, now, token, lights) {
    if (drawn.graph !== graph) {
      const fsm = new FSM(graph);
      drawn = { graph, fsm, layers: fsm.layers(), shown: new Set(), ways: new Map() };
    }
    const { fsm, ways } = drawn;
    const at = fsm.drawn(now?.fsm_to ?? 0);
    // The window moves only when what is next would be outside.
    const near = [at, ...(fsm.out.get(at) ?? []).map((i) => fsm.edges[i][1])];
    if (!near.every((state) => drawn.shown.has(state))) {
      drawn.shown = fsm.around(at);
      drawn.plan = drawFsm(fsm, drawn.shown, drawn.layers);
    }
    const wayOf = (before, after, text) => {
      const key = `${before} ${after} ${text}`;
      if (!ways.has(key)) ways.set(key, fsm.way(before, after, text));
      return ways.get(key);
    };
    const until = token ? items.findIndex((item) => item.end > lights.pos) + 1 : items.length;
    const way = new Set(items.slice(0, until).flatMap((item) => wayOf(item.fsm, item.fsm_to, item.text)));
    const here = new Set(token ? wayOf(token.fsm, token.fsm_to, token.piece) : []);
    const been = new Set([0, ...[...way].flatMap((i) => fsm.edges[i].slice(0, 2))]);
    const { plan } = drawn;
    setAttr(svg, "width", Math.ceil(plan.width));
    setAttr(svg, "height", Math.ceil(plan.height));
    // What was gone through lies above what was not.
    const rank = ({ edge }) => way.has(edge) + 2 * here.has(edge);
    keyed(lines, lineMap, [...plan.edges].sort((a, b) => rank(a) - rank(b)), (edge) => edge.edge, () => makeSvg("path"), (path, edge) => {
      const isNew = live && way.has(edge.edge) && !path.classList.contains("way");
      setAttr(path, "d", edgePath(edge));
      setAttr(path, "class", `line${way.has(edge.edge) ? " way" : ""}${here.has(edge.edge) ? " here" : ""}`);
      if (isNew) animate(path, [{ strokeOpacity: 0.2 }, {}], 300);
    });
    const labels = plan.edges.map(({ edge, lx, ly, label, box }) => ({ key: `edge ${edge}`, edge, x: lx, y: ly, label, box }));
    const states = plan.states.map((each) => ({ key: `state ${each.state}`, ...each }));
    drawn.way = way;
    drawn.places = [...labels.filter((each) => each.box), ...states];
    keyed(marks, markMap, [...labels, ...states], (item) => item.key, createMark, (mark, item) => {
      const isState = item.state !== undefined;
      updateMark(mark, item, fsm, {
        at: isState && item.state === at, been: isState ? been.has(item.state) : way.has(item.edge),
        lit: lights.mark && (isState ? lights.mark.state === item.state : lights.mark.edge === item.edge),
      });
      mark.sglItem = item;
      mark.sglPick = { kind: "fsm", rid: request.rid, source: request.source, state: item.state,
        edge: item.edge, words: item.words };
    });
    const hidden = fsm.final.size - drawn.shown.size;
    if (hidden) setText(small, `${groupDigits(drawn.shown.size)} of ${countOf(fsm.final.size, "state")} drawn, around the current one`);
    if (!fsmStop.current?.isConnected) rove(fsmStop, markMap.get(states[0].key));
    if (!root.contains(document.activeElement) && !scroll.matches(":hover")) follow(states.find((each) => each.state === at));
  }

  function follow(place) {
    if (!place) return;
    const margin = Math.min(90, scroll.clientWidth / 4);
    if (place.x < scroll.scrollLeft + margin || place.x > scroll.scrollLeft + scroll.clientWidth - margin) {
      scroll.scrollLeft = place.x - scroll.clientWidth / 2;
    }
    if (place.y < scroll.scrollTop + 20 || place.y > scroll.scrollTop + scroll.clientHeight - 20) {
      scroll.scrollTop = place.y - scroll.clientHeight / 2;
    }
  }

  function createMark(item) {
    if (item.state !== undefined) return makeSvg("path", { role: "img", tabindex: "-1" });
    if (!item.box) return makeSvg("text");
    return makeSvg("g", { role: "img", tabindex: "-1" },
      makeSvg("rect", { class: "forced-box", rx: 7, height: 17 }), makeSvg("text", { class: "edge-label" }));
  }

  function updateMark(mark, item, fsm, { at, been, lit }) {
    const classes = (...names) => setAttr(mark, "class",
      [...names, at && "at", been && "been", lit && "lit"].filter(Boolean).join(" "));
    if (item.state !== undefined) {
      const exits = fsm.out.get(item.state).length;
      const ways = exits === 0 ? "no way on" : exits === 1 ? "one way on" : `${exits} ways on`;
      item.words = [`state ${item.state}${item.final ? ": the text may end here" : ""}`, ways,
        ...(at ? ["the request stands here"] : []), "lit: the tokens that were chosen here"];
      classes("mark", "state");
      setAttr(mark, "d", circlePath(item.x, item.y, item.final));
      setAttr(mark, "aria-label", item.words.slice(0, -1).join(", "));
      return;
    }
    const text = item.box ? mark.lastChild : mark;
    setText(text, item.label);
    setAttr(text, "x", item.x);
    setAttr(text, "y", item.y + 4);
    if (!item.box) return classes("edge-label");
    classes("mark", "jump");
    const width = 6.3 * Array.from(item.label).length + 12;
    for (const [name, value] of [["x", item.x - width / 2], ["y", item.y - 8.5], ["width", width]]) {
      setAttr(mark.firstChild, name, value);
    }
    const [from, to, label, , via] = fsm.edges[item.edge];
    const how = via.length
      ? `${countOf(via.length + 1, "character")}, of which at most the first is a choice` : "the only way on";
    item.words = [oneLine(clipMiddle(label, 200)), `from state ${from} to ${to}: ${how}`,
      "jump-forward writes it without asking the model"];
    setAttr(mark, "aria-label", item.words.join(", "));
  }

  /** The newest tokens, or those around the one that is looked at. */
  function drawCells(request, at) {
    const last = at >= 0 ? Math.min(items.length, Math.max(MAX_CELLS, at + MAX_CELLS / 2)) : items.length;
    const first = Math.max(0, last - MAX_CELLS);
    const row = view.tokens.rows[request.row];
    cells.dataset.before = first ? `⋯ ${countOf(items[first].pos - items[0].pos, "token")} ` : "";
    keyed(cells, cellMap, items.slice(first, last), (item) => `${request.rid} ${item.pos}`,
      () => make("span", { role: "option", tabindex: "-1" }), (cell, item) => {
        const n = item.end - item.pos;
        const jump = item.kind === "forced";
        const share = Math.max(0, Math.min(1, item.removed ?? 0));
        const removed = `${Math.round(100 * share)} %`;
        const on = at >= 0 && items[at] === item;
        setText(cell, oneLine(clipMiddle(item.text, 60)) || "∅");
        const names = ["cell", item.kind, jump && n > 1 && "long", on && "on", share >= 0.005 && "cut", share >= 0.1 && "noted"];
        setAttr(cell, "class", names.filter(Boolean).join(" "));
        cell.style.setProperty("--r", share.toFixed(3));
        if (jump) cell.dataset.note = n === 1 ? "no pass" : `${countOf(n, "token")}, no pass`;
        else cell.dataset.note = share >= 0.1 ? removed : "";
        const words = jump ? `${countOf(n, "token")} without a forward pass`
          : `${countOf(item.allowed ?? 0, "token")} allowed, mask removed ${removed}`;
        setAttr(cell, "aria-label", `${nameText(item.text) || "empty"}, ${words}`);
        setAttr(cell, "title", jump ? words : null);
        setAttr(cell, "aria-selected", String(on));
        cell.sglPick = { kind: "token", row: request.row, pos: item.pos, token: row.tokens[item.pos],
          cached: item.pos < row.cached };
      });
    if (!cellStop.current?.isConnected) rove(cellStop, cells.lastChild);
  }

  /** Where there is no automaton: what the steps near the one that is looked at could have been,
   * each a column of the likeliest tokens. `at` is null where there is one. */
  function drawSteps(request, at) {
    const row = view.tokens.rows[request.row];
    const chosen = at === null ? [] : items.filter(({ pos }) => row.tokens[pos].top?.length);
    const last = at === null || at < 0 ? chosen.length : chosen.filter(({ pos }) => pos <= items[at].pos).length + MAX_STEPS / 2;
    const end = Math.min(chosen.length, Math.max(MAX_STEPS, last));
    setAttr(steps, "hidden", !chosen.length);
    keyed(steps, stepMap, chosen.slice(Math.max(0, end - MAX_STEPS), end), ({ pos }) => `${request.rid} ${pos}`,
      () => make("div", { class: "choice-step", role: "listitem" }), (step, item) => {
        const token = row.tokens[item.pos];
        step.classList.toggle("on", at >= 0 && items[at] === item);
        if (step.sglToken === token) return;
        step.sglToken = token;
        step.replaceChildren(make("div", { class: "small", text: `${groupDigits(token.allowed ?? 0)} allowed` }),
          alternatives(token));
      });
  }

  return {
    root,
    help: CONSTRAINT_HELP,
    legend: [["forced-mark", "written without a pass"], ["removed-mark", "removed by the mask"]],
    words: "",
    draw(next, isLive) {
      view = next;
      live = isLive;
    },
    light(lights) {
      this.words = view ? paint(lights) : "";
    },
  };
}

/** A circle, or two for a state in which the text may end. */
function circlePath(x, y, final) {
  const ring = (r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
  return final ? ring(FSM_RADIUS) + ring(FSM_RADIUS - 3.5) : ring(FSM_RADIUS - 1.5);
}

/** `state 14 of 90 · 312 tokens allowed · mask kept 41 % of the probability`. */
function wordsOf(entry, item, now) {
  const words = [];
  if (typeof now?.fsm_to === "number") words.push(`state ${now.fsm_to}${entry?.states ? ` of ${groupDigits(entry.states)}` : ""}`);
  if (item?.kind === "forced") words.push(`${countOf(item.end - item.pos, "token")} without a forward pass`);
  else if (typeof item?.allowed === "number") words.push(`${countOf(item.allowed, "token")} allowed`);
  if (typeof item?.removed === "number") words.push(`mask kept ${Math.round(100 * (1 - item.removed))} % of the probability`);
  return words.join(" · ");
}
