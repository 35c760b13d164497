"""Bodies that are coroutines, and waiting for bodies from an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import RequestAborted
from .loops import PROGRAMS
from .reading import awaited, everything
from .waiting import SLICE_SECONDS

if TYPE_CHECKING:
    from .executor import StreamExecutor

T = TypeVar("T")

SETTLE_SECONDS = 2.0
"""How long a cancelled program is waited for, so that it can clean up."""


def check_may_block(what: str) -> None:
    """RuntimeError on the shared loop's own thread, where waiting would be for ever."""
    if PROGRAMS.is_here:
        raise RuntimeError(
            f"{what}: would block the event loop on which this async program runs; "
            "use await program.run_async(...)"
        )


def run_blocking(work: Coroutine[Any, Any, T], stop: Callable[[], None]) -> T:
    """Run ``work`` on the shared loop and wait here for its result. Ctrl-C calls ``stop``,
    cancels it, waits a moment for it to come to its end and is raised again."""
    future = PROGRAMS.start(work)
    try:
        while not future.done():
            concurrent.futures.wait([future], SLICE_SECONDS)
        return future.result()
    except KeyboardInterrupt:
        stop()
        future.cancel()
        with suppress(KeyboardInterrupt):
            concurrent.futures.wait([future], SETTLE_SECONDS)
        raise


def run_in_background(work: Coroutine[Any, Any, Any]) -> None:
    """Run ``work``, which keeps its own errors, on the shared loop and return at once."""
    PROGRAMS.start(_quiet(work))


_tasks: set[asyncio.Task[None]] = set()


def run_here(work: Coroutine[Any, Any, Any]) -> None:
    """Run ``work``, which keeps its own errors, as a task of the running loop."""
    task = asyncio.get_running_loop().create_task(_quiet(work))
    _tasks.add(task)  # a loop holds its tasks only weakly
    task.add_done_callback(_tasks.discard)


async def _quiet(work: Coroutine[Any, Any, Any]) -> None:
    with suppress(BaseException):  # the state has it: fail_body()
        await work


async def finished(executor: StreamExecutor) -> None:
    """Wait for the body and the generations of ``executor``; to cancel it stops them."""
    try:
        await awaited(everything(executor))
    except asyncio.CancelledError:
        executor.family.stop(RequestAborted("the program was cancelled"))
        raise
