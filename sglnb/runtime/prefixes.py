"""How much of each waiting request is cached, known without walking the tree each time."""

from __future__ import annotations

from .radix import RadixTree
from .radix_node import Peek
from .request import Request


class Prefixes:
    """Prefix lookups of waiting requests, remembered.

    A policy asks for all of them in every round, and a walk compares as many tokens as match.
    A remembered answer is checked in constant time instead (:meth:`RadixTree.still`), so that a
    round over thousands of waiting requests costs one comparison each.
    """

    def __init__(self, tree: RadixTree):
        self.tree = tree
        self._peeks: dict[Request, Peek] = {}

    def __call__(self, request: Request) -> Peek:
        """The longest cached prefix of ``request``."""
        peek = self._peeks.get(request)
        if peek is None or not self.tree.still(peek, request.keys, request.extra_key):
            peek = self._peeks[request] = self.tree.peek(request.keys, request.extra_key)
        return peek

    def forget(self, request: Request) -> None:
        """``request`` waits no longer."""
        self._peeks.pop(request, None)
