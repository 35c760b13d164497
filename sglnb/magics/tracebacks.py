"""Errors of a ``%%sgl`` cell, told in the terms of the cell.

The frames shown are the user's: cells and the user's own modules. Those of this package, of
IPython, of installed packages and of Python itself say nothing about the program.
"""

from __future__ import annotations

import ast
import os
import sysconfig
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
    cause, context = error.__cause__, error.__context__
    if not _is_user(_last_frame(error.__traceback__)):
        # What the library caught on its way to the error is not the user's concern.
        error.__cause__ = error.__context__ = None
    try:
        return shell.InteractiveTB.structured_traceback(
            type(error), error, _user_traceback(error.__traceback__), tb_offset=0
        )
    finally:
        error.__cause__, error.__context__ = cause, context


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


def _last_frame(step: TracebackType | None) -> FrameType | None:
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return step.tb_frame if step is not None else None


def _is_user(frame: FrameType | None) -> bool:
    """Cells, and files that are neither this package's nor installed ones."""
    if frame is None:
        return False
    filename = frame.f_code.co_filename
    return not filename.startswith(_LIBRARIES) and not filename.startswith("<frozen")
