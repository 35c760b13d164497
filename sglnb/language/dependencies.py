"""Operations that wait for those of other states."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import RequestAborted
from .operation import Operation

if TYPE_CHECKING:
    from .executor import StreamExecutor


def variable(ex: StreamExecutor, op: Operation) -> None:
    """Append another state's variable: at once if it is there, else when it comes."""
    source, name = op.expr.source.stream_executor, op.expr.name

    def append() -> None:
        with source.lock:
            value, known = source.variables.get(name), name in source.variables
            problem = None if known else source.missing(name)
        if problem is not None:
            raise problem
        ex.append(str(value))

    _when(ex, op, [source], lambda: name not in source.table.pending or source is ex, append)


def wait_for(ex: StreamExecutor, op: Operation) -> None:
    """Act once the operations that it waits for are done."""
    waits = op.expr.waits
    owners = list({id(wait.owner): wait.owner for wait in waits}.values())
    _when(ex, op, owners, lambda: all(w.done for w in waits), lambda: op.expr.act(ex, op))


def _when(
    ex: StreamExecutor,
    op: Operation,
    sources: list[StreamExecutor],
    ready: Callable[[], bool],
    act: Callable[[], None],
) -> None:
    """Complete ``op`` by ``act`` as soon as its sources are ``ready``. When that is later, the
    dispatcher does it: a chain of states that wait for each other must not become a chain of
    calls, least of all on the engine's thread."""
    once = threading.Lock()

    def finish() -> None:
        if op.done:  # stopped meanwhile
            return
        try:
            act()
        except RequestAborted as problem:
            ex.stop(op, problem)
        except Exception as problem:  # recorded: raised where the variable is read
            ex.fail(op, problem)
        ex.complete(op)

    def look() -> None:
        if (op.done or ready()) and once.acquire(blocking=False):
            for source in sources:
                source.unwatch(look)
            ex.run.dispatcher.post(finish)

    if ready():
        finish()
        return
    for source in sources:
        source.watch(look)
    look()
