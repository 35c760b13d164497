"""What a program raises when a variable cannot be read."""

from __future__ import annotations

import os

from ..errors import RequestAborted, SglError

Where = tuple[str, int] | None
"""File and line where an expression was written."""


class GenerationError(SglError):
    """A generation failed; ``__cause__`` is the true error.

    Attributes:
        name: the variable that was being made, None when it had no name.
        where: (file, line) of the ``gen`` or ``select`` in the source, None if unknown.
        cause: the true error, the same as ``__cause__``.
    """

    def __init__(self, message: str, *, name: str | None, where: Where, cause: BaseException):
        super().__init__(message)
        self.name = name
        self.where = where
        self.cause = cause
        self.__cause__ = cause

    def again(self) -> GenerationError:
        """A fresh copy to raise, so that tracebacks of several readers do not pile up."""
        return type(self)(str(self), name=self.name, where=self.where, cause=self.cause)

    def for_variable(self, name: str) -> GenerationError:
        """The same failure, told to the reader of a variable that came after it."""
        if name == self.name:
            return self.again()
        return type(self)(
            f"variable {name!r} was never made: {self}",
            name=self.name,
            where=self.where,
            cause=self.cause,
        )


class GenerationAborted(GenerationError, RequestAborted):
    """A generation was stopped before its end; the text so far is kept in the state."""


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
