"""Contrast of the text inside SVG, which axe-core does not judge: WCAG 2.2, 1.4.3."""

from __future__ import annotations

from playwright.sync_api import Page

# What is behind a text is what its page paints there: the grounds of the HTML around it, then each
# filled shape of its SVG that comes before it and holds its middle. A halo (paint-order: stroke)
# covers those. Opacity is taken for each element alone, which is right where groups do not overlap.
_JS = r"""(within) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (css) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under, opacity = 1) =>
    [r, g, b].map((c, i) => c * a * opacity + under[i] * (1 - a * opacity));
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const lookOf = (element) => getComputedStyle(element);
  const upwards = (element) => (element ? [element, ...upwards(element.parentElement)] : []);
  const opacityOf = (element) =>
    upwards(element).reduce((product, each) => product * lookOf(each).opacity, 1);
  const isSeen = (element) => element.checkVisibility({ visibilityProperty: true });
  const isBefore = (a, b) => a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING;

  function groundOf(text, look, opacity) {
    const svg = text.ownerSVGElement;
    let ground = upwards(svg).reverse()
      .reduce((under, each) => over(rgba(lookOf(each).backgroundColor), under), [255, 255, 255]);
    const { x, y, width, height } = text.getBBox();
    const middle = new DOMPoint(x + width / 2, y + height / 2).matrixTransform(text.getScreenCTM());
    for (const shape of svg.querySelectorAll("rect, path, circle")) {
      const { fill, fillOpacity } = lookOf(shape);
      if (fill === "none" || fill.startsWith("url") || shape.closest("defs")) continue;
      if (!isBefore(shape, text) || !isSeen(shape)) continue;
      const inside = middle.matrixTransform(shape.getScreenCTM().inverse());
      if (!shape.isPointInFill(inside)) continue;
      ground = over(rgba(fill), ground, fillOpacity * opacityOf(shape));
    }
    const halo = look.paintOrder.startsWith("stroke") && look.stroke !== "none";
    return halo ? over(rgba(look.stroke), ground, opacity) : ground;
  }

  const out = [];
  for (const text of document.querySelectorAll(`${within} svg text`)) {
    if (!text.textContent.trim() || !isSeen(text)) continue;
    const look = lookOf(text);
    const opacity = opacityOf(text);
    const ground = groundOf(text, look, opacity);
    const ink = over(rgba(look.fill), ground, opacity * look.fillOpacity);
    const [low, high] = [light(ink), light(ground)].sort((a, b) => a - b);
    const size = parseFloat(look.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && look.fontWeight >= 700);
    if (high / low >= (isLarge ? 3 : 4.5)) continue;
    const where = text.parentElement.outerHTML.slice(0, 60);
    out.push(`${(high / low).toFixed(2)}: "${text.textContent.slice(0, 30)}" in ${where}`);
  }
  return out;
}"""


def pale_texts(page: Page, within: str = "body") -> list[str]:
    """The visible texts of SVG inside ``within`` (a CSS selector) that stand out less from what is
    behind them than 4.5 to 1 (3 to 1 if they are large): one line for each."""
    page.evaluate("Promise.all(document.getAnimations().map((a) => a.finish?.call(a, a.pause())))")
    return page.evaluate(_JS, within)
