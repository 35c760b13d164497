// The schedule pane: one column a step of the engine, stacked by request.
//
// All boxes of one look are one path, so that a long run takes no more elements than a short one.

import { make, makeSvg, setAttr, setText, keyed, uniqueName } from "./dom.js";
import { columnWords, scheduleWords, stepColumns } from "./columns.js";
import { secondsText } from "./layout.js";

const PLOT = 118;
const BELOW = 30;
const SIDE = 34;
const ABOVE = 10;
const NARROWEST = 3;
const WIDEST = 16;
/** Pixels that one decoded token is high at most. */
const UNIT = 22;
const HUES = 5;
const SCHEDULE_HELP = "Each column is one forward pass of the engine and each colour in it one request: solid "
  + "where it writes (taller after a jump), hatched where it reads its prompt (on a logarithmic scale), "
  + "green where its prompt was in the cache and cost nothing. Requests under the axis wait, and a ▼ marks "
  + "one that was sent back to make room. The line is how full the pool is and the dashed one the hit rate "
  + "so far: a wide batch of solid boxes over a high hit rate is what makes a run fast.";

export function makeSchedulePane(hooks) {
  const id = uniqueName();
  const layer = makeSvg("g");
  const cursor = makeSvg("rect", { class: "cursor", visibility: "hidden" });
  const lit = makeSvg("path", { class: "look lit" });
  const ticks = makeSvg("g");
  const svg = makeSvg("svg", { class: "steps", "aria-hidden": "true" },
    makeSvg("defs", {}, ...patterns(id)), layer, lit, cursor, ticks);
  const root = make("div", { class: "schedule", tabindex: "0", role: "slider", "aria-label": "steps of the engine",
    "aria-orientation": "horizontal", "aria-valuemin": 1 }, svg);
  const paths = new Map();
  const tickMap = new Map();
  let view = null;
  let columns = [];
  let plan = { step: WIDEST, scale: UNIT };
  let drawn = { steps: null, n: 0, width: 0 };
  let at = null;

  function choose(index) {
    if (!columns.length) return;
    at = Math.max(0, Math.min(columns.length - 1, index));
    const { first, size } = columns[at];
    hooks.select({ kind: "step", first, size }, cursor);
  }
  const leave = () => {
    at = null;
    hooks.select(null);
  };
  svg.addEventListener("pointermove", (event) => {
    const index = Math.floor((event.clientX - svg.getBoundingClientRect().left - SIDE) / plan.step);
    if (index === at) return;
    if (index >= 0 && index < columns.length) choose(index);
    else if (at !== null) leave();
  });
  svg.addEventListener("pointerleave", leave);
  root.addEventListener("focus", () => choose(columns.length - 1));
  root.addEventListener("blur", leave);
  root.addEventListener("keydown", (event) => {
    const here = at ?? columns.length;
    const to = { ArrowRight: here + 1, ArrowUp: here + 1, ArrowLeft: here - 1, ArrowDown: here - 1,
      PageUp: here + 10, PageDown: here - 10, Home: 0, End: columns.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      choose(to);
    } else if (event.key === "Escape") leave();
  });

  function paint(lights) {
    const { steps } = view.schedule;
    const width = Math.max(200, (root.clientWidth || 640) - 2);
    if (steps !== drawn.steps || steps.length !== drawn.n || width !== drawn.width) {
      if (steps !== drawn.steps || steps.length < drawn.n) columns = [];
      drawn = { steps, n: steps.length, width };
      paintSteps(width);
    }
    paintLights(lights);
  }

  function paintSteps(width) {
    const { schedule } = view;
    const room = width - 2 * SIDE;
    columns = stepColumns(schedule, Math.floor(room / NARROWEST), columns);
    const step = Math.max(NARROWEST, Math.min(WIDEST, room / Math.max(1, columns.length)));
    const top = columns.reduce((most, column) => Math.max(most, column.top), 0);
    const waits = columns.reduce((most, column) => Math.max(most, column.waiting, column.queue), 0);
    const base = ABOVE + PLOT;
    const floor = base + (waits ? BELOW : 4);
    plan = { step, scale: Math.min(UNIT, PLOT / Math.max(1, top)), base, floor };
    setAttr(svg, "width", width);
    setAttr(svg, "height", floor + 16);
    const looks = looksOf(schedule, columns, plan, waits);
    keyed(layer, paths, looks, (look) => look.key, () => makeSvg("path"), (path, look) => {
      setAttr(path, "class", look.name);
      setAttr(path, "d", look.d);
      setAttr(path, "fill", look.fill ? `url(#${id}-${look.fill})` : null);
    });
    drawTicks(floor);
  }

  function paintLights(lights) {
    const { step, floor } = plan;
    setAttr(lit, "d", lights.columns || lights.rids.size > 2 ? "" : litPath(columns, plan, lights.rids));
    const chosen = lights.columns
      ? columns.findIndex(({ first, size }) => first + size > lights.columns.first) : -1;
    setAttr(cursor, "visibility", chosen < 0 ? "hidden" : null);
    if (chosen >= 0) {
      const box = { x: SIDE + chosen * step, y: ABOVE - 4, width: step, height: floor - ABOVE + 4 };
      for (const name in box) setAttr(cursor, name, box[name]);
    }
    const shown = chosen < 0 ? columns.length - 1 : chosen;
    setAttr(root, "aria-valuemax", columns.length);
    setAttr(root, "aria-valuenow", shown + 1);
    setAttr(root, "aria-valuetext", shown < 0 ? "" : columnWords(view, columns[shown].first, columns[shown].size).join("; "));
  }

  function drawTicks(floor) {
    const { steps } = view.schedule;
    const t0 = steps.length ? steps[0].t - steps[0].seconds : 0;
    const every = Math.max(1, Math.ceil(90 / plan.step));
    const edge = SIDE + columns.length * plan.step + 5;
    const marks = columns.flatMap(({ first }, i) => (i % every || (i && i > columns.length - 0.7 * every) ? [] : [{ key: `at ${i}`, x: SIDE + i * plan.step,
      y: floor + 12, anchor: "start", text: `${steps[first].step} · ${secondsText(Math.max(0, steps[first].t - t0))}` }]));
    if (columns.some((column) => column.pool !== null)) {
      marks.push({ key: "full", x: edge, y: ABOVE + 4, anchor: "start", text: "100 %" },
        { key: "none", x: edge, y: ABOVE + PLOT + 3, anchor: "start", text: "0" });
    }
    marks.push({ key: "step", x: SIDE - 6, y: floor + 12, anchor: "end", text: "step" });
    if (floor > ABOVE + PLOT + 4) marks.push({ key: "wait", x: SIDE - 6, y: ABOVE + PLOT + 14, anchor: "end", text: "wait" });
    keyed(ticks, tickMap, marks, (mark) => mark.key, () => makeSvg("text", { class: "tick" }), (text, mark) => {
      setAttr(text, "x", mark.x);
      setAttr(text, "y", mark.y);
      setAttr(text, "text-anchor", mark.anchor);
      setText(text, mark.text);
    });
  }

  return {
    root,
    help: SCHEDULE_HELP,
    legend: [["decode", "writes"], ["prefill", "reads"], ["cached-share", "cached"], ["others-mark", "others"],
      ["pool-mark", "pool"], ["hit-mark", "hit rate"]],
    words: "",
    draw(next) {
      view = next;
      this.words = scheduleWords(view.schedule);
    },
    light(lights) {
      if (view) paint(lights);
    },
  };
}

