"""The state of a program: the ``s`` that a program appends to and reads from."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from . import display, reading
from .backend import Backend
from .calls import run_calls
from .checkpoints import Checkpoint
from .executor import StreamExecutor
from .group import ProgramStateGroup
from .ir import (
    SglExpr,
    SglRoleBegin,
    SglRoleEnd,
    SglSetVariable,
    SglVarScopeBegin,
    SglVarScopeEnd,
    as_expr,
)
from .reading import wait
from .run import run_for
from .save import load, save
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
        ex = self.stream_executor
        ex.submit(begin)
        try:
            ex.depth += 1
            try:
                yield
            finally:
                ex.depth -= 1
            ex.submit(end, step=False)
        except BaseException:
            ex.submit(end, step=False, closing=True)
            raise

    # -- branches --------------------------------------------------------------------------

    def fork(self, size: int = 1) -> ProgramStateGroup:
        """``size`` branches that go on from here side by side. Does not wait."""
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"size: must be a whole number of at least 1, got {size!r}")
        children = self.stream_executor.fork(size)
        return ProgramStateGroup([type(self)(ex) for ex in children], self)

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

    def get_var(self, name: str, timeout: float | None = None) -> Any:
        """The value of a variable, waited for.

        Raises:
            GenerationError: it could not be made; the cause is chained. Of its kinds,
                GenerationAborted, GenerationTimeout and PromptTooLong say why.
            UnknownVariable: (a KeyError) nothing makes such a variable.
            TimeoutError: it is not there after ``timeout`` seconds; the generation goes on.
        """
        return wait(reading.variable(self.stream_executor, name), timeout)

    def value(self, name: str) -> Any:
        """The value of a variable as what its ``gen`` was asked for, waited for: an instance of
        ``type``, parsed JSON for ``json_schema``, a number for ``dtype=int``. A new object each
        time. Any other variable is as it is, and after ``join`` a list has one for each branch.

        Raises:
            ConstraintError: the text is no such thing; it may have been cut at max_tokens.
            GenerationError, UnknownVariable: as :meth:`get_var`.
        """
        return wait(reading.value(self.stream_executor, name))

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

    def get_meta_info(self, name: str, timeout: float | None = None) -> Any:
        """What the engine said of a generated variable: token counts, finish reason, ``seconds``
        (SGLang's ``e2e_latency``, also there), log-probabilities if asked for; None for one that
        was not generated. Waits and raises as :meth:`get_var`."""
        return wait(reading.meta_info(self.stream_executor, name), timeout)

    def text(self) -> str:
        """All text, waited for. After a failure: the text up to there."""
        return wait(reading.text(self.stream_executor))

    def messages(self) -> list[dict[str, Any]]:
        """The closed messages in the form of the OpenAI API, waited for. Where there are images,
        the content is a list of parts; images are ``data:`` URIs."""
        return wait(reading.messages(self.stream_executor))

    def error(self) -> BaseException | None:
        """What went wrong, waited for; None when all is well."""
        return wait(reading.error(self.stream_executor))

    def sync(self) -> None:
        """Wait until everything appended is done. Raises nothing of what went wrong."""
        wait(reading.everything(self.stream_executor))

    def text_iter(self, var_name: str | None = None) -> Iterator[str]:
        """Pieces of the text (or of one variable) as they come. Raises what cut it short
        after the last piece."""
        return text_iter(self.stream_executor, var_name)

    def text_async_iter(
        self, var_name: str | None = None, return_meta_data: bool = False
    ) -> AsyncIterator[Any]:
        """:meth:`text_iter` for ``async for``; with ``return_meta_data`` (piece, meta_info)."""
        return text_async_iter(self.stream_executor, var_name, return_meta_data)

    # -- going back ------------------------------------------------------------------------

    def at(self, name: str) -> ProgramState:
        """A new state, as this one was right after the variable ``name`` was made (the last
        time, if it was made more than once). This state does not change.

        Text, images, messages, variables and what is open are as they were there. If that was
        inside a message, the message is open: what is appended goes on with it, and to begin
        another message ends it. A variable scope that was open ends with ``SglVarScopeEnd``.
        The engine finds the common text in its cache. In a ``%%sgl`` cell the new state belongs
        to the cell's run. It counts as a branch: a seed of the run becomes another one in it.

        Waits for the variable and raises as :meth:`get_var`.
        """
        return self._branch(wait(reading.at(self.stream_executor, name)), f"at {name}")

    def before(self, name: str) -> ProgramState:
        """A new state, as this one was right before the variable ``name`` was made, or failed
        to be made: from there one can try again. For the variable of a ``var_scope``: before
        the scope began. As :meth:`at` in all else; a generation in flight is not waited for.

        Raises:
            GenerationError: making it was not even begun, because something before it failed.
            UnknownVariable: nothing makes such a variable.
        """
        return self._branch(wait(reading.before(self.stream_executor, name)), f"before {name}")

    def _branch(self, point: Checkpoint, label: str) -> ProgramState:
        ex = self.stream_executor
        return type(self)(ex.branch(point, run_for(ex), label))

    def undo(self, n: int = 1) -> None:
        """Take back the last ``n`` steps, in place, whatever became of them: a state that has
        failed is well again when the step that failed is taken back.

        A step is what one statement appended: a ``+=``, a message, an assignment to a variable,
        a join, or a ``with`` block as a whole once it is closed. What was dropped before it
        began is none. Waits until nothing is going on. What the engine computed stays in its
        cache.

        Raises:
            ValueError: there are fewer steps, or they reach out of an open ``with`` block.
        """
        wait(reading.undo(self.stream_executor, n))

    # -- keeping ---------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str] | None = None) -> str:
        """The state as JSON, waited for; written to ``path``, too, if one is given.

        It holds text, messages, images, variables and their meta_info, what went wrong, the
        run's sampling options, and the places that :meth:`at`, :meth:`before` and :meth:`undo`
        go to; not ``ret_value`` and not the types given to ``gen``: :meth:`value` of what was
        loaded is the text. Tuples come back as lists.

        Raises:
            ValueError: a variable (it is named) holds something that JSON cannot.
        """
        self.sync()
        return save(self.stream_executor, path)

    @classmethod
    def load(cls, source: str | os.PathLike[str], backend: Backend | None = None) -> ProgramState:
        """The state that :meth:`save` made, to go on with.

        Args:
            source: the file's path, or the JSON itself.
            backend: where it goes on; None takes the default backend. The text is kept as it
                is, with the chat template of the model that it was made with.

        Raises:
            FileNotFoundError: there is no such file. ValueError: it is no saved state, is
                damaged or of another version, or has images that the model cannot take.
        """
        return cls(load(source, backend))

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

    def to_svg(self) -> str:
        """The tokens and branches of the run as one SVG drawing."""
        return display.svg(self)

    def to_frame(self) -> Any:
        """The run, one row a token, as a pandas DataFrame."""
        return display.frame(self)
