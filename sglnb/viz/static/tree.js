// The tree pane: the radix tree of cached prefixes, left to right.

import { make, makeSvg, setAttr, setText, keyed, animate, rove } from "./dom.js";
import { clipMiddle, countOf, groupDigits, nodeText, oneLine, outline, pathTo, treeLayout, treeTotals, visible }
  from "./layout.js";
import { nodeTokens } from "./reduce_tree.js";

const GHOST_SECONDS = 2;
const LABELS = [44, 34, 26, 20, 14];

export function makeTreePane(hooks) {
  const svg = makeSvg("svg", { class: "tree-svg", role: "tree", "aria-label": "radix tree of cached prefixes" });
  const dot = makeSvg("circle", { class: "root-dot", r: 3.5 });
  const layer = makeSvg("g");
  svg.append(dot, layer);
  const scroll = make("div", { class: "tree-scroll" }, svg);
  const root = make("div", { class: "tree" }, scroll);
  const groups = new Map();
  const stop = { current: null };
  let boxes = [];
  let now = 0;
  let live = false;

  const groupOf = (event) => event.target.closest?.(".node");
  const pick = (event) => {
    const group = groupOf(event);
    if (group?.sglBox.node) hooks.select({ kind: "node", node: group.sglBox.item.node }, group);
  };
  svg.addEventListener("pointerover", pick);
  svg.addEventListener("pointerleave", () => hooks.select(null));
  svg.addEventListener("focusin", (event) => {
    pick(event);
    const group = groupOf(event);
    if (group) rove(stop, group);
  });
  svg.addEventListener("focusout", () => hooks.select(null));
  svg.addEventListener("keydown", (event) => {
    const group = groupOf(event);
    const next = group && neighbour(group.sglBox, event.key);
    if (next) {
      event.preventDefault();
      groups.get(next.key).focus();
    } else if (event.key === "Escape") hooks.select(null);
  });

  function neighbour(box, key) {
    const above = boxes.find((each) => each.item.node === box.item.parent);
    const level = above ? above.kids : boxes.filter((each) => each.item.parent === 0);
    const at = level.indexOf(box);
    const flat = boxes.indexOf(box);
    switch (key) {
      case "ArrowLeft": return above;
      case "ArrowRight": return box.kids[0];
      case "ArrowDown": return level[at + 1] ?? boxes.slice(flat + 1).find((each) => each.y > box.y);
      case "ArrowUp": return level[at - 1] ?? boxes.slice(0, flat).reverse().find((each) => each.y < box.y);
      case "Home": return boxes[0];
      case "End": return boxes.at(-1);
      default: return null;
    }
  }

  function create(box) {
    const group = makeSvg("g", { class: "node", role: "treeitem", tabindex: "-1" },
      makeSvg("path", { class: "edge" }),
      makeSvg("rect", { class: "target", height: 30, rx: 4 }),
      makeSvg("text", { class: "label" }),
      makeSvg("text", { class: "meta" }),
      makeSvg("circle", { class: "dot", r: 4 }));
    if (live && box.node) animate(group, [{ opacity: 0, transform: "translateX(-14px)" }, {}], 260);
    return group;
  }

  function update(group, box) {
    const [edge, target, label, meta, circle] = group.children;
    const { node, item } = box;
    const hits = node ? node.hits : 0;
    if (live && group.sglBox && hits > group.sglBox.hits) {
      animate(edge, [{ strokeOpacity: 1, stroke: "var(--cached)", strokeWidth: 5 }, {}], 700);
    }
    group.sglBox = box;
    box.hits = hits;
    const ghost = node?.evicted !== null && node?.evicted !== undefined;
    const faded = ghost && (!live || now - node.evicted > GHOST_SECONDS);
    const classes = ["node", !node && "more", ghost && "ghost", faded && "faded",
      node?.locks > 0 && !ghost && "locked"].filter(Boolean);
    for (const mark of ["lit", "tip"]) if (group.classList.contains(mark)) classes.push(mark);
    setAttr(group, "class", classes.join(" "));
    const { x0, y0, x1, y } = box;
    const bend = x0 + 20;
    setAttr(edge, "d", `M${x0} ${y0}C${x0 + 14} ${y0} ${x0 + 6} ${y} ${bend} ${y}H${x1}`);
    edge.style.strokeWidth = String(1.25 + Math.min(3.5, 0.8 * Math.log2(1 + hits)));
    setAttr(target, "x", bend);
    setAttr(target, "y", y - 16);
    setAttr(target, "width", Math.max(0, x1 - bend + 6));
    for (const [element, dy, text] of [[label, -6, box.label], [meta, 13, box.meta]]) {
      setAttr(element, "x", bend + 4);
      setAttr(element, "y", y + dy);
      setText(element, text);
    }
    setAttr(circle, "cx", x1);
    setAttr(circle, "cy", y);
    setAttr(circle, "visibility", node ? null : "hidden");
    setAttr(group, "aria-level", item.depth);
    setAttr(group, "aria-label", node ? nodeWords(node) : `${box.label}, ${box.meta}, not shown`);
  }

  return {
    root,
    totals: { nodes: 0, tokens: 0 },
    draw(view, options) {
      live = options.live;
      now = view.header.t1;
      this.totals = treeTotals(view.tree);
      const items = outline(view.tree, options.keep);
      const plan = fitLayout(view.tree, items, scroll.clientWidth);
      boxes = plan.boxes;
      setAttr(svg, "width", Math.ceil(plan.width));
      setAttr(svg, "height", plan.height);
      setAttr(dot, "cx", 12);
      setAttr(dot, "cy", plan.rootY);
      keyed(layer, groups, boxes, (box) => box.key, create, update);
      if (!stop.current?.isConnected) rove(stop, layer.firstChild);
      return items.length;
    },
    /** Light a path of node ids; `tip` is the one that holds what is pointed at. */
    light(path, tip) {
      const on = new Set(path);
      svg.classList.toggle("lighting", on.size > 0);
      for (const group of groups.values()) {
        const { node } = group.sglBox.item;
        group.classList.toggle("lit", on.has(node));
        group.classList.toggle("tip", node !== undefined && node === tip);
      }
      if (tip === undefined || root.contains(document.activeElement) || root.matches(":hover")) return;
      const box = boxes.find((each) => each.item.node === tip);
      if (!box) return;
      const left = box.x0 - 20;
      if (left < scroll.scrollLeft || box.x1 > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = left;
      if (box.y < scroll.scrollTop || box.y + 20 > scroll.scrollTop + scroll.clientHeight) {
        scroll.scrollTop = box.y - scroll.clientHeight / 2;
      }
    },
  };
}

/** The drawing with labels as long as the width allows. */
function fitLayout(tree, items, width) {
  for (const label of LABELS) {
    const plan = treeLayout(tree, items, label);
    if (plan.width <= width) return plan;
  }
  return treeLayout(tree, items, LABELS.at(-1));
}

function nodeWords(node) {
  const words = [clipMiddle(oneLine(nodeText(node)), 80), countOf(nodeTokens(node), "token"),
    countOf(node.hits, "hit")];
  if (node.locks > 0) words.push(`in use by ${node.locks}`);
  if (node.evicted !== null) words.push(`evicted (${node.why})`);
  return words.join(", ");
}

/** The card for one node. */
export function nodeCard(view, key) {
  const node = view.tree.nodes[key];
  const path = pathTo(view.tree, key);
  const before = path.slice(0, -1).reduce((sum, each) => sum + nodeTokens(view.tree.nodes[each]), 0);
  const size = nodeTokens(node);
  const facts = [
    `${countOf(size, "token")} · positions ${groupDigits(before)} to ${groupDigits(before + size - 1)}`,
    `reused ${countOf(node.hits, "time")}`,
  ];
  if (node.evicted !== null) facts.push(node.why === "flush" ? "flushed" : "evicted to make room");
  else facts.push(node.locks > 0 ? `in use by ${countOf(node.locks, "request")}: cannot be evicted` : "free to be evicted when room is needed");
  return [
    make("pre", { class: "card-text", text: visible(clipMiddle(nodeText(node), 400)) }),
    ...facts.map((text) => make("div", { class: "small", text })),
  ];
}
