"""The constant prefix of a program in the backend's cache: computed ahead, or kept there."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..errors import EngineError
from .backend import Backend, as_backend, get_default_backend
from .placeholders import SglArgument
from .trace_graph import Trace
from .trace_node import Constant
from .tracer import trace_program
from .waiting import SLICE_SECONDS

if TYPE_CHECKING:
    from .program import SglFunction
    from .run import ProgramRun

WORTH_TOKENS = 32
"""Rows with a shorter prefix go out at once. The engine lets requests that come together share
16 tokens and more by itself; a request of its own costs a step, in which as many tokens of the
rows could have been computed."""

Pins = WeakKeyDictionary
"""By backend, the handle of what a program has pinned there."""


def cache(program: SglFunction, backend: Backend | None) -> int:
    """Compute the prefix now and wait for it; its number of tokens."""
    backend = get_default_backend() if backend is None else as_backend(backend)
    known = prefix_of(program, backend)
    if not known.text:
        return 0
    done = threading.Event()
    request = backend.submit(
        known.text,
        {"max_new_tokens": 0},
        purpose="prefill",
        on_update=lambda request: request.done and done.set(),
        **_images(known),
    )
    try:
        while not done.wait(SLICE_SECONDS):
            pass
    except KeyboardInterrupt:
        request.abort()
        raise
    if request.error is not None:
        raise request.error
    return request.meta_info.get("prompt_tokens") or len(backend.tokenizer.encode(known.text))


def pin(program: SglFunction, backend: Backend | None, pins: Pins) -> int:
    """Pin the prefix; what the program had pinned there before is let go."""
    backend = get_default_backend() if backend is None else as_backend(backend)
    if not hasattr(getattr(backend, "cache", None), "pin"):
        raise TypeError(
            f"backend: {type(backend).__name__} cannot keep a prefix in its cache; "
            "pin needs an sglnb.Engine"
        )
    known = prefix_of(program, backend)
    if not known.text:
        raise ValueError(
            f"pin: {program.__name__} has no constant prefix; it begins with an argument "
            "or a generation"
        )
    handle = backend.cache.pin(known.text, **_images(known))
    with suppress(ValueError):  # gone with the engine's memory: release(), a smaller pool
        if backend in pins:
            backend.cache.unpin(pins[backend])
    pins[backend] = handle
    return len(backend.prompt_ids(known.text, **_images(known)))


def unpin(program: SglFunction, backend: Backend | None, pins: Pins) -> None:
    """Let go of what :func:`pin` keeps."""
    backend = get_default_backend() if backend is None else backend
    if backend not in pins:
        raise ValueError(f"unpin: {program.__name__} has nothing pinned in {backend!r}")
    backend.cache.unpin(pins.pop(backend))


def prefix_of(program: SglFunction, backend: Backend) -> Constant:
    """The longest constant prefix. The body runs up to its first argument or generation."""
    return trace_program(program, backend=backend, prefix_only=True).constant()


def cache_for_rows(
    program: SglFunction,
    run: ProgramRun,
    rows: Sequence[dict[str, Any]] | None,
    options: dict[str, Any],
) -> None:
    """Send the prefix of a batch ahead of its rows, if that is worth it. Does not wait: rows
    that come while it is computed are held back by the engine until they can use it. ``rows`` is
    None when they are not known ahead."""
    if rows is None or len(rows) < 2 or program.is_async:
        return
    trace = trace_rows(program, rows, run.backend)
    with suppress(ValueError, EngineError):  # only a hint: what is wrong is told by the rows
        known = trace.constant()
        if trace.count_tokens(known.text) >= WORTH_TOKENS:
            more = {"lora": options["lora"]} if "lora" in options else {}
            run.backend.submit(
                known.text,
                {"max_new_tokens": 0},
                run=run.id,
                purpose="prefill",
                **_images(known),
                **more,
            )


def trace_rows(program: SglFunction, rows: Sequence[dict[str, Any]], backend: Backend) -> Trace:
    """The prefix of a batch, where only the arguments that differ between rows are open."""
    names = dict.fromkeys(name for row in rows for name in row)
    arguments = {
        name: rows[0][name] if same_in_all(name, rows) else SglArgument(name) for name in names
    }
    return trace_program(program, kwargs=arguments, backend=backend, prefix_only=True)


def same_in_all(name: str, rows: Sequence[dict[str, Any]]) -> bool:
    """Whether an argument is the same object, or the same text or number, in all rows."""
    if any(name not in row for row in rows):
        return False
    first = rows[0][name]
    plain = isinstance(first, (str, int, float, bytes))
    return all(
        row[name] is first or (plain and type(row[name]) is type(first) and row[name] == first)
        for row in rows
    )


def _images(known: Constant) -> dict[str, Any]:
    return {"image_data": known.images} if known.images else {}
