// The tree pane: the radix tree of cached prefixes, left to right.

import { make, makeSvg, setAttr, setText, keyed, animate, rove } from "./dom.js";
import { clipMiddle, countOf, fittingLabel, groupDigits, nodeText, outline, pathTo, treeLayout, treeTotals, visible }
  from "./layout.js";
import { nodeTokens } from "./reduce_tree.js";
import { makeMissBox, makeNodeDetails, makeTreeTools, requestName } from "./treetools.js";
import { goneWords, nodeState, searchTree, siblingOrder, stateMeta, stateWords, treeSums, typedParts }
  from "./treewords.js";

const GHOST_SECONDS = 2;
const LABELS = [44, 34, 26, 20, 14];
const TREE_HELP = "This is what the engine remembers: texts that begin alike share their beginning, and each line "
  + "is a stretch of tokens whose keys and values are kept. A prompt that begins with a path of the tree skips "
  + "computing that part (green, and the thicker the more often it was reused). A filled dot is in use and cannot "
  + "go, a pin stays until it is unpinned, and a dashed line was evicted to make room.";
const PIN = "M-3 -14h6l-1 5 2.5 2.5h-9l2.5 -2.5zM0 -6.5v4";

/** `hooks.asker` asks the kernel (see ask.js); without one there is only what the log tells. */
export function makeTreePane(hooks) {
  const svg = makeSvg("svg", { class: "tree-svg", role: "tree", "aria-label": "radix tree of cached prefixes" });
  const dot = makeSvg("circle", { class: "root-dot", r: 3.5 });
  const layer = makeSvg("g");
  const cross = makeSvg("path", { class: "typed-end", d: "M-5 -5L5 5M-5 5L5 -5", visibility: "hidden" });
  svg.append(dot, layer, cross);
  const scroll = make("div", { class: "tree-scroll" }, svg);
  const tools = makeTreeTools(() => hooks.redraw(true));
  const details = makeNodeDetails(hooks.asker, (node) => {
    const box = boxes.find((each) => each.item.node === node);
    if (box) groups.get(box.key)?.focus();
    hooks.redraw(true);
  });
  const miss = makeMissBox(hooks.asker, (answer) => {
    typed = answer;
    hooks.redraw(true);
  });
  const root = make("div", { class: "tree" }, tools.root, scroll, details.root, miss.root);
  const groups = new Map();
  const stop = { current: null };
  let boxes = [];
  let now = 0;
  let live = false;
  let typed = null; // the path of the text asked about
  let scene = { sums: new Map(), since: null, matches: new Set() };

  const groupOf = (event) => event.target.closest?.(".node");
  const pick = (event) => {
    const group = groupOf(event);
    if (group?.sglBox.node && group.sglBox.item.node !== details.node) hooks.select({ kind: "node", node: group.sglBox.item.node }, group);
  };
  svg.addEventListener("pointerover", pick);
  svg.addEventListener("pointerleave", () => hooks.select(null));
  svg.addEventListener("focusin", (event) => {
    pick(event);
    const group = groupOf(event);
    if (group) rove(stop, group);
  });
  svg.addEventListener("focusout", () => hooks.select(null));
  const open = (group) => {
    if (!group?.sglBox.node) return;
    details.open(group.sglBox.item.node);
    hooks.select(null); // the card would lie on the details
    hooks.redraw(true);
  };
  svg.addEventListener("click", (event) => open(groupOf(event)));
  svg.addEventListener("keydown", (event) => {
    const group = groupOf(event);
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return open(group);
    }
    const next = group && neighbour(group.sglBox, event.key);
    if (next) {
      event.preventDefault();
      groups.get(next.key).focus();
    } else if (event.key === "Escape") {
      hooks.select(null);
      if (details.node !== null) details.hide(true);
    }
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
      makeSvg("path", { class: "typed", pathLength: 100 }),
      makeSvg("rect", { class: "target", height: 30, rx: 4 }),
      makeSvg("text", { class: "label" }),
      makeSvg("text", { class: "meta" }),
      makeSvg("circle", { class: "dot", r: 4 }),
      makeSvg("path", { class: "pin", d: PIN }));
    if (live && box.node) animate(group, [{ opacity: 0, transform: "translateX(-14px)" }, {}], 260);
    return group;
  }

  function update(group, box) {
    const [edge, blue, target, label, meta, circle, pin] = group.children;
    const { node, item } = box;
    const hits = node ? node.hits : 0;
    if (live && group.sglBox && hits > group.sglBox.hits) {
      animate(edge, [{ strokeOpacity: 1, stroke: "var(--cached)", strokeWidth: 5 }, {}], 700);
    }
    group.sglBox = box;
    box.hits = hits;
    const state = node && nodeState(node, scene.sums, scene.since);
    const faded = state?.ghost && (!live || now - node.evicted > GHOST_SECONDS);
    const classes = ["node", !node && "more", faded && "faded", scene.matches.has(item.node) && "match",
      scene.path?.has(item.node) && "passed", details.node !== null && details.node === item.node && "open",
      ...(node ? Object.keys(state).filter((mark) => state[mark]) : [])].filter(Boolean);
    for (const mark of ["lit", "tip"]) if (group.classList.contains(mark)) classes.push(mark);
    setAttr(group, "class", classes.join(" "));
    const { x0, y0, x1, y } = box;
    const bend = x0 + 20;
    for (const path of [edge, blue]) setAttr(path, "d", `M${x0} ${y0}C${x0 + 14} ${y0} ${x0 + 6} ${y} ${bend} ${y}H${x1}`);
    const part = scene.typed.get(item.node) ?? 0;
    setAttr(blue, "visibility", part ? null : "hidden");
    setAttr(blue, "stroke-dasharray", `${100 * part} 1000`);
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
    setAttr(pin, "transform", `translate(${x1 + 10} ${y - 1})`);
    setAttr(pin, "visibility", state?.pinned ? null : "hidden");
    setAttr(group, "aria-level", item.depth);
    setAttr(group, "aria-current", details.node !== null && details.node === item.node ? "true" : null);
    setAttr(group, "aria-label", node ? stateWords(node, state) : `${box.label}, ${box.meta}, not shown`);
  }

  /** Where the text asked about leaves the tree. */
  function drawCross(parts) {
    const last = parts.at(-1);
    const group = last && !typed.whole && groups.get(String(last.node));
    setAttr(cross, "visibility", group || (typed && !typed.whole && !parts.length) ? null : "hidden");
    const blue = group?.children[1];
    const at = blue ? blue.getPointAtLength(last.part * blue.getTotalLength())
      : { x: Number(dot.getAttribute("cx")), y: Number(dot.getAttribute("cy")) };
    setAttr(cross, "transform", `translate(${at.x} ${at.y})`);
  }

  return {
    root,
    help: TREE_HELP,
    totals: { nodes: 0, tokens: 0 },
    draw(view, options) {
      live = options.live;
      now = view.now ?? view.header.t1;
      this.totals = treeTotals(view.tree);
      const { tree } = view;
      const sums = treeSums(tree);
      const since = view.header?.t0 ?? null;
      const matches = searchTree(tree, tools.query);
      const parts = typed ? typedParts(tree, typed.path, typed.cached) : [];
      scene = { sums, since, matches, typed: new Map(parts.map(({ node, part }) => [node, part])),
        path: tools.request ? new Set(pathTo(tree, tree.tips[tools.request])) : null };
      const rids = Object.keys(view.branches?.bars ?? {}).filter((rid) => tree.tips[rid] !== undefined);
      tools.offer(rids.length > 1 ? rids.map((rid) => [rid, requestName(view, rid)]) : []);
      tools.found(matches.size);
      svg.classList.toggle("searching", matches.size > 0);
      svg.classList.toggle("following", scene.path !== null);
      const shown = [...(options.keep ?? []), ...matches, ...(scene.path ?? []), ...parts.map(({ node }) => node)];
      if (details.node !== null) shown.push(details.node);
      const items = outline(tree, shown, undefined, siblingOrder(tools.order, sums));
      const state = (node) => nodeState(node, sums, since);
      tools.legend(new Set(items.flatMap(({ node }) => {
        if (node === undefined) return [];
        const marks = state(tree.nodes[node]);
        return Object.keys(marks).filter((mark) => marks[mark]);
      })));
      const plan = fitLayout(tree, items, scroll.clientWidth, (node) => stateMeta(node, state(node)));
      boxes = plan.boxes;
      setAttr(svg, "width", Math.ceil(plan.width));
      setAttr(svg, "height", plan.height);
      setAttr(dot, "cx", 12);
      setAttr(dot, "cy", plan.rootY);
      keyed(layer, groups, boxes, (box) => box.key, create, update);
      drawCross(parts);
      details.draw(view, sums, state, since);
      miss.draw();
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
function fitLayout(tree, items, width, metaOf) {
  return treeLayout(tree, items, fittingLabel(tree, items, LABELS, width, metaOf), metaOf);
}

/** The card for one node. */
export function nodeCard(view, key) {
  const node = view.tree.nodes[key];
  const path = pathTo(view.tree, key);
  const before = path.slice(0, -1).reduce((sum, each) => sum + nodeTokens(view.tree.nodes[each]), 0);
  const size = nodeTokens(node);
  const state = nodeState(node, treeSums(view.tree), null);
  const facts = [
    `${countOf(size, "token")} · positions ${groupDigits(before)} to ${groupDigits(before + size - 1)}`,
    `reused ${countOf(node.hits, "time")}`,
  ];
  if (state.ghost) facts.push(goneWords(node));
  if (state.using) facts.push(`in use by ${countOf(state.using, "request")}: cannot be evicted`);
  if (state.pinned) facts.push("pinned: stays until it is unpinned");
  if (state.held) facts.push("a pin below holds it");
  if (!state.ghost && !node.locks) facts.push("free to be evicted when room is needed");
  return [
    make("pre", { class: "card-text", text: visible(clipMiddle(nodeText(node), 400)) }),
    ...facts.map((text) => make("div", { class: "small", text })),
    make("div", { class: "small hint", text: "click or Enter: details" }),
  ];
}
