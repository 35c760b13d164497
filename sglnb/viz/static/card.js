// The card beside what is pointed at or focused.
//
// It stands in the browser's top layer (a popover), where no scrolling output area can cut it
// off. Browsers without popovers get it inside the view, placed against the view's own box.

import { make, setAttr } from "./dom.js";

const GAP = 6;
const MARGIN = 4;

/**
 * Where a card of `width` x `height` goes, beside the box `at` and inside the box `frame` (both
 * in viewport coordinates): below if it fits there, else above, else where there is more room.
 */
export function cardPlace(at, width, height, frame) {
  const most = frame.bottom - MARGIN - height;
  const below = at.bottom + GAP;
  const above = at.top - GAP - height;
  const fits = below <= most || (above < frame.top + MARGIN
    && frame.bottom - at.bottom >= at.top - frame.top);
  const clamp = (x, low, high) => Math.max(low, Math.min(x, high));
  return {
    left: clamp(at.left, frame.left + MARGIN, frame.right - MARGIN - width),
    top: clamp(fits ? below : above, frame.top + MARGIN, most),
  };
}

/** A hidden card of the view `root`. */
export function makeCard(root) {
  const element = make("div", { class: "card", role: "tooltip", hidden: true });
  const onTop = typeof element.showPopover === "function";
  if (onTop) setAttr(element, "popover", "manual");
  let anchor = null;

  function hide() {
    if (onTop && element.matches(":popover-open")) element.hidePopover();
    setAttr(element, "hidden", true);
    anchor = null;
  }

  function place() {
    if (!anchor) return;
    if (!anchor.isConnected) return hide();
    const rects = anchor.getClientRects(); // of a token on two lines: the last
    const at = rects[rects.length - 1] ?? anchor.getBoundingClientRect();
    if (at.bottom < 0 || at.top > innerHeight) return hide(); // scrolled away
    const { offsetWidth: width, offsetHeight: height } = element;
    const box = root.getBoundingClientRect();
    const screen = { left: 0, top: 0, right: document.documentElement.clientWidth, bottom: innerHeight };
    const frame = onTop ? screen : { ...screen, left: box.left, right: box.right };
    const { left, top } = cardPlace(at, width, height, frame);
    element.style.left = `${left - (onTop ? 0 : box.left)}px`;
    element.style.top = `${top - (onTop ? 0 : box.top)}px`;
  }

  const scrolled = () => place();
  document.addEventListener("scroll", scrolled, { capture: true, passive: true });
  return {
    element,
    hide,
    /** Show `content` beside the element `by`. */
    show(content, by) {
      if (!by?.isConnected) return hide();
      element.replaceChildren(...content);
      setAttr(element, "hidden", false);
      if (onTop && !element.matches(":popover-open")) element.showPopover();
      anchor = by;
      place();
    },
    /** For good. */
    close() {
      document.removeEventListener("scroll", scrolled, { capture: true });
      hide();
    },
  };
}
