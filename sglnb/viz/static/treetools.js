// Around the tree: search, order, one request's path; the details of a node; and the boxes that
// ask the kernel why a text missed and what an edit would throw away.

import { make, setAttr, setText, keyed } from "./dom.js";
import { clipMiddle, countOf, groupDigits, nameText, nodeText, oneLine, pathTo, rowLabel, visible } from "./layout.js";
import { nodeTokens } from "./reduce_tree.js";
import { ORDERS, editWords, goneWords, missWords, requestsThrough, whenWords, wholeText } from "./treewords.js";

const COPIED_MS = 1500;
const MARKS = [["using", "in use"], ["pinned", "pinned"], ["held", "held by a pin below"], ["fresh", "new"],
  ["reused", "reused"], ["ghost", "evicted"]];

function toolButton(text, act) {
  const element = make("button", { type: "button", class: "do", text });
  element.addEventListener("click", act);
  return element;
}

/** The line above the tree. `changed()` is called when something was chosen. */
export function makeTreeTools(changed) {
  const find = make("input", { type: "search", placeholder: "find text", "aria-label": "find text in the tree" });
  const found = make("span", { class: "small number", role: "status" });
  const order = make("select", { "aria-label": "order of siblings", title: "order of siblings" },
    ...Object.entries(ORDERS).map(([value, text]) => make("option", { value, text })));
  const request = make("select", { "aria-label": "highlight a request's path", title: "highlight a request's path" });
  const marks = make("span", { class: "tree-marks small" }, ...MARKS.map(([name, text]) =>
    make("span", { class: name, hidden: true }, make("i", { "aria-hidden": "true" }), text)));
  const root = make("div", { class: "tree-tools" }, find, found, order, request, marks);
  const options = new Map();
  find.addEventListener("input", changed);
  order.addEventListener("change", changed);
  request.addEventListener("change", changed);
  find.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && find.value) {
      find.value = "";
      changed();
    }
  });
  return {
    root,
    get query() { return find.value.trim(); },
    get order() { return order.value; },
    get request() { return request.value; },
    /** Which requests can be chosen: `[id, name]` each. */
    offer(requests) {
      setAttr(request, "hidden", !requests.length);
      const items = [["", "all requests"], ...requests];
      keyed(request, options, items, ([rid]) => rid, ([rid]) => make("option", { value: rid }),
        (element, [, text]) => setText(element, text));
    },
    found(count) {
      setText(found, find.value.trim() ? countOf(count, "edge") : "");
    },
    /** Show only those entries of the legend that occur. */
    legend(present) {
      for (const mark of marks.children) setAttr(mark, "hidden", !present.has(mark.className));
    },
  };
}

/** What is known of one node. `asker` is the view's, `changed()` redraws, `closed(node)` is called
 * when the person is done with it. */
