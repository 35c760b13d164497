// The card for one token: what it is, how sure the model was, what else it could have been.

import { countOf, groupDigits, oneLine, percentText } from "./layout.js";
import { make } from "./dom.js";
import { KIND_WORDS, isHalf, shownText, waitText } from "./tokenlooks.js";

export function createPick({ value: { name, text, choices } }) {
  const best = Math.max(...choices.map(([, score]) => score));
  const head = make("div", { class: "small", text: `select ${oneLine(name)} · mean logprob of each choice` });
  return make("div", { class: "pick-group" }, head, ...choices.map(([choice, score]) => {
    const won = choice === text;
    return make("div", { class: `pick${won ? " won" : ""}` },
      make("span", { class: "pick-text", text: oneLine(choice) }),
      barBox(Math.exp(Math.min(0, score - best))),
      make("span", { class: "number", text: score.toFixed(2) }),
      make("span", { class: "why", text: won ? "✓ chosen" : "" }));
  }));
}

/** A horizontal bar for a share between 0 and 1. */
function barBox(share) {
  const bar = make("span", { class: "share" });
  bar.style.setProperty("--w", share.toFixed(4));
  return bar;
}

/** The card's content for the selected token of `row`. */
export function tokenCard({ token, pos, cached }, row) {
  const rows = [];
  const say = (text) => rows.push(make("div", { class: "small", text }));
  const head = make("div", { class: "card-head" },
    make("code", { text: shownText(token.piece, true).trimEnd() || "∅" }),
    make("span", { class: "small", text: `id ${token.id} · position ${groupDigits(pos)}` }));
  rows.push(head);
  const what = [KIND_WORDS[token.kind]];
  if (token.name) what.push(`for ${oneLine(token.name)}`);
  rows.push(make("div", { class: `what ${token.kind}`, text: what.join(" ") }));
  if (cached) rows.push(make("div", { class: "what is-cached", text: "its KV came from the cache" }));
  if (isHalf(token.piece)) say("a part of a character: bytes that make one together with their neighbours");
  if (token.ghosts) {
    rows.push(make("div", { class: "small" }, "in place of ",
      ...token.ghosts.map(({ piece }) => make("s", { class: "taken-back", text: shownText(piece, true) })),
      ", taken back"));
  }
  if (typeof token.logprob === "number") {
    const rank = token.top?.findIndex(([, id]) => id === token.id) ?? -1;
    rows.push(make("div", { class: "card-line" },
      make("b", { text: percentText(token.logprob) }),
      make("span", { class: "small", text: `logprob ${token.logprob.toFixed(3)}`
        + (rank >= 0 ? ` · rank ${rank + 1}` : "") })));
  } else if (token.kind === "forced") {
    say("the only way to go on: the model was not asked");
  }
  if (typeof token.entropy === "number") {
    const among = Math.exp(token.entropy);
    say(`entropy ${token.entropy.toFixed(2)} nats: as open as among ${among < 9.95 ? among.toFixed(1) : groupDigits(among)} equal tokens`);
  }
  if (typeof token.wait === "number") {
    const first = row?.tokens[pos - 1]?.rid !== token.rid;
    say(`${waitText(token.wait)} after the ${first ? "request came" : "token before it"}`);
  }
  if (typeof token.allowed === "number" && token.kind !== "forced") {
    let line = `${countOf(token.allowed, "token")} allowed here`;
    if (typeof token.mass === "number") line += ` · mask kept ${Math.round(100 * token.mass)} % of the probability`;
    say(line);
  }
  if (token.top?.length) rows.push(alternatives(token));
  if (token.kind === "select") {
    const pick = row?.picks[token.pick];
    if (pick) rows.push(createPick({ value: pick }));
  }
  return rows;
}

/** The likeliest tokens, with those that the mask took struck through, and the one that was taken. */
export function alternatives(token) {
  const { top, piece: taken, id: own, logprob: log } = token;
  const all = top.some(([, id]) => id === own) || typeof log !== "number" ? top : [...top, [taken, own, log, true]];
  return make("div", { class: "alts" }, ...all.map(([piece, id, logprob, allowed]) => {
    const taken = id === token.id;
    let why = taken ? "✓" : "";
    if (!taken && !allowed) why = token.fsm === null ? "not allowed" : `not allowed in state ${token.fsm}`;
    return make("div", { class: `alt${allowed ? "" : " masked"}${taken ? " taken" : ""}` },
      make("span", { class: "alt-text", text: shownText(piece, true).trimEnd() }),
      barBox(Math.exp(Math.min(0, logprob ?? -99))),
      make("span", { class: "number", text: percentText(logprob) }),
      make("span", { class: "why", text: why }));
  }));
}
