"""How CPython keeps the attributes of small objects that are made by the thousand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def laid_out(*names: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: instances have a place for ``names``, those that ``__init__`` sets and
    those that come later in many of them.

    CPython (3.11 and later) stores attributes in an array whose places, fewer than 30, are those
    of the first few instances. One that gets another attribute later is moved to a dict, which
    makes it slow to use; what a process does first would decide how fast all else is. So here the
    first instance has them all.
    """

    def lay_out(cls: type[T]) -> type[T]:
        first = object.__new__(cls)
        for name in names:
            setattr(first, name, None)
        return cls

    return lay_out