export function makeNodeDetails(asker, closed) {
  const title = make("span", { class: "details-title" });
  const close = toolButton("×", () => hide(true));
  setAttr(close, "aria-label", "close the details");
  const text = make("pre", { class: "edge-text", role: "group", tabindex: "0", "aria-label": "text of this edge" });
  const facts = make("div", { class: "facts" });
  const copy = toolButton("Copy as prompt", copyPrompt);
  const pin = toolButton("Pin", () => command(pin.dataset.what));
  const evict = toolButton("Evict", () => command("evict"));
  const said = make("span", { class: "small", role: "status" });
  const root = make("div", { class: "node-details", role: "region", "aria-label": "node details", hidden: true },
    make("div", { class: "details-head" }, title, make("span", { class: "grow" }), close), text, facts,
    make("div", { class: "details-acts" }, copy, pin, evict, said));
  const lines = new Map();
  let key = null;
  let known = null; // the kernel's word on the node
  root.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(true); });

  function hide(back) {
    const was = key;
    key = null;
    setAttr(root, "hidden", true);
    if (was !== null && back) closed(was);
  }

  async function learn() {
    if (!asker?.ready) return;
    const asked = key;
    try {
      const answer = await asker.ask("node", { node: asked }, () => {});
      if (asked !== key) return;
      known = answer;
      setText(text, visible(answer.text));
    } catch {
      known = null; // gone from the cache: what the picture tells still stands
    }
  }

  async function command(what) {
    const node = key;
    setText(said, "…");
    try {
      const { told } = await asker.ask(what, { node }, (words) => setText(said, words));
      setText(said, told);
    } catch (error) {
      setText(said, error.message);
    }
    if (node === key) learn();
    if (!root.contains(document.activeElement) || document.activeElement.hidden) close.focus();
  }

  async function copyPrompt() {
    try {
      const prompt = asker?.ready ? (await asker.ask("node", { node: key }, (words) => setText(said, words))).prompt
        : copy.dataset.prompt;
      setText(said, await copyText(prompt, root) ? "copied" : "copying is not allowed here: the text is selected, press Ctrl+C");
    } catch (error) {
      setText(said, error.message);
    }
    setTimeout(() => { if (said.textContent === "copied") setText(said, ""); }, COPIED_MS);
  }

  return {
    root,
    get node() { return key; },
    open(node) {
      if (node !== key) {
        known = null;
        setText(said, "");
      }
      key = node;
      learn();
    },
    hide,
    draw(view, sums, state, since) {
      const node = key === null ? null : view.tree.nodes[key];
      if (!node) return hide(false);
      setAttr(root, "hidden", false);
      const path = pathTo(view.tree, key);
      const above = path.slice(0, -1).reduce((sum, each) => sum + nodeTokens(view.tree.nodes[each]), 0);
      const size = nodeTokens(node);
      const now = view.now ?? view.header.t1;
      const here = state(node);
      setText(title, `${countOf(size, "token")} · positions ${groupDigits(above)} to ${groupDigits(above + size - 1)}`);
      if (!known || known.node !== key) setText(text, visible(wholeText(view, key) ?? nodeText(node)));
      const sum = sums.get(key) ?? { nodes: 0, tokens: 0 };
      const total = view.tree.total_slots;
      const share = total ? `, ${(100 * sum.tokens / total).toFixed(1)} % of the pool` : "";
      const { now: using, ever } = requestsThrough(view.tree, key);
      const names = (rids) => oneLine(rids.slice(0, 4).map((rid) => requestName(view, rid)).join(", "))
        + (rids.length > 4 ? ` and ${rids.length - 4} more` : "");
      const items = [
        ["created", whenWords(node.created, now, since)],
        ["last used", whenWords(node.last_used, now, since)],
        ["reused", countOf(node.hits, "time")],
        ["in use by", here.using ? names(using.length ? using : known?.requests ?? []) || countOf(here.using, "request") : ""],
        ["pinned", here.pinned ? countOf(node.pins, "pin") : here.held ? "by a pin below" : ""],
        ["of requests", ever.length ? names(ever) : ""],
        ["from here on", sum.nodes > 1 ? `${countOf(sum.nodes, "node")}, ${countOf(sum.tokens, "token")}${share}` : ""],
        ["gone", here.ghost ? `${goneWords(node)}, ${whenWords(node.evicted, now, since)}` : ""],
      ].filter(([, words]) => words);
      keyed(facts, lines, items, ([name]) => name, ([name]) => make("div", {},
        make("span", { class: "fact", text: name }), make("span", {})), (element, [, words]) => setText(element.lastChild, words));
      const alive = !here.ghost && Boolean(asker?.ready);
      setText(pin, here.pinned ? "Unpin" : "Pin");
      pin.dataset.what = here.pinned ? "unpin" : "pin";
      setAttr(pin, "hidden", !alive);
      setAttr(evict, "hidden", !alive);
      const prompt = path.map((each) => wholeText(view, each));
      const whole = prompt.every((part) => part !== null && !part.includes("\uFFFD"));
      copy.dataset.prompt = whole ? prompt.join("") : "";
      setAttr(copy, "hidden", !alive && !whole);
    },
  };
}

