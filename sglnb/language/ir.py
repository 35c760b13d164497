"""Expressions: what a program can append to its state. They are plain values that say what
to do; nothing runs until a state executes them, and one expression may go to many states."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .choices import ChoicesSamplingMethod
from .errors import Where

if TYPE_CHECKING:
    from ..runtime.images import Image
    from .state import ProgramState
    from .values import Form

_PACKAGE = __name__.rpartition(".")[0]


def caller() -> Where:
    """File and line of the nearest frame outside this package, which calls this."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame is not None else None


class SglExpr:
    """Base of all expressions. They add up: ``"Q: " + gen("a") + "\\n"``."""

    def __add__(self, other: Any) -> SglExprList:
        return SglExprList(_parts(self) + _parts(as_expr(other)))

    def __radd__(self, other: Any) -> SglExprList:
        return SglExprList(_parts(as_expr(other)) + _parts(self))

    def __format__(self, spec: str) -> str:
        raise TypeError(
            f"{self!r} has no value yet and cannot stand inside an f-string; "
            'append it with + ("text " + gen("x")), or read the variable first (s["x"])'
        )


def as_expr(value: Any) -> SglExpr:
    """``value`` as an expression.

    Raises:
        TypeError: it is neither text nor an expression. ValueError: a text of broken Unicode.
    """
    if issubclass(type(value), str):  # isinstance() would believe a placeholder of a trace
        if not value.isascii():
            check_unicode("text", value)
        return SglConstantText(value)
    if isinstance(value, SglExpr):
        return value
    if value is None:
        raise TypeError("cannot append None; did a function forget to return its expression?")
    raise TypeError(
        f"cannot append {type(value).__name__} {value!r:.60}; "
        "append a string (str(...)) or an expression such as gen(...)"
    )


def check_unicode(name: str, text: str) -> None:
    """ValueError, which begins with ``name``, for a text that no tokenizer can read."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name}: has a lone surrogate {text[error.start]!r} at position {error.start}, half "
            "of a character; mend it with text.encode('utf-8', 'replace').decode()"
        ) from None


def _parts(expr: SglExpr) -> list[SglExpr]:
    return expr.expr_list if isinstance(expr, SglExprList) else [expr]


class SglConstantText(SglExpr):
    """Text as it is."""

    def __init__(self, value: str):
        self.value = value

    def __repr__(self) -> str:
        return f"Constant({self.value!r})"


class SglExprList(SglExpr):
    """Expressions one after another."""

    def __init__(self, expr_list: list[SglExpr]):
        self.expr_list = expr_list

    def __repr__(self) -> str:
        return f"ExprList({self.expr_list!r})"


def flatten(expr: SglExpr) -> list[SglExpr]:
    """The expressions of a (nested) list, in order."""
    if not isinstance(expr, SglExprList):
        return [expr]
    out: list[SglExpr] = []
    for part in expr.expr_list:
        if isinstance(part, SglExprList):
            out += flatten(part)
        else:
            out.append(part)
    return out


class SglGen(SglExpr):
    """Let the model write. ``sampling_params`` holds only what was given here; the rest comes
    from ``run()``. ``dtype`` is "int", "float", "bool", "str" or None; ``form`` makes a value of
    the text; ``pick`` tells which of n texts the state goes on with."""

    def __init__(
        self,
        name: str | None = None,
        sampling_params: dict[str, Any] | None = None,
        dtype: str | None = None,
        where: Where = None,
        form: Form | None = None,
        pick: int | Callable[[list[str]], int] = 0,
        timeout: float | None = None,
    ):
        self.name = name
        self.form = form
        self.sampling_params = dict(sampling_params or {})
        self.dtype = dtype
        self.pick = pick
        self.timeout = timeout
        self.plain = form is None and isinstance(pick, int)
        """Its text is taken as it comes: there is nothing to check and nobody to ask."""
        self.where = where or caller()

    def __repr__(self) -> str:
        return f"Gen({self.name!r})"


class SglSeparateReasoning(SglExpr):
    """Take the reasoning out of the text of ``expr``, the ``gen`` before it, and keep it as
    variable ``name``."""

    def __init__(self, model_type: str | tuple[str, str], expr: SglGen):
        self.model_type = model_type
        self.expr = expr
        self.name = self.process_name_for_reasoning(expr.name)

    @staticmethod
    def process_name_for_reasoning(name: str | None) -> str:
        """The name of the variable with the reasoning of variable ``name``.

        Raises:
            ValueError: there is no name.
        """
        if not name:
            raise ValueError("separate_reasoning: the gen needs a name, or nobody could read it")
        return f"{name}_reasoning_content"

    def __repr__(self) -> str:
        return f"SeparateReasoning(model_type={self.model_type}, name={self.name})"


class SglSelect(SglExpr):
    """Let the model choose the likeliest of some texts."""

    def __init__(
        self,
        name: str | None,
        choices: list[str],
        temperature: float,
        choices_method: ChoicesSamplingMethod,
        where: Where = None,
    ):
        self.name = name
        self.choices = choices
        self.temperature = temperature
        self.choices_method = choices_method
        self.where = where or caller()

    def __repr__(self) -> str:
        return f"Select({self.name!r}, choices={self.choices}, method={self.choices_method!r})"


class SglImage(SglExpr):
    """An image. Where it stands, the text has the model's placeholder."""

    def __init__(self, image: Image, where: Where = None):
        self.image = image
        self.where = where or caller()

    @property
    def path(self) -> str:
        """The image's label: the name of its file, if it was one."""
        return self.image.label

    def __repr__(self) -> str:
        return f"Image({self.image.label!r})"


