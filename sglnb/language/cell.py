"""A state for code that is not a function: the body of a ``%%sgl`` cell."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from .backend import Backend, as_backend, get_default_backend
from .plan import Plan
from .run import ProgramRun
from .sampling import check, given
from .state import ProgramState

SETTLE_SECONDS = 2.0
"""How long a stopped run is waited for, so that its partial text is all there."""


def start_state(
    backend: Backend | None = None,
    *,
    run: str | None = None,
    title: str = "",
    defaults: dict[str, Any] | None = None,
    plan: Plan | None = None,
) -> ProgramState:
    """Begin a run and return its state. Programs called until :func:`finish_run`, from this
    thread or from a copy of its context, belong to the run.

    Args:
        backend: where to run; None takes the default backend.
        run: the run's id; None makes one.
        title: what the run is called in the views.
        defaults: sampling options for every ``gen``, named as those of ``run()``.
        plan: what the source of the code says, for the views.

    Raises:
        ValueError: an option is out of range.
    """
    options = given(**(defaults or {}))
    check(options)
    backend = as_backend(backend) if backend is not None else get_default_backend()
    program_run = ProgramRun(backend, run_id=run, title=title, defaults=options, plan=plan)
    program_run.enter()
    executor = program_run.new_executor(options, label=title)
    executor.family.stream = True  # cells are watched
    return ProgramState(executor)


def finish_run(state: ProgramState, error: BaseException | None = None) -> None:
    """The body of ``state``'s run is over. Generations that were not read go on; with
    ``error`` they are stopped, and what they have so far is kept. The state lives on."""
    program_run: ProgramRun = state.stream_executor.run
    program_run.finish(error)
    if error is not None:
        with suppress(KeyboardInterrupt):  # a second Ctrl-C: leave at once
            program_run.wait(SETTLE_SECONDS)


async def finish_run_async(state: ProgramState, error: BaseException | None = None) -> None:
    """:func:`finish_run`, and the wait for all generations, in a running event loop. To cancel
    it stops the run."""
    program_run: ProgramRun = state.stream_executor.run
    program_run.finish(error)
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    program_run.when_done(lambda: loop.call_soon_threadsafe(over.set))
    try:
        async with asyncio.timeout(None if error is None else SETTLE_SECONDS):
            await over.wait()
    except TimeoutError:
        pass  # its text is as far as it has come
    except asyncio.CancelledError:
        program_run.abort()
        raise


def wait_run(state: ProgramState, timeout: float | None = None) -> bool:
    """Wait until everything in ``state``'s run is done (the body, too: see
    :func:`finish_run`). Ctrl-C stops the run. False: ``timeout`` seconds passed first."""
    program_run: ProgramRun = state.stream_executor.run
    try:
        return program_run.wait(timeout)
    except KeyboardInterrupt:
        program_run.abort()
        raise
