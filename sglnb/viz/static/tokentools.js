// The line above the tokens: what they are coloured by, what the colours mean, a search.

import { button, make, setAttr, setText, uniqueName } from "./dom.js";
import { countOf, groupDigits } from "./layout.js";
import { MODES } from "./tokenlooks.js";

const KINDS = [["closing", "closed by max_tokens"], ["retokenized", "retokenized"]];
const MOST_HITS = 1000;
/** `hooks.mode(name)`, `hooks.ghosts(on)`, `hooks.find()` and `hooks.go(row, pos)` are told what is
 * chosen. `hits` are the tokens found, positions by row. */
export function makeTokenTools(hooks) {
  const name = uniqueName(); // radio buttons of one name belong together
  const chooser = make("span", { class: "modes", role: "radiogroup", "aria-label": "colour the tokens by" });
  for (const mode in MODES) {
    const input = make("input", { type: "radio", name, value: mode });
    input.checked = mode === "type";
    chooser.append(make("label", { title: MODES[mode].hint }, input, make("span", { text: mode })));
  }
  const legend = make("span", { class: "legend small" });
  const ghosts = button("", "show the tokens that were taken back, struck through", "ghost-toggle");
  setAttr(ghosts, "aria-pressed", "false");
  const search = make("input", { type: "search", placeholder: "find", "aria-label": "find in the tokens; Enter goes on, Shift+Enter back" });
  const count = make("span", { class: "small number", role: "status" });
  const finder = make("span", { class: "finder", hidden: true }, search, count);
  const root = make("div", { class: "token-tools" }, chooser, legend, ghosts, make("span", { class: "grow" }), finder);
  let mode = "type";
  let found = []; // [row, pos] where each hit begins
  let at = -1;
  let kinds = new Set();
  let texts = [];

  chooser.addEventListener("change", (event) => {
    mode = event.target.value;
    drawLegend();
    hooks.mode(mode);
  });
  ghosts.addEventListener("click", () => {
    const on = ghosts.getAttribute("aria-pressed") !== "true";
    setAttr(ghosts, "aria-pressed", String(on));
    hooks.ghosts(on);
  });
  search.addEventListener("input", () => {
    at = -1;
    find();
    hooks.find();
  });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !found.length) return;
    at = (at + (event.shiftKey ? found.length - (at < 0 ? 0 : 1) : 1)) % found.length;
    drawCount();
    hooks.go(...found[at]);
  });

  function drawLegend() {
    const { ends } = MODES[mode];
    if (!ends) {
      legend.replaceChildren(...KINDS.filter(([kind]) => kinds.has(kind)).map(([kind, word]) =>
        make("span", {}, make("i", { class: `sample ${kind}`, "aria-hidden": "true" }), word)));
      return;
    }
    const scale = make("i", { class: "scale", "aria-hidden": "true" });
    for (const share of [0.1, 0.3, 0.5, 0.75, 1]) {
      const step = make("i", { class: "measured" });
      step.style.setProperty("--v", share);
      scale.append(step);
    }
    legend.replaceChildren(make("span", {}, ends[0], scale, ends[1]));
  }

  /** Where the text that is looked for stands, over the borders of tokens. */
  function find() {
    const wanted = search.value.toLowerCase();
    found = [];
    tools.hits = new Map();
    for (const { row, start } of wanted ? texts : []) {
      const pieces = row.tokens.slice(0, row.shown).map(({ piece }) => piece.toLowerCase());
      const text = pieces.join("");
      const positions = new Set();
      let pos = 0;
      let end = pieces[0]?.length ?? 0; // of the token `pos`
      for (let hit = text.indexOf(wanted); hit >= 0 && found.length < MOST_HITS; hit = text.indexOf(wanted, hit + wanted.length)) {
        while (end <= hit) end += pieces[++pos].length;
        if (pos >= start) found.push([row.state, pos]);
        positions.add(pos);
        while (end < hit + wanted.length) {
          end += pieces[++pos].length;
          positions.add(pos);
        }
      }
      if (positions.size) tools.hits.set(row.state, positions);
    }
    drawCount();
  }

  function drawCount() {
    const all = found.length < MOST_HITS ? groupDigits(found.length) : `${groupDigits(MOST_HITS)}+`;
    setText(count, !search.value ? "" : at < 0 ? `${all} found` : `${at + 1} of ${all}`);
  }

  const tools = {
    root,
    hits: new Map(),
    /** The kinds of tokens in a row that are told of only where there are some. */
    rareKinds: (row) => KINDS.map(([kind]) => kind)
      .filter((kind) => row.tokens.some((token) => token.kind === kind)),
    /** The rows as they are now, each `{ row, start }` with the first position that is shown. */
    read(now) {
      texts = now;
      if (search.value) find();
    },
    /** `rare` are the kinds there are; `long` says that the browser's own search cannot see all. */
    draw(rare, long) {
      const before = kinds;
      kinds = rare;
      if (kinds.size !== before.size) drawLegend();
      setAttr(finder, "hidden", !long && !search.value);
      const back = texts.reduce((sum, { row }) => sum + row.back, 0);
      setAttr(ghosts, "hidden", back === 0);
      setText(ghosts, `${countOf(back, "token")} taken back`);
    },
  };
  return tools;
}