class SglVideo(SglExprList):
    """A video: its frames, one after another."""

    def __init__(self, path: Any, frames: list[SglImage]):
        super().__init__(list(frames))
        self.path = path
        self.num_frames = len(frames)

    def __repr__(self) -> str:
        return f"Video({self.num_frames} frames)"


class SglVariable(SglExpr):
    """The text of a variable of another state, appended once it is there."""

    def __init__(self, name: str, source: ProgramState):
        self.name = name
        self.source = source

    def __repr__(self) -> str:
        return f"Variable({self.name!r})"


class SglRoleBegin(SglExpr):
    """A message of ``role`` begins."""

    def __init__(self, role: str):
        self.role = role

    def __repr__(self) -> str:
        return f"RoleBegin({self.role})"


class SglRoleEnd(SglExpr):
    """The message of ``role`` ends."""

    def __init__(self, role: str):
        self.role = role

    def __repr__(self) -> str:
        return f"RoleEnd({self.role})"


class SglVarScopeBegin(SglExpr):
    """From here on the text belongs to variable ``name``."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"VarScopeBegin({self.name!r})"


class SglVarScopeEnd(SglExpr):
    """The variable ``name`` is the text since its scope began."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"VarScopeEnd({self.name!r})"


class SglSetVariable(SglExpr):
    """Give variable ``name`` a value; no text. ``form`` is as for :class:`SglGen`."""

    def __init__(
        self,
        name: str,
        value: Any,
        meta_info: Any = None,
        form: Form | None = None,
    ):
        self.name = name
        self.value = value
        self.form = form
        self.meta_info = meta_info

    def __repr__(self) -> str:
        return f"SetVariable({self.name!r})"


class SglAwait(SglExpr):
    """Something to do once operations of other states are done.

    Args:
        name: the variable that it sets, if any.
        waits: the operations.
        act: called with the executor and its operation; raises what goes wrong.
        what: the same in words.
    """

    def __init__(
        self, name: str | None, waits: list[Any], act: Callable[[Any, Any], None], what: str
    ):
        self.name = name
        self.waits = waits
        self.act = act
        self.what = what

    def __repr__(self) -> str:
        return self.what


class SglFork(SglExpr):
    """Here ``number`` branches start from the state. ``children`` are their executors."""

    def __init__(self, number: int, children: list[Any]):
        self.number = number
        self.children = children

    def __repr__(self) -> str:
        return f"Fork({self.number})"
