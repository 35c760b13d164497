// Branches of a fork side by side: what they begin with alike is folded, words that differ from
// the chosen branch are marked.

import { make, setAttr, setText } from "./dom.js";
import { clipMiddle, countOf, rowLabel, visible } from "./layout.js";

const MOST_COLUMNS = 8;
const MOST_WORDS = 400;

/** A text as words and the gaps between them. */
export function splitWords(text) {
  return text.match(/\s+|\S+/g) ?? [];
}

/** For each item of `b` whether it belongs to a longest common subsequence with `a`. */
export function inCommon(a, b) {
  const width = b.length + 1;
  const length = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      length[i * width + j] = a[i] === b[j] ? 1 + length[(i + 1) * width + j + 1]
        : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
    }
  }
  const out = b.map(() => false);
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) {
      out[j] = true;
      i += 1;
      j += 1;
    } else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return out;
}

/**
 * `{ same, columns }`: the words that all texts begin with, and for each text the rest as
 * `{ text, differs }`; a word differs if the text number `reference` does not have it there. Of
 * the reference itself those differ that no other text has.
 */
export function compareTexts(texts, reference = 0) {
  const words = texts.map(splitWords);
  const least = Math.min(...words.map((each) => each.length));
  let same = 0;
  while (same < least && words.every((each) => each[same] === words[0][same])) same += 1;
  const rests = words.map((each) => each.slice(same, same + MOST_WORDS));
  const base = rests[reference];
  const kept = base.map(() => false); // what some other text has too
  const columns = rests.map((rest, i) => {
    if (i === reference) return null;
    inCommon(rest, base).forEach((has, j) => { if (has) kept[j] = true; });
    const common = inCommon(base, rest);
    return rest.map((text, j) => ({ text, differs: !common[j] && text.trim() !== "" }));
  });
  columns[reference] = base.map((text, j) => ({ text, differs: !kept[j] && text.trim() !== "" }));
  return { same: words[0].slice(0, same).join(""), columns };
}

/** The forks whose branches can be compared: `{ key, name, states }`. */
export function comparable({ branches, tokens }) {
  const out = [];
  for (const parent of branches.order) {
    for (const [n, [, children]] of branches.rows[parent].forks.entries()) {
      const states = children.filter((key) => tokens.rows[key]?.shown > tokens.rows[key]?.shared);
      if (states.length < 2) continue;
      const name = rowLabel(branches.rows[states[0]], tokens.rows[states[0]]?.name).replace(/\[\d+\]$/, "");
      out.push({ key: `${parent} ${n}`, name: `${name} (${children.length} branches)`, states });
    }
  }
  return out;
}

function rowText(row) {
  return row.tokens.slice(0, row.shown).map((token) => token.piece).join("");
}

export function makeCompare() {
  const toggle = make("button", { type: "button", class: "do", text: "Compare", "aria-expanded": "false" });
  const fork = make("select", { "aria-label": "fork to compare", hidden: true });
  const table = make("div", { class: "compare", hidden: true });
  let open = false;
  let reference = 0;
  let drawn = "";
  let last = null;

  toggle.addEventListener("click", () => {
    open = !open;
    setAttr(toggle, "aria-expanded", String(open));
    drawn = "";
    if (last) draw(last);
  });
  fork.addEventListener("change", () => {
    reference = 0;
    draw(last);
  });

  function draw(view) {
    last = view;
    const forks = comparable(view);
    setAttr(toggle, "hidden", !forks.length);
    setAttr(table, "hidden", !open || !forks.length);
    setAttr(fork, "hidden", !open || forks.length < 2);
    if (!open || !forks.length) return;
    const names = forks.map(({ key, name }) => `${key} ${name}`).join();
    if (fork.sglNames !== names) {
      const was = fork.value;
      fork.sglNames = names;
      fork.replaceChildren(...forks.map(({ key, name }) => make("option", { value: key, text: name })));
      if (forks.some(({ key }) => key === was)) fork.value = was;
    }
    const chosen = forks.find(({ key }) => key === fork.value) ?? forks[0];
    const states = chosen.states.slice(0, MOST_COLUMNS);
    const texts = states.map((key) => rowText(view.tokens.rows[key]));
    const now = JSON.stringify([chosen.key, reference, texts]);
    if (now === drawn) return;
    drawn = now;
    const { same, columns } = compareTexts(texts, Math.min(reference, texts.length - 1));
    const n = splitWords(same).filter((word) => word.trim()).length;
    const fold = make("details", { class: "small alike" },
      make("summary", { text: n ? `${countOf(n, "word")} the same` : "they differ from the first word" }),
      make("pre", { class: "edge-text", text: visible(same) }));
    const more = chosen.states.length - states.length;
    table.replaceChildren(fold, make("div", { class: "columns" }, ...columns.map((words, i) => {
      const row = view.tokens.rows[states[i]];
      const name = make("button", { type: "button", class: "column-name", "aria-pressed": String(i === reference),
        title: "compare the others with this one", text: rowLabel(row) });
      name.addEventListener("click", () => {
        reference = i;
        draw(last);
        table.querySelectorAll(".column-name")[i]?.focus();
      });
      const text = make("div", { class: "column-text" }, ...words.map(({ text: word, differs }) =>
        (differs ? make("mark", { text: visible(word) }) : visible(word))));
      return make("div", { class: "column" }, name, text,
        make("div", { class: "error", text: row.error ? `✕ ${clipMiddle(visible(row.error), 200)}` : "" }));
    })), make("div", { class: "small", text: more > 0 ? `+${countOf(more, "column")}` : "" }));
  }

  return { toggle, fork, table, draw };
}
