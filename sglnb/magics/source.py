"""The body of a ``%%sgl`` cell as code whose line numbers are those of the cell."""

from __future__ import annotations

import ast
import linecache
import sys
from types import CodeType
from typing import Any, NamedTuple

from IPython.core.interactiveshell import InteractiveShell

_AWAIT = (
    'await cannot be used at the top of a %%sgl cell; s["name"] waits by itself. '
    "For a cell that runs in the background: %%sgl --bg"
)
_SHELL = (
    "the body of a %%sgl cell is plain Python: put %magics, !commands and help? "
    "in a cell of their own"
)


class CellCode(NamedTuple):
    """Compiled body. ``last`` is its last statement when that is an expression."""

    filename: str
    text: str
    body: CodeType
    last: CodeType | None

    def run(self, namespace: dict[str, Any]) -> Any:
        """Execute in ``namespace``; the value of the last expression, or None."""
        exec(self.body, namespace)
        return eval(self.last, namespace) if self.last is not None else None


def register(shell: InteractiveShell, line: str, body: str) -> str:
    """Give the cell's text to :mod:`linecache` and return the file name it stands under.

    The cell that called the magic has a name already, which the debugger knows too, but
    under it is kept what IPython made of the cell: one call of ``run_cell_magic``. What the
    user wrote takes its place, so that tracebacks show it.
    """
    text = f"%%sgl {line}".rstrip() + "\n" + body
    filename = _calling_cell(shell)
    if filename is None:
        return shell.compile.cache(text, shell.execution_count - 1)  # it counts ahead
    lines = [part + "\n" for part in text.splitlines()]
    linecache.cache[filename] = (len(text), None, lines, filename)
    return filename


def compile_body(shell: InteractiveShell, body: str, filename: str) -> CellCode:
    """Compile ``body``, the text under the ``%%sgl`` line.

    Raises:
        SyntaxError: as Python tells it, or in words of ours for IPython's own syntax and
            for a top-level await. Its line number counts the ``%%sgl`` line.
    """
    # The blank line stands for the %%sgl line: all line numbers are right from the start.
    source = "\n" + body
    try:
        tree = shell.compile.ast_parse(source, filename)
        last = None
        rest = tree.body
        if rest and isinstance(rest[-1], ast.Expr):
            expression = ast.Expression(rest[-1].value)
            last = _compile(shell, expression, filename, "eval")
            rest = rest[:-1]
        code = _compile(shell, ast.Module(rest, tree.type_ignores), filename, "exec")
    except SyntaxError as error:
        error.msg = _explain(error, source)
        raise
    return CellCode(filename, body, code, last)


def _compile(shell: InteractiveShell, tree: ast.AST, filename: str, mode: str) -> CodeType:
    return compile(tree, filename, mode, flags=shell.compile.flags, dont_inherit=True)


def _explain(error: SyntaxError, source: str) -> str:
    lines = source.splitlines()
    line = lines[error.lineno - 1] if error.lineno and error.lineno <= len(lines) else ""
    value = line.partition("=")[2]
    starts = (line.lstrip()[:1], value.lstrip()[:1])
    if any(start and start in "!%?" for start in starts) or line.rstrip().endswith("?"):
        return _SHELL
    if "outside" in (error.msg or "") and ("await" in error.msg or "async" in error.msg):
        return _AWAIT
    return error.msg


def _calling_cell(shell: InteractiveShell) -> str | None:
    """File name of the notebook cell that consists of this magic, None when called by hand."""
    frame = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if frame.f_code.co_name == "<module>" and shell.compile.format_code_name(filename):
            first = linecache.getline(filename, 1)
            return filename if first.startswith("get_ipython().run_cell_magic('sgl'") else None
        frame = frame.f_back
    return None
