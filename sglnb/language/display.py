"""What a state looks like, in a terminal and in a notebook."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .errors import one_line

if TYPE_CHECKING:
    from .state import ProgramState

WIDTH = 60


def short(state: ProgramState) -> str:
    """One line; waits for nothing."""
    ex = state.stream_executor
    with ex.lock:
        text, variables = ex.live_text(), dict(ex.variables)
        going, error = not ex.idle or ex.body_elsewhere, ex.error_
    parts = [f"{len(text):,} characters"]
    parts += [f"{name}={_clip(repr(value))}" for name, value in variables.items()]
    if error is not None:
        parts.append(f"error: {_clip(one_line(error))}")
    if going:
        parts.append("running")
    return f"ProgramState({', '.join(parts)})"


def mimebundle(state: ProgramState) -> dict[str, str]:
    """Plain text, and HTML where the views are installed. Waits for the state."""
    state.sync()
    bundle = {"text/plain": short(state)}
    with suppress(ImportError):
        from ..viz import static_html

        bundle["text/html"] = static_html(_events(state), state.run_id)
    return bundle


def html(state: ProgramState) -> str:
    """The views of the state's run as one self-contained page."""
    from ..viz import to_html

    return to_html(_events(state), state.run_id)


def svg(state: ProgramState) -> str:
    """The tokens and branches of the state's run as one SVG drawing."""
    from ..viz import run_svg

    return run_svg(_events(state), state.run_id)


def frame(state: ProgramState) -> Any:
    """The state's run, one row a token, as a DataFrame."""
    from ..viz import to_frame

    return to_frame(_events(state), state.run_id)


def _events(state: ProgramState) -> list[Any]:
    return state.stream_executor.run.backend.events.since(0)


def _clip(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "\u2026"
