"""A dictionary of limited size in bytes: what was used longest ago leaves first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteLRU(Generic[K, V]):
    """Values and the bytes that each of them takes.

    Args:
        most: bytes in all. A value that is larger by itself is not kept.
    """

    def __init__(self, most: int):
        self.most = most
        self.nbytes = 0
        self._items: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, which counts as used now, or None."""
        if key not in self._items:
            return None
        self._items.move_to_end(key)
        return self._items[key][0]

    def put(self, key: K, value: V, nbytes: int) -> None:
        """Keep ``value``; others leave to make room."""
        if key in self._items:
            self.nbytes -= self._items.pop(key)[1]
        if nbytes > self.most:
            return
        self._items[key] = (value, nbytes)
        self.nbytes += nbytes
        while self.nbytes > self.most:
            _, (_, freed) = self._items.popitem(last=False)
            self.nbytes -= freed

    def __len__(self) -> int:
        return len(self._items)
