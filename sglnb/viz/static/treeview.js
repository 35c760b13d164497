// The cache's tree alone: what `engine.cache.snapshot()` shows. The trait `saved` holds its events;
// after each command the kernel sends what the tree went through since.

import { TREE_STEPS, initialTree } from "./reduce_tree.js";
import { makeDecoder } from "./wire.js";
import { countOf, groupDigits, oneLine, pathTo, poolWords } from "./layout.js";
import { keepKeys, make, makeHelp, setAttr, setText } from "./dom.js";
import { makeAsker } from "./ask.js";
import { makeCard } from "./card.js";
import { makeTreePane, nodeCard } from "./tree.js";

export function render({ model, el }) {
  const root = make("div", { class: "sglnb", role: "region", "aria-label": "cache" });
  const card = makeCard(root);
  const name = make("b", { class: "name" });
  const info = make("span", { class: "small number" });
  const empty = make("div", { class: "small", text: "the cache is empty" });
  let view = { tree: initialTree(), now: 0 };
  let decode = makeDecoder();
  let last = -2;
  let dirty = false;
  const asker = makeAsker(model, () => schedule());
  const pane = makeTreePane({
    asker,
    redraw: () => schedule(),
    select(next, anchor) {
      const node = next && view.tree.nodes[next.node] ? next.node : undefined;
      pane.light(node === undefined ? [] : pathTo(view.tree, node), node);
      if (node === undefined) card.hide();
      else card.show(nodeCard(view, node), anchor);
    },
  });
  const [ask, help] = makeHelp("the cache", pane.help);
  root.append(make("div", { class: "head" }, name, ask, info), help, empty, pane.root, card.element);
  el.append(root);

  function schedule() {
    if (dirty) return;
    dirty = true;
    requestAnimationFrame(() => {
      dirty = false;
      draw();
    });
  }

  function draw() {
    const shown = pane.draw(view, { live: false });
    const { nodes, tokens } = pane.totals;
    setText(name, oneLine(model.get("title") || "cache"));
    setText(info, `${countOf(nodes, "node")} · ${countOf(tokens, "token")}${poolWords(view.tree)}`
      + (view.tree.evicted_nodes ? ` · ${groupDigits(view.tree.evicted_nodes)} evicted since` : ""));
    setAttr(empty, "hidden", shown > 0);
  }

  function take(wires) {
    for (const wire of wires) {
      if (wire.s <= last) continue;
      const event = decode(wire);
      TREE_STEPS[event.kind]?.(view.tree, event);
      view.now = event.t;
      last = wire.s;
    }
    schedule();
  }

  function restore() {
    view = { tree: initialTree(), now: 0 };
    decode = makeDecoder();
    last = -2;
    take(JSON.parse(model.get("saved") || "[]"));
  }

  const onMessage = (message) => {
    asker.receive(message);
    if (message?.kind === "events") take(JSON.parse(message.json));
  };
  const onSaved = () => restore();
  model.on("msg:custom", onMessage);
  model.on("change:saved", onSaved);
  keepKeys(root);
  const watcher = new ResizeObserver(() => schedule());
  watcher.observe(root);
  restore();
  draw();
  return () => {
    model.off("msg:custom", onMessage);
    model.off("change:saved", onSaved);
    watcher.disconnect();
    asker.close();
    card.close();
  };
}

export default { render };
