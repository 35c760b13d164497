"""The body of a ``%%sgl`` cell as code whose line numbers are those of the cell."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
from types import CodeType
from typing import Any, NamedTuple

from IPython.core.interactiveshell import InteractiveShell

_CALL = "get_ipython().run_cell_magic('sgl', "
"""How the cell begins that IPython makes of a ``%%sgl`` cell."""

_SHELL = (
    "the body of a %%sgl cell is plain Python: put %magics, !commands and help? "
    "in a cell of their own"
)


class CellCode(NamedTuple):
    """Compiled body. ``last`` is its last statement when that is an expression; ``is_async``:
    there is an ``await``, ``async for`` or ``async with`` at its top level."""

    filename: str
    text: str
    body: CodeType
    last: CodeType | None

    @property
    def source(self) -> str:
        """:attr:`text` with the line numbers of the code."""
        return "\n" + self.text

    @property
    def is_async(self) -> bool:
        codes = (self.body, self.last)
        return any(code is not None and _awaits(code) for code in codes)

    def run(self, namespace: dict[str, Any]) -> Any:
        """Execute in ``namespace``; the value of the last expression, or None."""
        exec(self.body, namespace)
        return eval(self.last, namespace) if self.last is not None else None

    async def run_async(self, namespace: dict[str, Any]) -> Any:
        """:meth:`run` for a body that awaits, as part of the running task."""
        value = None
        for code in (self.body, self.last):
            value = eval(code, namespace) if code is not None else None
            if code is not None and _awaits(code):
                value = await value
        return value


def _awaits(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_COROUTINE)


def await_async_cells(lines: list[str]) -> list[str]:
    """Make IPython await the ``%%sgl`` cells whose bodies await: for
    ``input_transformers_post``. So they run on the notebook's own event loop, as other cells with
    a top-level await do, and the kernel is not blocked. One in the background is not awaited."""
    if not lines or not lines[0].startswith(_CALL):
        return lines
    try:
        match ast.parse("".join(lines)).body:
            case [ast.Expr(ast.Call(args=[_, ast.Constant(str(line)), ast.Constant(str(body))]))]:
                code = compile(body, "", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                if _awaits(code) and "--bg" not in line.split():
                    return ["await " + lines[0], *lines[1:]]
    except (SyntaxError, ValueError):
        pass  # the magic will tell
    return lines


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
        SyntaxError: as Python tells it, or in words of ours for IPython's own syntax. Its line
            number counts the ``%%sgl`` line.
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
    flags = shell.compile.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return compile(tree, filename, mode, flags=flags, dont_inherit=True)


def _explain(error: SyntaxError, source: str) -> str:
    lines = source.splitlines()
    line = lines[error.lineno - 1] if error.lineno and error.lineno <= len(lines) else ""
    value = line.partition("=")[2]
    starts = (line.lstrip()[:1], value.lstrip()[:1])
    if any(start and start in "!%?" for start in starts) or line.rstrip().endswith("?"):
        return _SHELL
    return error.msg


def _calling_cell(shell: InteractiveShell) -> str | None:
    """File name of the notebook cell that consists of this magic, None when called by hand."""
    frame = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if frame.f_code.co_name == "<module>" and shell.compile.format_code_name(filename):
            first = linecache.getline(filename, 1)
            return filename if first.removeprefix("await ").startswith(_CALL) else None
        frame = frame.f_back
    return None