/** A request's name for people: its state and what it makes there. */
export function requestName(view, rid) {
  const bar = view.branches?.bars[rid];
  if (!bar) return rid;
  const row = view.branches.rows[bar.row];
  const what = nameText(bar.name || bar.purpose);
  const name = row ? rowLabel(row, what) : what;
  return name.startsWith(what) ? name : `${name} · ${what}`;
}

async function copyText(text, root) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // not in a sandboxed frame, nor without a secure context
    const area = make("textarea", { class: "copy", "aria-label": "text to copy" });
    area.value = text;
    root.append(area);
    area.select();
    const done = document.execCommand("copy");
    if (done) area.remove();
    else area.addEventListener("blur", () => area.remove());
    return done;
  }
}

/** The box under the tree; `draw(typed)` draws the path of an answer, null takes it away. */
export function makeMissBox(asker, draw) {
  const area = (label, rows) => make("textarea", { rows, spellcheck: "false", "aria-label": label, placeholder: label });
  const prompt = area("a prompt, as the model gets it", 2);
  const edited = area("the same prompt after an edit", 2);
  const why = toolButton("Why did this miss?", askWhy);
  const cost = toolButton("What would this edit throw away?", askCost);
  const answer = make("div", { class: "answer", role: "status" });
  const root = make("details", { class: "miss", hidden: true }, make("summary", { text: "why did this miss?" }),
    make("div", { class: "miss-form" }, prompt, why, edited, cost), answer);
  for (const [field, act] of [[prompt, askWhy], [edited, askCost]]) {
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) act();
    });
  }
  root.addEventListener("toggle", () => { if (!root.open) draw(null); });

  async function question(what, args, tell) {
    if (!prompt.value) {
      answer.replaceChildren("Type or paste a prompt first; a node's details have “Copy as prompt”.");
      return prompt.focus();
    }
    answer.replaceChildren("…");
    try {
      answer.replaceChildren(...tell(await asker.ask(what, args, (words) => answer.replaceChildren(words))));
    } catch (error) {
      answer.replaceChildren(make("span", { class: "error", text: error.message }));
    }
  }

  function askWhy() {
    return question("why_miss", { text: prompt.value }, (miss) => {
      draw({ path: miss.path, cached: miss.cached, whole: miss.reason === "cached" });
      return missAnswer(miss);
    });
  }

  function askCost() {
    return question("cost_of_edit", { old: prompt.value, new: edited.value }, (edit) => {
      draw({ path: edit.path, cached: edit.kept, whole: !edit.lost });
      return editAnswer(edit);
    });
  }

  return {
    root,
    draw() { setAttr(root, "hidden", !asker?.ready); },
  };
}

function missAnswer(miss) {
  const out = [make("div", { text: visible(missWords(miss)) })];
  if (miss.reason === "cached") return out;
  const side = (title, texts, className) => make("div", { class: `side ${className}` },
    make("span", { class: "small", text: title }),
    ...(texts.length ? texts : [""]).slice(0, 4).map((text) =>
      make("code", { text: text ? oneLine(text) : "nothing" })));
  out.push(make("div", { class: "sides" },
    make("code", { class: "before", text: clipMiddle(oneLine(miss.before), 40) }),
    side("your text", [miss.token], "asked"), side("the cache", miss.instead, "stored")));
  return out;
}

function editAnswer(edit) {
  const all = Math.max(1, edit.kept + edit.lost + edit.compute);
  const parts = [["kept", edit.kept, "kept"], ["lost", edit.lost, "thrown away"], ["compute", edit.compute, "to compute"]];
  const bar = make("div", { class: "edit-bar", "aria-hidden": "true" }, ...parts.map(([name, n]) => {
    const part = make("i", { class: name });
    part.style.width = `${100 * n / all}%`;
    return part;
  }));
  const words = make("div", { class: "small" }, parts.map(([, n, text]) => `${groupDigits(n)} ${text}`).join(" · "));
  return [make("div", { text: editWords(edit) }), bar, words];
}
