"""Images in a state: which stand where, and how messages tell of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ..runtime.images import Image
from .backend import Backend
from .ir import SglExpr, SglExprList, SglImage, as_expr


class Placed(NamedTuple):
    """An image and the placeholder that a state's text has for it."""

    start: int
    stop: int
    image: Image


def check_images(exprs: Iterable[SglExpr], backend: Backend) -> None:
    """ValueError if there is an image among ``exprs`` that ``backend`` cannot take."""
    if any(isinstance(expr, SglImage) for expr in exprs) and not placeholder(backend):
        name = getattr(backend, "model_name", type(backend).__name__)
        raise ValueError(
            f"image: {name} takes no images; run on a model with vision, such as a LLaVA or "
            "Qwen2-VL checkpoint"
        )


def placeholder(backend: Backend) -> str:
    """What stands for an image in the text; "" when ``backend`` takes none."""
    return getattr(backend, "image_text", "")


def parts(text: str, images: list[Placed], start: int) -> list[str | Image]:
    """``text`` from ``start`` on, in pieces of text and images."""
    out: list[str | Image] = []
    for placed in images:
        if placed.start >= start:
            out += [text[start : placed.start], placed.image]
            start = placed.stop
    out.append(text[start:])
    return [part for part in out if part != ""]


def as_expression(parts: Iterable[str | Image]) -> SglExprList:
    """What appends ``parts`` to a state."""
    return SglExprList([SglImage(p) if isinstance(p, Image) else as_expr(p) for p in parts])


def for_api(message: dict[str, Any]) -> dict[str, Any]:
    """A message in the form of the OpenAI API: its content is a text, or, when there are images,
    a list of parts of type "text" and "image_url"."""
    if isinstance(message["content"], str):
        return message
    content = [
        {"type": "image_url", "image_url": {"url": part.data_url}}
        if isinstance(part, Image)
        else {"type": "text", "text": part}
        for part in message["content"]
    ]
    return {**message, "content": content}
