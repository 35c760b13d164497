"""Calls that a model has written: bound to their functions, and run only when asked to."""

from __future__ import annotations

import enum
import inspect
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pydantic import ValidationError

from ..errors import ConstraintError
from ..runtime.constraints.grammar import matches
from ..runtime.constraints.literals import has_fields
from ..runtime.constraints.signatures import Function, read_function
from ..runtime.constraints.tools import ToolSet, arguments_type
from ..runtime.constraints.types import read_json, read_value, type_name
from .evaluate import Evaluator, parse
from .values import cut


class Call:
    """A call of a tool, not run yet; ``call()`` runs it.

    Attributes:
        name: what the text calls the function.
        function: the function.
        arguments: the arguments that the text gives, by parameter, as the types of the signature
            have them. An argument that is a call itself (Python style) is a :class:`Call`.
    """

    def __init__(self, function: Function, arguments: dict[str, Any]):
        self.name, self.function, self.arguments = function.name, function.function, arguments
        self._signature = function

    def __call__(self) -> Any:
        """Run the calls among the arguments, then this one, and give its result (of an ``async``
        function a coroutine).

        Raises:
            ConstraintError: the result of an inner call is not of the parameter's type.
            Exception: what the function raises, with the call as a note.
        """
        given = {p.name: p for p in self._signature.parameters}
        arguments = {}
        for name, value in self.arguments.items():
            if _has_calls(value):
                what = f"argument {name!r} of {self!r}"
                value = _checked(given[name].type, _run_inner(value), what)
            arguments[name] = value
        args, kwargs = _placed(self._signature, arguments)
        try:
            return self.function(*args, **kwargs)
        except Exception as error:
            error.add_note(f"in the call {self!r}")
            raise

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Call) and (self.name, self.function, self.arguments) == (
            other.name,
            other.function,
            other.arguments,
        )

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        places = {p.name for p in self._signature.parameters if p.kind is p.kind.POSITIONAL_ONLY}
        given = {name: as_source(value) for name, value in self.arguments.items()}
        parts = (v if k in places else f"{k}={v}" for k, v in given.items())
        return f"{self.name}({', '.join(parts)})"


