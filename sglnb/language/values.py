"""What ``s.value(name)`` gives: the text of a variable as a Python object.

Every ``gen`` that has a form for its text carries a :class:`Form`; a variable without one has its
text as value.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from ..errors import ConstraintError
from ..runtime.constraints.compiler import schema_source
from ..runtime.constraints.schema import prepare
from ..runtime.constraints.schema_check import check_text
from ..runtime.constraints.types import read_json

NUMBER_ENDS = (" ", "\n")
"""Nothing closes a number that stands alone; the first space or line break ends it."""


class Form(Protocol):
    """How to read a text.

    Attributes:
        ends: texts that end it, where nothing in it does.
    """

    ends: tuple[str, ...]

    def read(self, text: Any, meta_info: Any) -> Any:
        """``text`` as a value; ``meta_info`` tells why it ended.

        Raises:
            ConstraintError: it is none.
        """


class DtypeForm:
    """The text of ``gen(dtype=...)``."""

    def __init__(self, name: str):
        self.name = name
        self.ends = NUMBER_ENDS if name in ("int", "float") else ()

    def read(self, text: Any, meta_info: Any) -> Any:
        text = text.strip()
        try:
            if self.name == "bool":
                return {"True": True, "False": False}[text]
            if self.name == "str":
                if len(text) < 2 or text[0] != '"' or text[-1] != '"':
                    raise ValueError
                return text[1:-1]
            return {"int": int, "float": float}[self.name](text)
        except (KeyError, ValueError):
            raise ConstraintError(f"{text[:200]!r} is no {self.name}{cut(meta_info)}") from None


class JsonForm:
    """The text of ``gen(json_schema=...)`` or ``gen(type=...)``.

    Attributes:
        schema: the schema as JSON.
        ends: a space or a line break where the texts are numbers.
        warnings: what the schema says and is not enforced while the text is written.
    """

    def __init__(self, kind: str, given: Any, whitespace: str | None, lenient: bool):
        _, self.schema = schema_source(kind, given)
        ready = prepare(self.schema, whitespace, lenient, kind)
        self.ends, self.warnings = NUMBER_ENDS if ready.bare else (), ready.warnings
        self._is_type = kind == "type" or not isinstance(given, (str, dict, bool))
        self._type = given if self._is_type else None

    def must_check(self, meta_info: Any) -> bool:
        """Whether the text has to be checked now that it has ended: it is complete, and not all
        of the schema was enforced."""
        reason = (meta_info or {}).get("finish_reason") or {}
        was_cut = isinstance(reason.get("matched"), str) and reason["matched"] not in self.ends
        return bool(self.warnings) and reason.get("type") == "stop" and not was_cut

    def check(self, text: str) -> None:
        """Raise ConstraintError if a complete text breaks what was not enforced."""
        check_text(self.schema, text)

    def read(self, text: Any, meta_info: Any) -> Any:
        try:
            return read_json(self._type, text) if self._is_type else json.loads(text)
        except ConstraintError as error:
            raise ConstraintError(f"{error}{cut(meta_info)}") from None
        except ValueError as error:
            raise ConstraintError(f"no JSON: {error}: {text[:200]!r}{cut(meta_info)}") from None


class EachForm:
    """A list of texts, as ``join`` makes of the branches' variables; None where a branch has
    none."""

    ends: tuple[str, ...] = ()

    def __init__(self, forms: list[Form | None]):
        self._forms = forms

    def read(self, text: Any, meta_info: Any) -> Any:
        metas = meta_info or [None] * len(self._forms)
        return [
            one if form is None or one is None else form.read(one, meta)
            for form, one, meta in zip(self._forms, text, metas, strict=True)
        ]


def form_of(
    dtype: str | None, json_schema: Any, type: Any, whitespace: str | None, lenient: bool | None
) -> Form | None:
    """The form of a ``gen`` with these arguments, None for plain text.

    Raises:
        ConstraintError: the schema or the type cannot be used.
    """
    if dtype is not None:
        return DtypeForm(dtype)
    if json_schema is not None:
        return JsonForm("json_schema", json_schema, whitespace, bool(lenient))
    if type is not None:
        return JsonForm("type", type, whitespace, bool(lenient))
    return None


def cut(meta_info: Any) -> str:
    """Why the text may be incomplete."""
    reason = (meta_info or {}).get("finish_reason") or {}
    if reason.get("type") == "length":
        return "; it was cut at max_tokens, raise it"
    if reason.get("type") == "abort":
        return "; it was stopped before its end"
    if isinstance(reason.get("matched"), str):
        return f"; it was cut at the stop string {reason['matched']!r}"
    return ""
