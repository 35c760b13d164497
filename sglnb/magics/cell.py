"""Run the body of a ``%%sgl`` cell, in the foreground or behind the notebook's back."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from ..errors import RequestAborted
from ..language import GenerationError
from .names import lend, lent_names, snapshot
from .run import Run
from .show import Live, show_live, show_static
from .source import CellCode
from .tracebacks import clean, point_at


def run_here(shell: InteractiveShell, run: Run, code: CellCode) -> None:
    """Run to the end while the cell is busy.

    Raises:
        BaseException: the program's own error, made clean for the cell (see
            :mod:`.tracebacks`); KeyboardInterrupt in one line when it was stopped.
    """
    live = show_live(run)
    space = shell.user_ns

    def body() -> Any:
        with lend(space, lent_names(run.state)):
            return code.run(space)

    run.execute(body)
    _close(run, live)
    if run.error is not None:
        show_static(run)
        raise failure(shell, run, code.filename) from None
    silent = DisplayHook.semicolon_at_end_of_expression(code.text)
    if run.value is not None and run.value is not run.state and not silent:
        display(run.value)


def run_behind(shell: InteractiveShell, run: Run, code: CellCode) -> None:
    """Start the run in a thread of its own and return at once."""
    live = show_live(run)
    names = lent_names(run.state)
    final = show_static(run, later=True)

    def body() -> Any:
        with snapshot(shell.user_ns, names) as scope:
            return code.run(scope)

    def work() -> None:
        run.execute(body)
        _close(run, live)
        if run.error is not None:
            run.error = failure(shell, run, code.filename)
        final()

    # The cell's context makes prints and widgets of the thread appear under this cell.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name=f"sglnb-{run.id}", daemon=True).start()


def failure(shell: InteractiveShell, run: Run, filename: str) -> BaseException:
    """``run.error`` as the cell is to show it: at the line of the gen that failed."""
    error = run.error
    assert error is not None
    if isinstance(error, KeyboardInterrupt) or (run.stopped and _is_abort(error)):
        return clean(shell, KeyboardInterrupt(f"{run.id} was stopped; its text so far is kept"))
    origin = _origin(error)
    if origin is not None and origin.where[0] == filename:
        # The line is shown; in the message it would be the name of a temporary file.
        place = f" at {origin.where[0]}:{origin.where[1]}"
        error.args = tuple(a.replace(place, "") if isinstance(a, str) else a for a in error.args)
        error = point_at(error, *origin.where)
    return clean(shell, error)


def _origin(error: BaseException | None) -> GenerationError | None:
    """The failed generation behind ``error`` whose line is known."""
    while error is not None:
        if isinstance(error, GenerationError) and error.where is not None:
            return error
        error = error.__cause__
    return None


def _is_abort(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, RequestAborted):
            return True
        error = error.__cause__
    return False


def _close(run: Run, live: Live | None) -> None:
    if live is not None:
        live.finish()
