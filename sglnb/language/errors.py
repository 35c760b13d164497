"""What a program raises when a variable cannot be read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import ContextLengthError, RequestAborted, SglError

if TYPE_CHECKING:
    from .executor import StreamExecutor
    from .state import ProgramState

Where = tuple[str, int] | None
"""File and line where an expression was written."""


class GenerationError(SglError):
    """A generation failed; ``__cause__`` is the true error.

    Attributes:
        name: the variable that was being made, None when it had no name.
        where: (file, line) of the ``gen`` or ``select`` in the source, None if unknown.
        cause: the true error, the same as ``__cause__``.
    """

    verb = "failed"

    def __init__(
        self,
        message: str,
        *,
        name: str | None,
        where: Where,
        cause: BaseException,
        executor: StreamExecutor | None = None,
    ):
        super().__init__(message)
        self.name = name
        self.where = where
        self.cause = cause
        self.__cause__ = cause
        self._executor = executor

    @property
    def state(self) -> ProgramState | None:
        """The state that it happened in, with the text so far. To try again from there:
        ``error.state.before(error.name)``."""
        from .state import ProgramState

        return ProgramState(self._executor) if self._executor is not None else None

    def again(self) -> GenerationError:
        """A fresh copy to raise, so that tracebacks of several readers do not pile up."""
        return self._copy(str(self))

    def _copy(self, message: str) -> GenerationError:
        return type(self)(
            message,
            name=self.name,
            where=self.where,
            cause=self.cause,
            executor=self._executor,
        )

    def for_variable(self, name: str) -> GenerationError:
        """The same failure, told to the reader of a variable that came after it."""
        if name == self.name:
            return self.again()
        return self._copy(f"variable {name!r} was never made: {self}")


class GenerationAborted(GenerationError, RequestAborted):
    """A generation was stopped before its end; the text so far is kept in the state."""

    verb = "was stopped"


class GenerationTimeout(GenerationError, TimeoutError):
    """A generation, or its whole program, took longer than its ``timeout``. As after a stop,
    the text so far is kept and the state can go on."""

    verb = "ran out of time"


class PromptTooLong(GenerationError, ContextLengthError):
    """The text of the state does not fit into the model's context or the KV pool."""


STOPPED = (RequestAborted, GenerationTimeout)
"""After these a state can go on; after any other error it is failed for good."""


def stop_kind(problem: BaseException) -> type[GenerationError]:
    """How the readers of a generation are told that ``problem`` stopped it."""
    return GenerationTimeout if isinstance(problem, TimeoutError) else GenerationAborted


def failure_kind(problem: BaseException) -> type[GenerationError]:
    """How the readers of a generation are told that ``problem`` made it fail."""
    return PromptTooLong if isinstance(problem, ContextLengthError) else GenerationError


class BranchError(SglError):
    """Some branches of a fork failed.

    Attributes:
        errors: one item a branch, None where it went well.
    """

    def __init__(self, errors: list[BaseException | None]):
        self.errors = errors
        bad = [i for i, error in enumerate(errors) if error is not None]
        first = errors[bad[0]]
        super().__init__(
            f"{len(bad)} of {len(errors)} branches failed ({', '.join(map(str, bad))}); "
            f"branch {bad[0]}: {one_line(first)}. Every result is kept: see the group's "
            'errors, or use join(on_error="keep")'
        )
        self.__cause__ = first


class BatchInterrupted(KeyboardInterrupt):
    """``run_batch`` was interrupted.

    Attributes:
        results: what ``run_batch`` would have returned: for rows that were cut short the text
            so far, None (in a table: nothing) for rows that had not begun.
    """

    def __init__(self, message: str, results: object):
        super().__init__(message)
        self.results = results


class UnknownVariable(SglError, KeyError):
    """A state has no variable of that name."""

    __str__ = Exception.__str__  # KeyError would show the repr of the message


def one_line(error: BaseException) -> str:
    """``Type: message`` on one line; only the message for our own errors. A caret under a
    place would point nowhere there."""
    lines = (line for line in str(error).splitlines() if line.strip() != "^")
    text = " ".join(" ".join(lines).split())
    if isinstance(error, SglError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def describe(kind: str, name: str | None, where: Where) -> str:
    """``gen('answer') at qa.py:12``; a notebook cell has no file, only the line is told."""
    text = f"{kind}({name!r})" if name is not None else f"{kind}()"
    if where is None:
        return text
    file, line = where
    return f"{text} at {file}:{line}" if os.path.isfile(file) else f"{text} at line {line}"
