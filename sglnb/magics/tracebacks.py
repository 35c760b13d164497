"""Errors of a ``%%sgl`` cell, told in the terms of the cell.

The frames shown are the user's: cells and the user's own modules. Those of this package, of
IPython, of installed packages and of Python itself say nothing about the program.
"""

from __future__ import annotations

import ast
import os
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from IPython.core.interactiveshell import InteractiveShell

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBRARIES = tuple(
    {_PACKAGE + os.sep}
    | {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


class CellSyntaxError(Exception):
    """The body of a cell is not Python.

    IPython shows a SyntaxError together with all the frames that led to its compiler; this
    stands for one and is shown by its line and caret only.
    """


def clean(shell: InteractiveShell, error: BaseException) -> BaseException:
    """``error``, made so that IPython shows it with the user's frames only.

    It is to be raised by the caller, so that the cell fails and "Run All" stops.
    """
    if isinstance(error, SyntaxError):
        text = shell.SyntaxTB.structured_traceback(type(error), error, [])
        out: BaseException = CellSyntaxError(f"{error.msg} (line {error.lineno})")
    elif isinstance(error, KeyboardInterrupt):
        text = [f"KeyboardInterrupt: {error}" if error.args else "KeyboardInterrupt"]
        out = error
    else:
        text = _structured(shell, error)
        out = error
    out._render_traceback_ = lambda: text
    return out


def point_at(error: BaseException, filename: str, lineno: int) -> BaseException:
    """``error`` with a traceback of one frame: line ``lineno`` of the cell ``filename``.

    For errors of operations that run after their line: a generation fails on the engine's
    thread, the line that asked for it is where the user has to look.
    """
    node = ast.parse("raise error")
    ast.increment_lineno(node, lineno - 1)
    try:
        exec(compile(node, filename, "exec"), {"error": error.with_traceback(None)})
    except BaseException as raised:  # the very error that was given
        raised.__traceback__ = raised.__traceback__.tb_next
    return error


def user_lines(error: BaseException) -> list[tuple[str, int]]:
    """``(file name, line)`` of the user's frames, outermost first."""
    out = []
    step = _user_traceback(error.__traceback__)
    while step is not None:
        out.append((step.tb_frame.f_code.co_filename, step.tb_lineno))
        step = step.tb_next
    return out


def _structured(shell: InteractiveShell, error: BaseException) -> list[str]:
    with _chain_cleaned(error):
        return shell.InteractiveTB.structured_traceback(
            type(error), error, _user_traceback(error.__traceback__), tb_offset=0
        )


@contextmanager
def _chain_cleaned(error: BaseException) -> Iterator[None]:
    """The errors behind ``error`` without library frames, as long as this block lasts. What
    never touched the user's code is cut off: its message is told by the error it led to."""
    undo = []
    while True:
        behind = error.__cause__
        if behind is None and not error.__suppress_context__:
            behind = error.__context__
        if behind is None:
            break
        undo.append((error, error.__cause__, error.__suppress_context__, behind.__traceback__))
        kept = _user_traceback(behind.__traceback__)
        if kept is None:
            error.__cause__, error.__suppress_context__ = None, True
            break
        behind.__traceback__ = kept
        error = behind
    try:
        yield
    finally:
        for changed, cause, suppress, traceback in undo:
            (cause or changed.__context__).__traceback__ = traceback
            changed.__cause__, changed.__suppress_context__ = cause, suppress


def _user_traceback(step: TracebackType | None) -> TracebackType | None:
    """A copy of the chain without the frames of libraries."""
    kept = []
    while step is not None:
        if _is_user(step.tb_frame):
            kept.append(step)
        step = step.tb_next
    chain = None
    for step in reversed(kept):
        chain = TracebackType(chain, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return chain


def _is_user(frame: FrameType) -> bool:
    """Cells, and files that are neither this package's nor installed ones."""
    filename = frame.f_code.co_filename
    return not filename.startswith(_LIBRARIES) and not filename.startswith("<frozen")
