"""Values that are made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):
    """``functools.cached_property`` without its lock. Before Python 3.12 that is one lock for all
    objects: who makes a large value keeps all others from making theirs. Two threads that ask at
    the same time may both make it here."""

    def __init__(self, make: Callable[[Any], T]):
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, it: None, owner: type) -> once[T]: ...
    @overload
    def __get__(self, it: object, owner: type) -> T: ...
    def __get__(self, it: Any, owner: type) -> Any:
        if it is None:
            return self
        return vars(it).setdefault(self._name, self._make(it))
