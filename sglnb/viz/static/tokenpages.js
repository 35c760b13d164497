// One text of many tokens as pages: blocks, of which only those near the window hold elements.
//
// A page ends after a newline where there is one, so that mostly no line is cut short for it. The
// others are empty blocks of the height they had, or are thought to have.

import { make, setAttr } from "./dom.js";
import { paintToken } from "./tokenlooks.js";

const SHORT = 200; // tokens: a page ends behind the next newline,
const LONG = 300; // before the next space,
const LONGEST_PAGE = 400; // in any case
const LINE = 25; // pixels, as in view.css

/** Whether a page of `size` tokens that ends with `last` ends before `next`. */
export function pageEnds(size, last, next) {
  return size >= LONGEST_PAGE || (size >= SHORT && last.piece.endsWith("\n"))
    || (size >= LONG && /^\s/.test(next.piece));
}

/** Lines that `tokens[from..to]` take in `columns` characters. */
export function linesOf(tokens, from, to, columns) {
  let lines = 1;
  let at = 0;
  for (let i = from; i < to; i++) {
    const { piece } = tokens[i];
    const newline = piece.lastIndexOf("\n");
    if (newline >= 0) {
      lines += piece.split("\n").length - 1;
      at = piece.length - newline - 1;
    } else if (at + piece.length > columns) {
      lines += Math.max(1, Math.floor(piece.length / columns));
      at = piece.length % columns;
    } else at += piece.length;
  }
  return lines;
}

/** The pages of one text in the element `flow`, between `head` and `tail`. */
export class TokenPages {
  constructor(flow, head, tail) {
    this.flow = flow;
    this.head = head;
    this.tail = tail;
    this.pages = [];
    this.known = []; // the token records that the pages stand for, by position
    this.start = 0;
    this.key = "";
    this.label = "tokens";
  }

  /** The position behind the last token. */
  get end() {
    return this.known.length;
  }

  /** Call the list `label`. */
  name(label) {
    this.label = label;
    for (const { list } of this.pages) setAttr(list, "aria-label", label);
  }

  /** Stand for the tokens of `row` from `start` on. `key` names the text in what is selected,
   * `lookOf(pos)` is how a token looks; `changed` says that looks may have. */
  update(row, start, lookOf, changed) {
    const { shown, tokens } = row;
    this.key = row.state;
    this.lookOf = lookOf;
    if (start !== this.start) this.#cut(0);
    this.start = start;
    // Records change from some place to the end only: see reduce_tokens.py.
    let same = Math.min(this.known.length, shown);
    while (same > start && this.known[same - 1] !== tokens[same - 1]) same--;
    if (same < this.known.length) this.#cut(same);
    if (changed) this.repaint();
    if (!this.pages.length) {
      this.known = tokens.slice(0, start);
      if (shown <= start && this.head.parentNode !== this.flow) this.flow.replaceChildren(this.head, this.tail);
    }
    const first = this.pages.length - 1;
    for (let pos = Math.max(start, this.known.length); pos < shown; pos++) this.#add(tokens[pos], pos);
    for (const page of this.pages.slice(Math.max(0, first))) this.#grown(page);
  }

  #add(token, pos) {
    let page = this.pages.at(-1);
    if (!page || pageEnds(page.to - page.from, this.known[pos - 1], token)) {
      // Only options may stand in a list box: the button that unfolds and the tail stand beside it.
      const list = make("span", { role: "listbox", "aria-orientation": "horizontal", "aria-label": this.label, hidden: true });
      page = { owner: this, element: make("div", { class: "page" }, list), list, from: pos, to: pos,
        spans: null, drawn: 0, height: null };
      if (!this.pages.length) this.flow.replaceChildren(page.element);
      else this.flow.append(page.element);
      if (!this.pages.length) page.element.prepend(this.head);
      page.element.append(this.tail);
      this.pages.push(page);
    }
    this.known.push(token);
    page.to = pos + 1;
    page.height = null;
  }

  /** Drop what stands for the tokens from position `pos` on. */
  #cut(pos) {
    while (this.pages.length && this.pages.at(-1).from >= pos) this.pages.pop().element.remove();
    this.known.length = Math.min(this.known.length, pos);
    const page = this.pages.at(-1);
    if (!page) return;
    page.to = Math.min(page.to, pos);
    page.height = null;
    page.element.append(this.tail);
    page.spans?.splice(page.to - page.from).forEach((span) => span.remove());
  }

  #grown(page) {
    if (page.spans) this.#paintNew(page);
    else this.#reserve(page);
  }

  #paintNew(page) {
    const added = document.createDocumentFragment();
    for (let pos = page.from + page.spans.length; pos < page.to; pos++) {
      const span = make("span", { tabindex: "-1", role: "option" });
      span.sglPages = this;
      span.sglPos = pos;
      paintToken(span, this.known[pos], this.lookOf(pos));
      page.spans.push(span);
      added.append(span);
    }
    if (!added.childNodes.length) return;
    page.list.append(added);
    setAttr(page.list, "hidden", false);
  }

  repaint() {
    for (const page of this.pages) {
      page.spans?.forEach((span, i) => paintToken(span, this.known[page.from + i], this.lookOf(page.from + i)));
    }
  }

  /** Give an empty page the height that its text takes. */
  #reserve(page) {
    const columns = this.columns ?? 80;
    const height = page.height ?? LINE * linesOf(this.known, page.from, page.to, columns);
    page.element.style.height = `${height}px`;
  }

  /** Think anew of the heights: the text has `columns` characters a line now. */
  reflow(columns) {
    this.columns = columns;
    for (const page of this.pages) {
      page.height = null;
      if (!page.spans) this.#reserve(page);
    }
  }

  /** Put a page's tokens in, and return the new elements. */
  fill(page) {
    if (page.spans) return [];
    page.spans = [];
    page.element.style.height = "";
    this.#paintNew(page);
    return page.spans;
  }

  /** Take a page's tokens out; it keeps its `height`. */
  empty(page, height) {
    page.height = height;
    page.spans.forEach((span) => span.remove());
    page.spans = null;
    setAttr(page.list, "hidden", true);
    this.#reserve(page);
  }

  pageAt(pos) {
    return this.pages.find((page) => pos < page.to);
  }

  /** What a screen reader says of where the token is; only one of them is read at a time. */
  place(span) {
    setAttr(span, "aria-posinset", span.sglPos - this.start + 1);
    setAttr(span, "aria-setsize", this.end - this.start);
  }
}
