"""Python functions as what can be called: their parameters with types, and what they return."""

from __future__ import annotations

import functools
import inspect
import keyword
import types
import typing
import unicodedata
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from pydantic.fields import FieldInfo

from sglnb.errors import ConstraintError

POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
UNKNOWN = inspect.Signature.empty
"""The type of a result without an annotation."""


class Parameter(NamedTuple):
    """One parameter of a function; ``kind`` is ``inspect``'s."""

    name: str
    kind: Any
    type: Any
    required: bool


class Function(NamedTuple):
    """A function that can be called in a text.

    Attributes:
        name: what a text calls it.
        function: the object itself.
        returns: type of the result, or :data:`UNKNOWN`.
        overload: a number, where several are written by one name.
    """

    name: str
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    returns: Any
    overload: int = 0

    def __str__(self) -> str:
        return f"{self.name}({', '.join(p.name for p in self.parameters)})"


class Same:
    """Stands for one object in a key: equal only to itself, whatever the object thinks."""

    def __init__(self, it: Any):
        self.it = it

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Same) and other.it is self.it

    def __hash__(self) -> int:
        return id(self.it)


def read_function(function: Any, argument: str, name: str | None = None) -> Function:
    """What a text can say of ``function``.

    Args:
        function: a function, a bound method, a class, or anything callable that ``inspect`` has
            a signature of, with annotations for all parameters.
        argument: where it was given, for errors.
        name: what a text calls it; None is its own name.

    Raises:
        ConstraintError: it cannot be called from a text; the function and the parameter are named.
    """
    if not callable(function):
        raise ConstraintError(f"{argument}: expected functions, got {function!r:.80}")
    name = name if name is not None else name_of(function)
    if not is_name(name):
        raise ConstraintError(
            f"{argument}: {name!r} is no name that a call can have; give it one with a dict: "
            f'{argument}={{"name": function}}'
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ConstraintError(f"{argument}: {name}() has no signature: {error}") from None
    parameters = []
    for given in signature.parameters.values():
        what = f"{argument}: {name}(): parameter {given.name!r}"
        if inspect.isclass(function) and given.kind == given.VAR_KEYWORD:
            continue  # a model that takes more than its fields
        if given.kind in (given.VAR_POSITIONAL, given.VAR_KEYWORD):
            stars = "*" if given.kind == given.VAR_POSITIONAL else "**"
            raise ConstraintError(
                f"{what} takes any number ({stars}{given.name}); write each parameter out"
            )
        if given.annotation is given.empty:
            raise ConstraintError(f"{what} has no type; write {given.name}: int, or whatever it is")
        kind = _resolve(given.annotation, function, what)
        required = given.default is given.empty
        if isinstance(given.default, FieldInfo):  # validate_call: x: int = Field(ge=0)
            kind, required = Annotated[kind, given.default], given.default.is_required()
        parameters.append(Parameter(given.name, given.kind, kind, required))
    returns = signature.return_annotation
    if inspect.isclass(function):
        returns = function
    elif returns is not UNKNOWN:
        returns = _resolve(returns, function, f"{argument}: the result of {name}()")
    return Function(name, function, tuple(parameters), returns)


def name_of(function: Any) -> str:
    """The function's own name; of a partial, that of what it calls."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def is_name(text: Any) -> bool:
    """Whether Python reads ``text`` as a name, and as this one (it normalises letters)."""
    return (
        isinstance(text, str)
        and text.isidentifier()
        and not keyword.iskeyword(text)
        and unicodedata.normalize("NFKC", text) == text
    )


def _resolve(annotation: Any, function: Any, what: str) -> Any:
    """An annotation as a type; those kept as text are read where the function was written."""
    plain = _plain(function)
    scope = dict(getattr(plain, "__globals__", {}))
    if inspect.isclass(plain):
        scope = dict(vars(inspect.getmodule(plain) or types)) | {plain.__name__: plain}
    elif isinstance(plain, types.FunctionType):
        cells = zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True)
        for name, cell in cells:
            try:
                scope[name] = cell.cell_contents
            except ValueError:  # not filled yet
                continue
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        kind = typing.get_type_hints(holder, scope, include_extras=True)["it"]
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise ConstraintError(f"{what}: its type {annotation!r} cannot be read: {error}") from None
    if isinstance(kind, (typing.TypeVar, typing.ParamSpec)):
        raise ConstraintError(f"{what}: its type {kind} stands for any; write which")
    return kind


def _plain(function: Any) -> Any:
    """The function that was written, under methods, partials and wrappers."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif hasattr(function, "raw_function"):  # pydantic's validate_call
            function = function.raw_function
        elif inspect.isroutine(function) or inspect.isclass(function):
            return function
        else:
            function = type(function).__call__
