// The least that drawing needs: elements, and writes only where something changed.
// Text goes in by textContent alone.

const SVG_NS = "http://www.w3.org/2000/svg";

/** An element with attributes; `text` and `class` are spelt so; children are appended. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG_NS, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const name in attributes) {
    if (name === "text") element.textContent = attributes[name];
    else setAttr(element, name, attributes[name]);
  }
  element.append(...children);
  return element;
}

/** Set an attribute if it differs; null or false removes it. */
export function setAttr(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Keep one child of `parent` per item, by key, in order: existing ones are reused.
 * `create(item)` makes an element, `update(element, item)` brings it up to date.
 */
export function keyed(parent, store, items, keyOf, create, update) {
  const wanted = new Set(items.map(keyOf));
  for (const [key, element] of store) {
    if (wanted.has(key)) continue;
    element.remove();
    store.delete(key);
  }
  let at = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let element = store.get(key);
    if (!element) {
      element = create(item);
      store.set(key, element);
    }
    update(element, item);
    if (element === at) at = at.nextSibling;
    else parent.insertBefore(element, at);
  }
}

/** A name that nothing else in the page has: each view runs a copy of these modules of its own. */
export const uniqueName = () => `sglnb-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Play a short animation once, unless the person asked for less motion. */
export function animate(element, frames, ms) {
  if (!calm() && element.animate) element.animate(frames, { duration: ms, easing: "ease-out" });
}

/**
 * Keep keys that are pressed inside `root` from the notebook, where a stray "b" would insert a
 * cell. JupyterLab hears them when they bubble up to the document; Notebook 7 hears them first,
 * and only spares an element that is marked itself.
 */
export function keepKeys(root) {
  root.addEventListener("focusin", (event) => setAttr(event.target, "data-lm-suppress-shortcuts", "true"));
  root.addEventListener("keydown", (event) => event.stopPropagation());
}

/** One Tab stop among `items`: `current` gets tabindex 0, the one before it loses it. */
export function rove(store, current) {
  if (store.current === current) return;
  store.current?.setAttribute("tabindex", "-1");
  current?.setAttribute("tabindex", "0");
  store.current = current;
}

/** The words that tell what one is looking at: a `?` and what it unfolds, `[ask, text]`. */
export function makeHelp(name, words) {
  const text = make("p", { class: "small help", text: words, hidden: true });
  const ask = button("?", `what am I looking at: ${name}`, "quiet ask");
  const show = (on) => {
    setAttr(text, "hidden", !on);
    setAttr(ask, "aria-expanded", String(on));
  };
  ask.addEventListener("click", () => show(text.hasAttribute("hidden")));
  ask.addEventListener("keydown", (event) => { if (event.key === "Escape") show(false); });
  show(false);
  return [ask, text];
}

export function button(text, label, className = "") {
  return make("button", { type: "button", text, "aria-label": label, title: label, class: className });
}
