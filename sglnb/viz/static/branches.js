// The branches pane: one row a program state, one bar a request, on a time axis.

import { make, setAttr, setText, keyed, rove } from "./dom.js";
import { makeCompare } from "./compare.js";
import { axisWindow, barStretches, barWords, countOf, nameText, orderedRows, rowLabel, secondsText, tickText }
  from "./layout.js";

const BRANCHES_HELP = "Each row is one state of the program and each bar in it one request to the engine, on one axis "
  + "of time. A request waits (outline), reads its prompt (hatched, green for the share that was in the cache) and "
  + "then writes (solid). A line down marks a fork and a dashed one a join: the longest bar between the two is what "
  + "the run waited for.";
const ROW_HEIGHT = 24;
const MAX_ROWS = 200;
const DRAG = 5;
const LEAST = 1e-4;

export function makeBranchesPane(hooks) {
  const axis = make("div", { class: "axis", "aria-hidden": "true" });
  const lines = make("div", { class: "lines", "aria-hidden": "true" });
  const list = make("div", { class: "lanes", role: "list", "aria-label": "branches" });
  const more = make("div", { class: "small" });
  const band = make("div", { class: "band", hidden: true });
  const plot = make("div", { class: "plot" }, list, lines, axis, band);
  const whole = make("button", { type: "button", class: "do", text: "Whole time", title: "or double-click, or 0", hidden: true });
  const compare = makeCompare();
  const root = make("div", { class: "branches" }, plot, more,
    make("div", { class: "branch-tools" }, whole, compare.toggle, compare.fork), compare.table);
  const lanes = new Map();
  const ticks = new Map();
  const links = new Map();
  const stop = { current: null };
  let now = 0;
  let zoom = null; // [from, to] in seconds from the start
  let shown = { t0: 0, from: 0, to: 1 };
  let errorOf = () => "";

  const barOf = (event) => event.target.closest?.(".bar");
  const pick = (event) => {
    const bar = barOf(event);
    if (bar) hooks.select({ kind: "bar", rid: bar.sglBar.rid, row: bar.sglBar.row, words: barWords(bar.sglBar, now, errorOf(bar.sglBar)) }, bar);
  };
  list.addEventListener("pointerover", pick);
  list.addEventListener("pointerleave", () => hooks.select(null));
  list.addEventListener("focusin", (event) => {
    pick(event);
    const bar = barOf(event);
    if (bar) rove(stop, bar);
  });
  list.addEventListener("focusout", () => hooks.select(null));
  list.addEventListener("keydown", (event) => {
    const bar = barOf(event);
    if (!bar) return;
    const all = Array.from(list.querySelectorAll(".bar"));
    const next = { ArrowRight: all[all.indexOf(bar) + 1], ArrowLeft: all[all.indexOf(bar) - 1],
      ArrowDown: beside(bar, 1), ArrowUp: beside(bar, -1), Home: all[0], End: all.at(-1) }[event.key];
    if (next) {
      event.preventDefault();
      next.focus();
    } else if (event.key === "Escape") hooks.select(null);
    else if (event.key === "+" || event.key === "-") zoomBy(event.key === "+" ? 0.5 : 2, bar.sglBar);
    else if (event.key === "0") zoomTo(null);
  });

  // -- zoom: drag over a stretch of time; double-click for all of it --
  function zoomTo(next) {
    const most = now - shown.t0;
    if (next) {
      const from = Math.max(0, Math.min(next[0], most - LEAST));
      const to = Math.min(most, Math.max(next[1], from + LEAST));
      zoom = from <= 0 && to >= most ? null : [from, to];
    } else zoom = null;
    hooks.redraw();
  }

  function zoomBy(factor, bar) {
    const middle = (bar.arrived + (bar.end ?? now)) / 2 - shown.t0;
    const half = (factor * (shown.to - shown.from)) / 2;
    zoomTo([middle - half, middle + half]);
  }

  whole.addEventListener("click", () => zoomTo(null));
  plot.addEventListener("dblclick", () => zoomTo(null));
  let begin = null;
  const timeAt = (x) => {
    const box = axis.getBoundingClientRect();
    const share = Math.max(0, Math.min(1, (x - box.left) / Math.max(1, box.width)));
    return { share, t: shown.from + share * (shown.to - shown.from) };
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.clientX >= axis.getBoundingClientRect().left) begin = event.clientX;
  });
  plot.addEventListener("pointermove", (event) => {
    if (begin === null) return;
    if (Math.abs(event.clientX - begin) < DRAG && band.hidden) return;
    plot.setPointerCapture(event.pointerId);
    const [a, b] = [begin, event.clientX].map((x) => timeAt(x).share).sort((x, y) => x - y);
    setAttr(band, "hidden", false);
    band.style.setProperty("--from", a);
    band.style.setProperty("--to", b);
  });
  const drop = (event) => {
    if (begin !== null && !band.hidden && event.type === "pointerup") {
      zoomTo([begin, event.clientX].map((x) => timeAt(x).t).sort((x, y) => x - y));
    }
    begin = null;
    setAttr(band, "hidden", true);
  };
  plot.addEventListener("pointerup", drop);
  plot.addEventListener("pointercancel", drop);

  function beside(bar, step) {
    let lane = bar.closest(".lane");
    do lane = step > 0 ? lane.nextElementSibling : lane.previousElementSibling;
    while (lane && !lane.querySelector(".bar"));
    return lane?.querySelector(".bar");
  }

  function createLane() {
    const lane = make("div", { class: "lane", role: "listitem" },
      make("div", { class: "lane-label" }), make("div", { class: "track" }));
    lane.sglBars = new Map();
    return lane;
  }

  function updateLane(lane, { row, depth }, view, scale) {
    const [label, track] = lane.children;
    const first = view.branches.bars[row.bars[0]];
    const name = rowLabel(row, first?.name);
    setText(label, name);
    setAttr(label, "title", row.error ? `${name}: ${nameText(row.error)}` : name);
    label.classList.toggle("failed", row.error !== "");
    label.style.paddingLeft = `${6 + 12 * depth}px`;
    lane.sglState = row.state;
    const items = [{ key: "life" }, ...row.bars.map((rid) => ({ key: `bar ${rid}`, bar: view.branches.bars[rid] }))];
    keyed(track, lane.sglBars, items, (item) => item.key,
      (item) => make("div", item.bar ? { class: "bar", tabindex: "-1", role: "img" } : { class: "life" }),
      (element, { bar }) => {
        const from = bar ? bar.arrived : first?.arrived ?? row.t0;
        const to = bar ? bar.end ?? now : row.joined ?? row.t1 ?? now;
        place(element, scale, from, to);
        if (bar) updateBar(element, bar);
      });
  }

  function updateBar(element, bar) {
    element.sglBar = bar;
    const span = Math.max(1e-9, (bar.end ?? now) - bar.arrived);
    const stretches = barStretches(bar, now);
    element.sglParts ??= new Map();
    keyed(element, element.sglParts, stretches.map((stretch, i) => ({ stretch, i })), ({ i }) => i,
      () => make("div"),
      (part, { stretch }) => {
        part.className = `part ${stretch.what}`;
        part.style.left = `${100 * (stretch.from - bar.arrived) / span}%`;
        part.style.width = `${100 * (stretch.to - stretch.from) / span}%`;
        const share = bar.prompt ? bar.cached / bar.prompt : 0;
        if (stretch.what === "prefill" || stretch.what === "score") part.style.setProperty("--share", `${100 * share}%`);
      });
    element.classList.toggle("aborted", bar.reason === "abort");
    setAttr(element, "aria-label", barWords(bar, now, errorOf(bar)));
    element.classList.toggle("failed", errorOf(bar) !== "");
  }

  function place(element, { t0, span }, from, to) {
    element.style.left = `${(100 * (from - t0)) / span}%`;
    element.style.width = `${(100 * Math.max(0, to - from)) / span}%`;
  }

  /** When the children of a fork really began: a program may fork long before its earlier
   * requests are done. */
  function begun({ rows, bars }, children, t) {
    const first = Math.min(...children.map((child) => bars[rows[child]?.bars[0]]?.arrived ?? Infinity));
    return Number.isFinite(first) ? Math.max(t, first) : t;
  }

  function drawLinks(branches, items, scale) {
    const at = new Map(items.map(({ row }, i) => [row.state, i]));
    const out = [];
    for (const { row } of items) {
      for (const [what, marks] of [["fork", row.forks], ["join", row.joins]]) {
        marks.forEach(([t, children], n) => {
          const places = children.map((child) => at.get(child)).filter((i) => i !== undefined);
          if (!places.length) return;
          out.push({ key: `${what} ${n} ${row.state}`, what, t: what === "fork" ? begun(branches, children, t) : t,
            from: at.get(row.state), to: Math.max(...places) });
        });
      }
    }
    keyed(lines, links, out, (link) => link.key, (link) => make("div", { class: `link ${link.what}` }),
      (element, link) => {
        const at = (link.t - scale.t0) / scale.span;
        setAttr(element, "hidden", at < -1e-9 || at > 1 + 1e-9);
        element.style.left = `${100 * at}%`;
        element.style.top = `${(link.from + 0.5) * ROW_HEIGHT}px`;
        element.style.height = `${(link.to - link.from) * ROW_HEIGHT}px`;
      });
  }

  return {
    root,
    help: BRANCHES_HELP,
    legend: [["wait", "waiting"], ["prefill", "prefill"], ["cached-share", "cached share"], ["decode", "decode"], ["score", "select"]],
    words: "",
    draw(view) {
      const { branches } = view;
      const all = orderedRows(branches);
      const items = all.slice(0, MAX_ROWS);
      now = branches.t1;
      const t0 = branches.t0 ?? 0;
      const span = Math.max(1e-6, now - t0);
      if (zoom && zoom[0] >= span) zoom = null; // the replay stands before it
      const [from, to] = zoom ?? [0, span];
      shown = { t0, from, to };
      errorOf = (bar) => branches.rows[bar.row]?.error || view.tokens.rows[bar.row]?.error || "";
      const scale = { t0: t0 + from, span: to - from };
      plot.classList.toggle("zoomed", zoom !== null);
      setAttr(whole, "hidden", zoom === null);
      keyed(list, lanes, items, ({ row }) => row.state, createLane,
        (lane, item) => updateLane(lane, item, view, scale));
      drawLinks(branches, items, scale);
      const { ticks: marks, step } = axisWindow(from, to);
      keyed(axis, ticks, marks, (t) => t, () => make("span"), (element, t) => {
        const at = (t - from) / (to - from);
        element.style.left = `${100 * at}%`;
        element.classList.toggle("first", at < 0.02);
        element.classList.toggle("last", at > 0.95);
        setText(element, tickText(t, step));
      });
      compare.draw(view);
      setText(more, all.length > items.length ? `+${countOf(all.length - items.length, "branch row")}` : "");
      if (!stop.current?.isConnected) rove(stop, list.querySelector(".bar"));
      this.words = `${countOf(all.length, "state")} · ${secondsText(span)}`;
      return Math.max(all.length, Object.keys(branches.bars).length);
    },
    /** Light the rows in `states` and the bars of the requests in `rids`. */
    light(states, rids) {
      for (const lane of lanes.values()) {
        lane.classList.toggle("lit", states.has(lane.sglState));
        for (const element of lane.sglBars.values()) {
          if (element.sglBar) element.classList.toggle("lit", rids.has(element.sglBar.rid));
        }
      }
    },
  };
}
