// How one token looks and which words tell of it: its text, its kind, what the colours measure.

import { countOf, oneLine, percentText, secondsText, visible } from "./layout.js";
import { make, setAttr, setText } from "./dom.js";

const LONGEST = 400;
const SPECIAL = /^(<\|[^|]*\|>|<\/?s>|<(bos|eos|pad|unk)>)$/;
const LINE_END = /^\n+$/; // no letter: nothing to point at, were it not given a width
const HALF = /⟨[89A-F][0-9A-F]⟩/; // a byte that is no character alone
const OPEN = 5; // nats: as among 148 tokens
const SLOWEST = 3; // decades of milliseconds: a second

export const KIND_WORDS = {
  prompt: "prompt",
  sampled: "sampled",
  forced: "forced by the constraint",
  closing: "written to end in time: max_tokens ran out",
  retokenized: "other tokens for text that was there",
  select: "chosen by select",
};

/** What the tokens can be coloured by. `of(token)` is how high its bar stands, 0 to 1, or null
 * where there is nothing to measure; `ends` says what no bar and a full bar mean. */
export const MODES = {
  type: { hint: "sampled, forced, cached, …" },
  probability: {
    hint: "how probable the model found the token, before temperature and mask", ends: ["0 %", "100 %"],
    of: ({ logprob }) => (typeof logprob === "number" ? Math.exp(Math.min(0, logprob)) : null),
  },
  entropy: {
    hint: "how open the choice was: the entropy of the model's distribution, before temperature and mask",
    ends: ["0, one way to go", `${OPEN} nats, as among ${Math.round(Math.exp(OPEN))} tokens`],
    of: ({ entropy }) => (typeof entropy === "number" ? Math.max(0, Math.min(1, entropy / OPEN)) : null),
  },
  latency: {
    hint: "time since the token before, on a logarithmic scale", ends: ["1 ms", "1 s"],
    of: ({ wait }) => (typeof wait === "number"
      ? Math.max(0, Math.min(1, Math.log10(1000 * wait) / SLOWEST)) || 0 : null),
  },
};

export function shownText(piece, spaces) {
  if (piece === "") return "∅";
  let text = piece.length > LONGEST ? `${Array.from(piece.slice(0, LONGEST)).join("")}…` : piece;
  text = visible(text);
  if (!spaces) return text;
  return text.replaceAll(" ", "·").replaceAll("\n", "⏎\n").replaceAll("\t", "⇥\t");
}

export const isHalf = (piece) => HALF.test(piece);

export const waitText = (seconds) => (seconds < 0.0005 ? "< 1 ms" : secondsText(seconds));

/** A token's name for a screen reader, which tells what `mode` shows. */
export function tokenLabel(token, cached, mode) {
  const words = [oneLine(token.piece.slice(0, 60)) || "empty", KIND_WORDS[token.kind]];
  const p = percentText(token.logprob);
  if (p) words.push(p);
  if (mode === "entropy" && typeof token.entropy === "number") words.push(`entropy ${token.entropy.toFixed(2)} nats`);
  if (mode === "latency" && typeof token.wait === "number") words.push(`after ${waitText(token.wait)}`);
  if (cached) words.push("cached");
  if (token.ghosts) words.push(`in place of ${countOf(token.ghosts.length, "token")}`);
  return words.join(", ");
}

/**
 * Bring the element of one token up to date. `look` has `cached` (its KV came from the cache),
 * `from` and `until` (a run of cached ones begins or ends here), `found` (by the search), and
 * `spaces`, `ghosts` and `mode` (what the pane shows).
 */
export function paintToken(span, token, look) {
  const { cached, from, until, found, spaces, ghosts, mode } = look;
  const key = `${cached}${from}${until}${found}${spaces}${ghosts}${mode}`;
  if (span.sglToken === token && span.sglLook === key) return;
  span.sglToken = token;
  span.sglLook = key;
  span.sglCached = cached;
  const share = MODES[mode].of?.(token) ?? null;
  const lit = span.classList.contains("lit");
  span.className = ["tok", token.kind, cached && "cached", from && "from", until && "until",
    SPECIAL.test(token.piece) && "special", LINE_END.test(token.piece) && "line-end", isHalf(token.piece) && "half", found && "found",
    share !== null && "measured", lit && "lit"].filter(Boolean).join(" ");
  const p = token.kind === "sampled" ? MODES.probability.of(token) ?? 0.5 : null;
  span.style.cssText = (p === null ? "" : `--p: ${p.toFixed(3)};`)
    + (share === null ? "" : `--v: ${share.toFixed(3)}`);
  const text = shownText(token.piece, spaces);
  if (ghosts && token.ghosts) {
    span.replaceChildren(...token.ghosts.map(({ piece }) =>
      make("s", { class: "taken-back", "aria-hidden": "true", text: shownText(piece, spaces) })), text);
  } else setText(span, text);
  setAttr(span, "aria-label", tokenLabel(token, cached, mode));
}
