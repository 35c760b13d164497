// The live numbers of a dashboard. It tells the kernel whether anyone can see them.

import { countOf, groupDigits, oneLine } from "./layout.js";
import { keepKeys, make, makeHelp, setAttr, setText } from "./dom.js";

const METER_HELP = "These are the engine's numbers of this moment. The hit rate is the share of all prompt tokens that "
  + "came from the cache and were not computed again. The pool's bar is grey where slots hold tokens that may be "
  + "evicted and striped where requests or pins hold them.";

/** What each figure says of the kernel's numbers: `{ key, value, unit, share }`. */
export function meterFigures(n) {
  if (n.kv_tokens === undefined) return [];
  const hit = n.prompt_tokens ? `${Math.round(100 * n.cache_hit_rate)} %` : "–";
  return [
    { key: "requests", value: groupDigits(n.running), unit: `running · ${groupDigits(n.waiting)} waiting` },
    { key: "speed", value: groupDigits(n.rate), unit: `tokens/s · ${countOf(n.tokens_so_far, "token")} in all` },
    { key: "hit rate", value: hit, unit: `${groupDigits(n.cached_tokens)} of ${countOf(n.prompt_tokens, "prompt token")}`,
      share: n.prompt_tokens ? n.cache_hit_rate : 0, bar: "hits" },
    { key: "pool", value: groupDigits(n.kv_used), unit: `of ${groupDigits(n.kv_tokens)} slots · ${groupDigits(n.kv_locked)} held`,
      share: n.kv_used / n.kv_tokens, locked: n.kv_locked / n.kv_tokens, bar: "slots" },
  ];
}

export function render({ model, el }) {
  const name = make("b", { class: "name" });
  const state = make("span", { class: "small", role: "status" });
  const figures = make("dl", { class: "meter" });
  const [ask, help] = makeHelp("the engine", METER_HELP);
  const root = make("div", { class: "sglnb", role: "region", "aria-label": "engine" },
    make("div", { class: "head" }, name, state, ask), help, figures);
  el.append(root);
  const cells = new Map();

  function draw(numbers) {
    setText(name, oneLine(numbers.model));
    setText(state, [numbers.state, numbers.device, numbers.dtype].filter(Boolean).map(oneLine).join(" · "));
    for (const { key, value, unit, share, locked, bar } of meterFigures(numbers)) {
      if (!cells.has(key)) {
        const cell = { value: make("dd", { class: "number" }), unit: make("dd", { class: "small number" }),
          bar: make("dd", { class: "gauge", "aria-hidden": "true" }) };
        cells.set(key, cell);
        figures.append(make("div", {}, make("dt", { class: "small", text: key }), cell.value, cell.unit, cell.bar));
      }
      const cell = cells.get(key);
      setText(cell.value, value);
      setText(cell.unit, unit);
      setAttr(cell.bar, "hidden", share === undefined);
      setAttr(cell.bar, "class", `gauge ${bar ?? ""}`);
      cell.bar.style.setProperty("--share", `${100 * (share ?? 0)}%`);
      cell.bar.style.setProperty("--locked-share", `${100 * (locked ?? 0)}%`);
    }
    setAttr(figures, "hidden", numbers.kv_tokens === undefined);
  }

  const onMessage = (message) => { if (message?.kind === "numbers") draw(message.numbers); };
  model.on("msg:custom", onMessage);
  let board = null;
  // What the dashboard says of an action is read out: the line comes into the page at any time.
  const announcer = new MutationObserver(() => announce());
  const announce = () => board.querySelectorAll(".sglnb-said").forEach((line) => setAttr(line, "role", "status"));
  const watcher = new IntersectionObserver((entries) => {
    if (!board) { // now it stands in the page: the controls beside it are the dashboard's too
      board = root.closest(".widget-vbox") ?? root;
      keepKeys(board);
      announce();
      announcer.observe(board, { childList: true, subtree: true });
    }
    model.send({ kind: "sight", seen: entries.at(-1).isIntersecting && !document.hidden });
  });
  watcher.observe(root);
  const looked = () => model.send({ kind: "sight", seen: !document.hidden });
  document.addEventListener("visibilitychange", looked);
  return () => {
    model.off("msg:custom", onMessage);
    watcher.disconnect();
    announcer.disconnect();
    document.removeEventListener("visibilitychange", looked);
    model.send({ kind: "sight", seen: false });
  };
}

export default { render };
