"""The names that a ``%%sgl`` cell can use without importing them.

They are lent: put into the notebook's namespace for the time of the cell and taken back after
it, so that a user's own ``user`` or ``s`` is what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import language

PRIMITIVES = (
    "gen",
    "gen_int",
    "gen_string",
    "select",
    "system",
    "user",
    "assistant",
    "system_begin",
    "system_end",
    "user_begin",
    "user_end",
    "assistant_begin",
    "assistant_end",
)

_ABSENT = object()


def lent_names(state: Any) -> dict[str, Any]:
    """``s``, ``sgl`` and the primitives."""
    import sglnb  # the whole package, which imports this one

    return {"s": state, "sgl": sglnb, **{name: getattr(language, name) for name in PRIMITIVES}}


@contextmanager
def lend(namespace: dict[str, Any], names: dict[str, Any]) -> Iterator[None]:
    """``namespace`` with ``names`` in it.

    On leaving, a name that still has the lent value gets back what it had before; a name that
    the cell has assigned anew is the cell's own and stays, as in a normal cell.
    """
    before = {name: namespace.get(name, _ABSENT) for name in names}
    namespace.update(names)
    try:
        yield
    finally:
        for name, value in names.items():
            if namespace.get(name, _ABSENT) is not value:
                continue
            if before[name] is _ABSENT:
                del namespace[name]
            else:
                namespace[name] = before[name]


@contextmanager
def snapshot(namespace: dict[str, Any], names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A copy of ``namespace`` with ``names`` in it, for a cell that runs in the background.

    Other cells can run meanwhile and change names under its feet, so it works on the names as
    they are now. What it assigns lands in ``namespace`` when it ends.
    """
    scope = {**namespace, **names}
    before = dict(scope)
    try:
        yield scope
    finally:
        for name, value in scope.items():
            if name != "__builtins__" and before.get(name, _ABSENT) is not value:
                namespace[name] = value
