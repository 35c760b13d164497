"""Telling what a model thinks from what it says."""

from __future__ import annotations

from typing import NamedTuple


class ReasoningMarkers(NamedTuple):
    """What stands around a model's reasoning.

    Attributes:
        start, end: the markers, as they appear in the text.
        opened: the reasoning begins with the text, whether ``start`` is there or not: the chat
            template has opened it.
    """

    start: str
    end: str
    opened: bool = False


MODEL_TYPES = {
    "deepseek-r1": ReasoningMarkers("<think>", "</think>", opened=True),
    "deepseek-v3": ReasoningMarkers("<think>", "</think>"),
    "glm45": ReasoningMarkers("<think>", "</think>"),
    "kimi": ReasoningMarkers("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    "qwen3": ReasoningMarkers("<think>", "</think>"),
    "qwen3-thinking": ReasoningMarkers("<think>", "</think>", opened=True),
    "step3": ReasoningMarkers("<think>", "</think>", opened=True),
}
"""The names are SGLang's."""


def markers_of(model_type: str | tuple[str, str]) -> ReasoningMarkers:
    """The markers of a type of model, or a pair (start, end) of them as it is.

    Raises:
        ValueError: an unknown type, or no pair of non-empty texts.
    """
    if isinstance(model_type, str):
        if model_type not in MODEL_TYPES:
            raise ValueError(
                f"model_type: must be one of {', '.join(MODEL_TYPES)}, or name the markers: "
                f'("<think>", "</think>"); got {model_type!r}'
            )
        return MODEL_TYPES[model_type]
    try:
        markers = ReasoningMarkers(*model_type)
    except TypeError:
        markers = ReasoningMarkers("", "")
    if not all(isinstance(m, str) and m for m in markers[:2]):
        raise ValueError(
            "model_type: must be a name or the two markers, such as "
            f'("<think>", "</think>"); got {model_type!r}'
        )
    return markers


class Parts(NamedTuple):
    """A text taken apart."""

    reasoning: str
    text: str


def separate(text: str, markers: ReasoningMarkers, *, final: bool = True) -> Parts:
    """Take the first reasoning out of a model's text; both parts lose the white space around
    them. Reasoning that never ends is all of the rest.

    Args:
        final: False: there may be more. What is told then only grows: what could turn out to be
            part of a marker, and white space at the end, is held back.
    """
    before, found, body = text.partition(markers.start)
    if markers.opened:
        opened = found and not before.strip()
        before, body = "", body if opened else text
        if not opened and not final and markers.start.startswith(text.strip()):
            return Parts("", "")
    elif not found:
        return Parts("", text if final else _certain(text, markers.start))
    reasoning, ended, after = body.partition(markers.end)
    if not ended and not final:
        reasoning = _certain(reasoning, markers.end)
    said = before.rstrip() + after if before.strip() else after.lstrip()
    return Parts(reasoning.strip(), said.rstrip())


def _certain(text: str, marker: str) -> str:
    """``text`` without what could be the beginning of ``marker``, and white space."""
    for n in range(min(len(marker) - 1, len(text)), 0, -1):
        if text.endswith(marker[:n]):
            text = text[:-n]
            break
    return text.rstrip()