const LOOK_ORDER = ["write", "read", "cached", "waiting", "queue", "axis", "pool", "hit", "retracted"];

/** A box in column `i` that stands on `y`. */
function stepBox(i, y, height, step) {
  const w = (step - (step >= 5 ? 1 : 0)).toFixed(1);
  const h = Math.max(0.75, height - (height > 3 ? 1 : 0)).toFixed(1);
  return `M${(SIDE + i * step).toFixed(1)} ${(y - h).toFixed(1)}h${w}v${h}h-${w}z`;
}

/** The outlines of the requests `rids`. */
function litPath(columns, { step, scale, base }, rids) {
  let path = "";
  if (rids.size) columns.forEach(({ bands }, i) => {
    let y = base;
    for (const [rid, cached, read, wrote] of bands) {
      for (const height of [wrote, read, cached]) {
        if (height > 0 && rids.has(rid)) path += stepBox(i, y, height * scale, step);
        y -= height * scale;
      }
    }
  });
  return path;
}

/** The picture's parts: `{ key, name, d, fill, kind }`, one for each look. */
function looksOf(schedule, columns, { step, scale, base }, waits) {
  const texts = new Map();
  const add = (key, text) => texts.set(key, (texts.get(key) ?? "") + text);
  const box = (i, y, height) => stepBox(i, y, height, step);
  columns.forEach((column, i) => {
    let y = base;
    for (const [rid, cached, read, wrote] of column.bands) {
      const look = rid ? schedule.requests[rid].at % (2 * HUES) : -1;
      for (const [kind, height] of [["write", wrote], ["read", read], ["cached", cached]]) {
        if (!(height > 0)) continue;
        const text = box(i, y, height * scale);
        add(kind === "cached" ? "cached" : `${kind} ${look}`, text);
        y -= height * scale;
      }
    }
    if (column.retracted) add("retracted", `M${(SIDE + (i + 0.5) * step - 4).toFixed(1)} ${base - PLOT - 9}h8l-4 7z`);
    for (const [key, n] of [["waiting", column.waiting], ["queue", column.queue]]) {
      const height = waits ? (n * (BELOW - 6)) / waits : 0;
      if (height > 0) add(key, box(i, base + 2 + height, height));
    }
  });
  for (const part of ["pool", "hit"]) {
    let pen = "M";
    columns.forEach((column, i) => {
      if (column[part] === null) return;
      add(part, `${pen}${(SIDE + (i + 0.5) * step).toFixed(1)} ${(base - PLOT * column[part]).toFixed(1)}`);
      pen = "L";
    });
  }
  add("axis", `M${SIDE} ${base + 0.5}h${(columns.length * step).toFixed(1)}`);
  return [...texts].map(([key, d]) => {
    const [kind, number] = key.split(" ");
    const look = number === undefined ? null : Number(number);
    let fill = kind === "cached" ? "cached" : null;
    if (kind === "read") fill = look < 0 ? "read-o" : `read-${look % HUES}`;
    if (kind === "write" && look >= HUES) fill = `dots-${look % HUES}`;
    const hue = look === null ? "" : look < 0 ? " hue-o" : ` hue-${look % HUES}`;
    return { key, name: `look ${kind}${hue}`, d, fill, kind };
  }).sort((a, b) => LOOK_ORDER.indexOf(a.kind) - LOOK_ORDER.indexOf(b.kind) || (a.key < b.key ? -1 : 1));
}

/** Fills: a hatch for what is read, dots for every other five requests, green for cached. */
function patterns(id) {
  const pattern = (name, hue, size, ...parts) => makeSvg("pattern", {
    id: `${id}-${name}`, class: hue, width: size, height: size, patternUnits: "userSpaceOnUse",
  }, ...parts);
  const out = [pattern("cached", "hue-cached", 5, makeSvg("rect", { class: "pale", width: 5, height: 5 }),
    makeSvg("path", { class: "ink thick", d: "M-1 1L1 -1M0 5L5 0M4 6L6 4" }))];
  for (const hue of [0, 1, 2, 3, 4, "o"]) {
    out.push(pattern(`read-${hue}`, `hue-${hue}`, 6, makeSvg("path", { class: "ink", d: "M-1 5L5 -1M2 8L8 2M-1 11L11 -1" })));
    if (hue === "o") continue;
    out.push(pattern(`dots-${hue}`, `hue-${hue}`, 4, makeSvg("rect", { class: "full", width: 4, height: 4 }),
      makeSvg("circle", { class: "hole", cx: 2, cy: 2, r: 1 })));
  }
  return out;
}
