"""Run the body of a ``%%sgl`` cell, in the foreground or behind the notebook's back."""

from __future__ import annotations

from contextvars import Context
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from ..language import AsyncProgramState, GenerationError
from ..language.async_run import run_blocking
from .names import lend, lent_names, snapshot
from .run import Run
from .show import Live, place_static, show_live
from .source import CellCode
from .tracebacks import clean, point_at, user_lines


def run_here(shell: InteractiveShell, run: Run, code: CellCode) -> None:
    """Run what has begun to its end while the cell is busy.

    Raises:
        BaseException: the program's own error, made clean for the cell (see
            :mod:`.tracebacks`); KeyboardInterrupt in one line when it was stopped.
    """
    space, live = shell.user_ns, None

    def body() -> Any:
        nonlocal live
        live = show_live(run, foreground=True)
        with lend(space, lent_names(run.state)):
            return code.run(space)

    run.execute(body, lambda error: failure(shell, run, error, code.filename))
    _conclude(run, code, live)


async def await_here(shell: InteractiveShell, run: Run, code: CellCode) -> None:
    """:func:`run_here` for a body that awaits: on the event loop that the cell runs on, which
    is never blocked. Its ``s`` is that of an async program. To cancel the cell (that is what
    Ctrl-C does to one that awaits) stops the run."""
    space, live = shell.user_ns, None

    async def body() -> Any:
        nonlocal live
        live = show_live(run, foreground=True)
        with lend(space, lent_names(_awaitable(run))):
            return await code.run_async(space)

    await run.execute_async(body, lambda error: failure(shell, run, error, code.filename))
    _conclude(run, code, live)


def _awaitable(run: Run) -> AsyncProgramState:
    return AsyncProgramState(run.state.stream_executor)


def _conclude(run: Run, code: CellCode, live: Live | None) -> None:
    """The body is over: raise its error or show its value."""
    if live is not None:
        live.finish()
    if run.error is not None:
        if run.totals().requests:  # else there is nothing to see
            display(run)
        raise run.error from None
    silent = DisplayHook.semicolon_at_end_of_expression(code.text)
    if run.value is not None and run.value is not run.state and not silent:
        display(run.value)


def run_behind(shell: InteractiveShell, run: Run, code: CellCode, context: Context) -> None:
    """Let what has begun in ``context`` go on in a thread of its own and return at once."""
    live = show_live(run, foreground=False)
    show_picture = place_static(run)
    names = lent_names(_awaitable(run) if code.is_async else run.state)

    def body() -> Any:
        with snapshot(shell.user_ns, names) as scope:
            if code.is_async:
                return run_blocking(code.run_async(scope), run.stop)
            return code.run(scope)

    def work() -> None:
        run.execute(body, lambda error: failure(shell, run, error, code.filename))
        if live is not None:
            live.finish()
        show_picture()

    context.run(run.state.stream_executor.start_body, work, f"sglnb-{run.id}")


def failure(
    shell: InteractiveShell, run: Run, error: BaseException, filename: str
) -> BaseException:
    """``error`` as the cell is to show it: at the line of the gen that failed, or where a
    gen of another cell was read."""
    if run.stopped:
        return clean(shell, KeyboardInterrupt(f"{run.id} was stopped; its text so far is kept"))
    origin = _origin(error)
    if origin is not None and (origin.where[0] == filename or not user_lines(error)):
        error = point_at(error, *origin.where)
    return clean(shell, error)


def _origin(error: BaseException | None) -> GenerationError | None:
    """The failed generation behind ``error`` whose line is known."""
    while error is not None:
        if isinstance(error, GenerationError) and error.where is not None:
            return error
        error = error.__cause__
    return None
