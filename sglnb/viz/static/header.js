// The header line: status, the words that are the legend and filter the tokens, times, Stop.

import { clipMiddle, countOf, groupDigits, nameText, oneLine, secondsText, visible } from "./layout.js";
import { button, make, setAttr, setText } from "./dom.js";
import { waitingFor } from "./reduce_header.js";

/** Seconds after which it is told what a run waits for. */
const WORTH_TELLING = 0.5;

/** `hooks.filter(kind | null)`, `hooks.spaces(on)` and `hooks.stop()` are told what is pressed. */
export function makeHeader(model, hooks) {
  const name = make("b", { class: "name" });
  const status = make("span", { class: "status" });
  const statusWord = make("span", { role: "status" });
  const waited = make("span", { class: "number" });  // beside the status: it is not read out
  status.append(make("span", { class: "light", "aria-hidden": "true" }), statusWord, waited);
  const words = ["sampled", "cached", "forced", "select"].map((kind) => {
    const word = button("", `show only ${kind} tokens`, `word ${kind}`);
    word.dataset.kind = kind;
    setAttr(word, "aria-pressed", "false");
    return word;
  });
  const time = make("span", { class: "number" });
  const speed = make("span", { class: "number" });
  const spaces = button("¶", "show spaces and newlines", "quiet");
  setAttr(spaces, "aria-pressed", "false");
  const stop = button("Stop", "stop this run and keep its text", "stop");
  const root = make("div", { class: "head" }, name, status, ...words, time, speed,
    make("span", { class: "grow" }), spaces, stop);
  const error = make("div", { class: "error" });

  let filter = null;
  root.addEventListener("click", (event) => {
    const word = event.target.closest(".word");
    if (!word) return;
    filter = filter === word.dataset.kind ? null : word.dataset.kind;
    for (const each of words) setAttr(each, "aria-pressed", String(each.dataset.kind === filter));
    hooks.filter(filter);
  });
  spaces.addEventListener("click", () => {
    const on = spaces.getAttribute("aria-pressed") !== "true";
    setAttr(spaces, "aria-pressed", String(on));
    hooks.spaces(on);
  });
  stop.addEventListener("click", () => {
    setText(stop, "Stopping…");
    setAttr(stop, "disabled", true);
    hooks.stop();
  });

  return {
    root,
    error,
    /** `since`: seconds since the last event while the run goes on, else 0. */
    draw(head, view, { since, stoppable }) {
      setText(name, nameText(head.title || model.get("title") || head.run || "run"));
      const wait = waitingFor(head);
      const seconds = wait ? head.t1 - wait[1] + since : 0;
      const isLong = seconds >= WORTH_TELLING;
      setText(statusWord, isLong ? `${head.status} · ${clipMiddle(oneLine(wait[0]), 48)}` : head.status);
      setText(waited, isLong ? ` for ${secondsText(seconds)}` : "");
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
      setText(time, secondsText(Math.max(0, head.t1 - (head.t0 ?? 0) + since)));
      const rate = head.busy > 0 ? head.completion / head.busy : 0;
      setText(speed, rate ? `${rate < 10 ? rate.toFixed(1) : groupDigits(rate)} tok/s` : "");
      setAttr(stop, "hidden", !stoppable);
      setText(error, head.error ? `✕ ${visible(head.error)}` : "");
    },
  };
}