def as_source(value: Any) -> str:
    """``value`` as Python source: its ``repr``, save that members of enums are ``Colour.RED``."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if type(value) in (list, set) and value:
        inner = ", ".join(map(as_source, value))
        return f"[{inner}]" if type(value) is list else f"{{{inner}}}"
    if type(value) is tuple:
        return f"({', '.join(map(as_source, value))}{',' * (len(value) == 1)})"
    if type(value) is dict:
        return f"{{{', '.join(f'{as_source(k)}: {as_source(v)}' for k, v in value.items())}}}"
    return repr(value)


class CallForm:
    """The text of ``gen(tools=...)``."""

    ends: tuple[str, ...] = ()

    def __init__(self, tools: ToolSet):
        self.tools = tools

    def read(self, text: Any, meta_info: Any) -> Any:
        tools = self.tools
        try:
            if not matches(tools.grammar, text):
                raise ConstraintError(f"no call of {tools.source}: {text[:200]!r}")
            calls = [_read(tools, part) for part in _parts(tools, text)]
        except ConstraintError as error:
            raise ConstraintError(f"{error}{cut(meta_info)}") from None
        return calls[0] if tools.is_one else calls


def run_calls(value: Any) -> Any:
    """Run a call, or the calls of a list; None is left as it is.

    Raises:
        TypeError: it is no call.
    """
    if isinstance(value, list):
        return [run_calls(one) for one in value]
    if value is not None and not isinstance(value, Call):
        raise TypeError(f"no call of a tool but {type(value).__name__} {value!r:.60}")
    return value if value is None else value()


async def await_calls(result: Any) -> Any:
    """What :func:`run_calls` gave, with the coroutines in it awaited one after another."""
    if isinstance(result, list):
        return [await await_calls(one) for one in result]
    return await result if inspect.iscoroutine(result) else result


# -- from a text to calls -------------------------------------------------------------------


def _parts(tools: ToolSet, text: str) -> Iterator[str]:
    """The calls in a text of the grammar of ``tools``."""
    if tools.is_one:
        yield text
    elif tools.when is None:
        at = 1
        while at < len(text) - 1:
            end = _end(text, at)
            yield text[at:end]
            at = end + len(", ")
    else:
        begin, after = tools.when
        at = text.find(begin)
        while at >= 0:
            at += len(begin) + text.startswith("\n", at + len(begin))
            end = _end(text, at)
            yield text[at:end]
            at = text.find(begin, text.index(after, end) + len(after))


def _end(text: str, at: int) -> int:
    """Where the call that begins at ``at`` ends: at the bracket that closes its first. Texts in
    quotes are the same in JSON and in the Python that is written here."""
    depth, quoted, escaped = 0, False, False
    for i in range(at, len(text)):
        c = text[i]
        if escaped or (quoted and c == "\\"):
            escaped = not escaped
        elif c == '"':
            quoted = not quoted
        elif not quoted and c in "([{":
            depth += 1
        elif not quoted and c in ")]}":
            depth -= 1
            if depth == 0:
                return i + 1
    raise ConstraintError(f"a call does not end: {text[at : at + 200]!r}")


def _read(tools: ToolSet, text: str) -> Call:
    if tools.style == "json":
        function = tools.functions[json.loads(text)["name"]]
        head = text.index('"arguments": ') + len('"arguments": ')
        return Call(function, read_json(arguments_type(function), text[head:-1]))
    scope = {**tools.classes}
    scope |= {name: partial(_call, f) for name, f in tools.functions.items()}
    try:
        return Evaluator(scope, _make).visit(parse(text))
    except ValidationError as error:
        raise ConstraintError(_first(error)) from None


def _make(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The value of a call in Python style: of a tool a :class:`Call`, of a class an object, or a
    call of it when there are calls inside."""
    if isinstance(function, partial) and function.func is _call:
        return function(*args, **kwargs)
    if not inspect.isclass(function) or not has_fields(function):
        return function(*args, **kwargs)  # such as date.fromisoformat
    made = _call(read_function(function, "tools"), *args, **kwargs)
    return made if _has_calls(made.arguments) else made()


def _call(function: Function, *args: Any, **kwargs: Any) -> Call:
    places = zip((p.name for p in function.parameters), args, strict=False)
    arguments = {**dict(places), **kwargs}
    for p in function.parameters:
        if p.name in arguments and not _has_calls(arguments[p.name]):
            what = f"{function.name}(): argument {p.name!r}"
            arguments[p.name] = _checked(p.type, arguments[p.name], what)
    return Call(function, arguments)


def _checked(kind: Any, value: Any, what: str) -> Any:
    try:
        return read_value(kind, value)
    except (ValidationError, ConstraintError) as error:
        why = f": {_first(error)}" if isinstance(error, ValidationError) else ""
        raise ConstraintError(f"{what}: {value!r:.100} is no {type_name(kind)}{why}") from None


def _first(error: ValidationError) -> str:
    return error.errors(include_url=False)[0]["msg"]


# -- running --------------------------------------------------------------------------------


def _has_calls(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_calls, (*value.keys(), *value.values())))
    if isinstance(value, (list, tuple, set)):
        return any(map(_has_calls, value))
    return isinstance(value, Call)


def _run_inner(value: Any) -> Any:
    """``value`` with the results of the calls in it."""
    if isinstance(value, dict):
        return {_run_inner(k): _run_inner(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)) and _has_calls(value):
        return type(value)(_run_inner(one) for one in value)
    if not isinstance(value, Call):
        return value
    result = value()
    if inspect.iscoroutine(result):
        result.close()
        raise ConstraintError(f"{value!r} is async; its result cannot be waited for inside a call")
    return result


def _placed(function: Function, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """(positional, by name): what ``function`` takes only by position, and the rest. Before a
    position that is given, those left out have their defaults."""
    only = [p.name for p in function.parameters if p.kind is p.kind.POSITIONAL_ONLY]
    last = max((i for i, name in enumerate(only, 1) if name in arguments), default=0)
    defaults = inspect.signature(function.function).parameters if last else {}
    args = [arguments[n] if n in arguments else defaults[n].default for n in only[:last]]
    return args, {k: v for k, v in arguments.items() if k not in only}
