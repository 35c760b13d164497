"""Reading from states, for programs that wait and for programs that await.

What a reader has to wait for is written once, as a generator of :class:`Until`; :func:`wait` goes
through it in the reader's thread, :func:`awaited` in a running event loop, whose thread it never
blocks.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..errors import ConstraintError
from .checkpoints import Checkpoint
from .images import for_api
from .ir import SglSetVariable, SglVarScopeEnd
from .operation import Operation

if TYPE_CHECKING:
    from .executor import StreamExecutor

T = TypeVar("T")


class Until(NamedTuple):
    """Wait until ``ready()``, which only changes of ``executor`` make true. It is called on
    any thread and must be quick."""

    executor: StreamExecutor
    ready: Callable[[], bool]


Steps = Generator[Until, None, T]


# -- two ways to wait ----------------------------------------------------------------------


def wait(steps: Steps[T], timeout: float | None = None) -> T:
    """Wait in this thread. Ctrl-C stops the run and is raised again.

    Raises:
        TimeoutError: it took longer than ``timeout`` seconds; nothing was stopped.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        while True:
            executor, ready = next(steps)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not executor.wait(ready, left):
                raise _too_late(timeout)
    except StopIteration as end:
        return end.value


async def awaited(steps: Steps[T], timeout: float | None = None) -> T:
    """:func:`wait` in a running event loop. To cancel it only ends the waiting."""
    try:
        async with asyncio.timeout(timeout) as limit:
            while True:
                try:
                    executor, ready = next(steps)
                except StopIteration as end:
                    return end.value
                await _ready(executor, ready)
    except TimeoutError:
        if limit.expired():
            raise _too_late(timeout) from None
        raise


def _too_late(timeout: float | None) -> TimeoutError:
    return TimeoutError(f"timeout: it is not there after {timeout:g} s; the run goes on")


async def _ready(executor: StreamExecutor, ready: Callable[[], bool]) -> None:
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(news.set)

    forget = when(executor, ready, tell)
    try:
        await news.wait()
    finally:
        forget()


def when(
    executor: StreamExecutor, ready: Callable[[], bool], call: Callable[[], None]
) -> Callable[[], None]:
    """Call ``call`` once, now or later, on whatever thread makes ``ready()`` true. What is
    returned takes that back."""
    once = threading.Lock()

    def look() -> None:
        if ready() and once.acquire(blocking=False):
            executor.unwatch(look)
            call()

    executor.watch(look)
    look()
    return lambda: executor.unwatch(look)


# -- what is read --------------------------------------------------------------------------


def everything(ex: StreamExecutor) -> Steps[None]:
    """Until all that was appended, and a body that goes on elsewhere, is done."""
    mine = ex.in_body
    yield Until(ex, lambda: ex.idle and (mine or not ex.body_going))


def text(ex: StreamExecutor) -> Steps[str]:
    """All text; after a failure the text up to there."""
    yield from everything(ex)
    return ex.text_


def messages(ex: StreamExecutor) -> Steps[list[dict[str, Any]]]:
    """The closed messages in the form of the OpenAI API."""
    yield from everything(ex)
    return [for_api(message) for message in ex.messages_]


def error(ex: StreamExecutor) -> Steps[BaseException | None]:
    """What went wrong."""
    yield from everything(ex)
    return ex.error_


def variable(ex: StreamExecutor, name: str) -> Steps[Any]:
    """The value of a variable.

    Raises:
        GenerationError: it could not be made. UnknownVariable: there is none.
    """
    op = ex.table.pending.get(name)
    if op is not None and isinstance(op.expr, SglSetVariable):
        return op.expr.value  # known before its turn comes
    yield from _made(ex, name)
    with ex.lock:
        if name in ex.variables:
            return ex.variables[name]
        raise ex.missing(name)


def meta_info(ex: StreamExecutor, name: str) -> Steps[Any]:
    """What the engine said of a generated variable; None for one that was not generated."""
    yield from _made(ex, name)
    with ex.lock:
        if name not in ex.variables:
            raise ex.missing(name)
        return ex.meta_info.get(name)


def value(ex: StreamExecutor, name: str) -> Steps[Any]:
    """A variable as a Python object: what its ``gen`` was asked for. Raises as
    :func:`variable`, and ConstraintError when the text is no such thing."""
    yield from _made(ex, name)
    with ex.lock:
        if name not in ex.variables:
            raise ex.missing(name)
        text, meta, form = ex.variables[name], ex.meta_info.get(name), ex.table.forms.get(name)
    try:
        return text if form is None else form.read(text, meta)
    except ConstraintError as error:
        raise ConstraintError(f"value of {name!r}: {error}") from None


def _made(ex: StreamExecutor, name: str) -> Steps[None]:
    """Until the operation that sets ``name`` is done; raises its error."""
    mine = ex.in_body
    yield Until(ex, lambda: ex.expects(name) or mine or not ex.body_going)
    op = ex.table.pending.get(name)
    if op is None:
        return
    yield Until(ex, lambda: ex.table.pending.get(name) is not op)
    if op.error is not None:
        raise op.error.for_variable(name)


def at(ex: StreamExecutor, name: str) -> Steps[Checkpoint]:
    """The state right after ``name`` was made. Raises as :func:`variable`."""
    yield from _made(ex, name)
    yield Until(ex, lambda: ex.adopted and ex.settled)
    with ex.lock:
        point = ex.tip.of(name)
        if name not in ex.variables or point is None or not point.writes:
            raise ex.missing(name)
        return point


def before(ex: StreamExecutor, name: str) -> Steps[Checkpoint]:
    """The state right before ``name`` was made, or failed to be made.

    Raises:
        GenerationError: it was not even begun. UnknownVariable: nothing makes it.
    """
    mine = ex.in_body
    yield Until(ex, lambda: ex.expects(name) or mine or not ex.body_going)
    op = ex.table.pending.get(name)

    def began() -> bool:
        waits = op is not None and ex.table.pending.get(name) is op
        return ex.adopted and ex.settled and (not waits or _beginning(ex, op) is not None)

    yield Until(ex, began)
    with ex.lock:
        op = ex.table.pending.get(name)
        point = _beginning(ex, op) if op is not None else None
        if point is not None:
            return point
        point = ex.tip.of(name)
        if point is None:
            raise ex.missing(name)
        return point.before_variable(name)


def _beginning(ex: StreamExecutor, op: Operation) -> Checkpoint | None:
    """The state before ``op``, which is not done, began; for the end of a variable scope before
    the scope began. None if it has not begun."""
    if isinstance(op.expr, SglVarScopeEnd):
        return ex.tip.opening(op.expr.name)
    return op.mark


def undo(ex: StreamExecutor, n: int) -> Steps[None]:
    """Take back the last ``n`` steps once nothing is going on."""
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"n: must be a whole number of at least 1, got {n!r}")
    yield from everything(ex)
    while not ex.undo(n):
        yield from everything(ex)
