"""The state of a program: the ``s`` that a program appends to and reads from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from . import display
from .calls import run_calls
from .executor import StreamExecutor
from .group import ProgramStateGroup
from .images import for_api
from .ir import (
    SglExpr,
    SglRoleBegin,
    SglRoleEnd,
    SglSetVariable,
    SglVarScopeBegin,
    SglVarScopeEnd,
    as_expr,
)
from .streaming import text_async_iter, text_iter


class ProgramState:
    """Text, messages and variables of a program, and the way to add to them.

    Appending (``s += ...``) never waits. Reading a variable (``s["x"]``) waits for it, and
    raises what went wrong with it. A state lives on after its program: append to it, fork it
    or read it in the next cell.

    Attributes:
        ret_value: what the program's body returned.
    """

    def __init__(self, stream_executor: StreamExecutor):
        self.stream_executor = stream_executor
        self.ret_value: Any = None

    # -- appending -------------------------------------------------------------------------

    def __iadd__(self, other: Any) -> ProgramState:
        self.stream_executor.submit(other)
        return self

    def system(self, expr: SglExpr | str | None = None) -> AbstractContextManager | None:
        """Append a system message, or without ``expr`` open one: ``with s.system():``."""
        return self._role("system", expr)

    def user(self, expr: SglExpr | str | None = None) -> AbstractContextManager | None:
        """Append a user message, or without ``expr`` open one: ``with s.user():``."""
        return self._role("user", expr)

    def assistant(self, expr: SglExpr | str | None = None) -> AbstractContextManager | None:
        """Append an assistant message, or without ``expr`` open one."""
        return self._role("assistant", expr)

    def _role(self, role: str, expr: SglExpr | str | None) -> AbstractContextManager | None:
        if expr is None:
            return self._block(SglRoleBegin(role), SglRoleEnd(role))
        self.stream_executor.submit(SglRoleBegin(role) + as_expr(expr) + SglRoleEnd(role))
        return None

    def var_scope(self, name: str) -> AbstractContextManager:
        """Keep all text appended inside the ``with`` block as variable ``name``."""
        return self._block(SglVarScopeBegin(name), SglVarScopeEnd(name))

    @contextmanager
    def _block(self, begin: SglExpr, end: SglExpr) -> Iterator[None]:
        self.stream_executor.submit(begin)
        try:
            yield
            self.stream_executor.submit(end)
        except BaseException:
            self.stream_executor.submit(end, closing=True)
            raise

    # -- branches --------------------------------------------------------------------------

    def fork(self, size: int = 1) -> ProgramStateGroup:
        """``size`` branches that go on from here side by side. Does not wait."""
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"size: must be a whole number of at least 1, got {size!r}")
        children = self.stream_executor.fork(size)
        return ProgramStateGroup([ProgramState(ex) for ex in children], self)

    @contextmanager
    def copy(self) -> Iterator[ProgramState]:
        """One branch for a ``with`` block, joined at its end."""
        group = self.fork(1)
        try:
            yield group[0]
        except BaseException:
            group[0].stream_executor.end()
            raise
        group.join()

    # -- reading ---------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        return self.get_var(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.set_var(name, value)

    def __contains__(self, name: str) -> bool:
        """Whether the variable has its value by now; does not wait."""
        return name in self.stream_executor.variables

    def get_var(self, name: str) -> Any:
        """The value of a variable, waited for.

        Raises:
            GenerationError: it could not be made; the cause is chained.
            UnknownVariable: (a KeyError) nothing makes such a variable.
        """
        return self.stream_executor.get_var(name)

    def value(self, name: str) -> Any:
        """The value of a variable as what its ``gen`` was asked for, waited for: an instance of
        ``type``, parsed JSON for ``json_schema``, a number for ``dtype=int``. A new object each
        time. Any other variable is as it is, and after ``join`` a list has one for each branch.

        Raises:
            ConstraintError: the text is no such thing; it may have been cut at max_tokens.
            GenerationError, UnknownVariable: as :meth:`get_var`.
        """
        return self.stream_executor.get_value(name)

    def call(self, name: str) -> Any:
        """Run the call that ``gen(name, tools=...)`` wrote, waited for, and give its result; of
        several calls a list of results, in their order.

        Raises:
            Exception: what the tool raises, with the call as a note.
            TypeError: the variable is no call. Else as :meth:`value`.
        """
        return run_calls(self.value(name))

    def set_var(self, name: str, value: Any) -> None:
        """Set a variable; no text is appended."""
        self.stream_executor.submit(SglSetVariable(name, value))

    def get_meta_info(self, name: str) -> Any:
        """What the engine said of a generated variable: token counts, finish reason,
        log-probabilities if asked for. Waits and raises as :meth:`get_var`."""
        return self.stream_executor.get_meta_info(name)

    def text(self) -> str:
        """All text, waited for. After a failure: the text up to there."""
        self.sync()
        return self.stream_executor.text_

    def messages(self) -> list[dict[str, Any]]:
        """The closed messages in the form of the OpenAI API, waited for. Where there are images,
        the content is a list of parts; images are ``data:`` URIs."""
        self.sync()
        return [for_api(message) for message in self.stream_executor.messages_]

    def error(self) -> BaseException | None:
        """What went wrong, waited for; None when all is well."""
        self.sync()
        return self.stream_executor.error_

    def sync(self) -> None:
        """Wait until everything appended is done. Raises nothing of what went wrong."""
        self.stream_executor.sync()

    def text_iter(self, var_name: str | None = None) -> Iterator[str]:
        """Pieces of the text (or of one variable) as they come. Raises what cut it short
        after the last piece."""
        return text_iter(self.stream_executor, var_name)

    def text_async_iter(
        self, var_name: str | None = None, return_meta_data: bool = False
    ) -> AsyncIterator[Any]:
        """:meth:`text_iter` for ``async for``; with ``return_meta_data`` (piece, meta_info)."""
        return text_async_iter(self.stream_executor, var_name, return_meta_data)

    # -- the run and what it looks like ----------------------------------------------------

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that have their value by now; a copy."""
        with self.stream_executor.lock:
            return dict(self.stream_executor.variables)

    @property
    def run_id(self) -> str:
        """The ``run`` of this state's events and requests."""
        return self.stream_executor.run.id

    def abort(self) -> None:
        """Stop the run that this state belongs to. What is there is kept, and once the
        program's body has ended the state can go on."""
        self.stream_executor.run.abort()

    def __repr__(self) -> str:
        return display.short(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return display.mimebundle(self)

    def to_html(self) -> str:
        """The run as one self-contained HTML page."""
        return display.html(self)

    def to_frame(self) -> Any:
        """The run, one row a token, as a pandas DataFrame."""
        return display.frame(self)
