"""The variables of one state: those that are there, on their way, and lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .checkpoints import NOTHING, Checkpoint, Write, write
from .errors import GenerationError
from .operation import Operation

if TYPE_CHECKING:
    from .values import Form


class VariableTable:
    """Values by name, and for the others why one has to wait or will wait in vain.

    Every change happens under the state's lock.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.meta_info: dict[str, Any] = {}
        self.forms: dict[str, Form] = {}
        """How to read the values that have a form."""
        self.own: dict[str, None] = {}
        """Names set in this state, not in the one it was forked from; in order."""
        self.pending: dict[str, Operation] = {}
        """The last queued operation that sets each name."""
        self.lost: Mapping[str, GenerationError] = NOTHING
        """Names that will not come, and why. Replaced, never changed: checkpoints share it."""
        self.writes: tuple[Write, ...] = ()
        """What was set since the last checkpoint."""

    def store(self, op: Operation, value: Any, meta_info: Any = None) -> None:
        """``op`` has made its variable."""
        op.value, op.meta_info = value, meta_info
        name = op.variable
        if name is None:
            return
        self.values[name] = value
        self.own[name] = None
        if name in self.lost:
            self.lost = {n: error for n, error in self.lost.items() if n != name}
        form = getattr(op.expr, "form", None)
        if form is not None:
            self.forms[name] = form
        elif name in self.forms:
            del self.forms[name]
        if meta_info is not None:
            self.meta_info[name] = meta_info
        elif name in self.meta_info:
            del self.meta_info[name]
        self.writes += (write((name, value, meta_info, form)),)
        if self.pending.get(name) is op:
            del self.pending[name]

    def lose(self, op: Operation, error: GenerationError) -> None:
        """``op`` will not make its variable."""
        op.error = error
        name = op.variable
        if name is not None and self.pending.get(name) is op:
            del self.pending[name]
            self.lost = {**self.lost, name: error}

    def announce(self, parent: VariableTable) -> None:
        """Before a branch starts it knows what its parent has, and expects what that expects."""
        self.pending.update(parent.pending)
        self._copy(parent)

    def adopt(self, parent: VariableTable) -> None:
        """The parent has come to the fork: take over what it has."""
        self._copy(parent)
        self._forget_announced()

    def go_back(self, point: Checkpoint, origin: Checkpoint) -> None:
        """Have what there was at ``point``, in a state that began at ``origin``."""
        self.values, self.meta_info, self.forms = point.variables()
        self.own = dict.fromkeys(point.names_since(origin))
        self.lost, self.writes = point.lost, ()
        self._forget_announced()

    def _copy(self, parent: VariableTable) -> None:
        self.values = dict(parent.values)
        self.meta_info = dict(parent.meta_info)
        self.forms = dict(parent.forms)
        self.lost = parent.lost

    def adopt_failure(self, error: GenerationError) -> None:
        """The parent will never come to the fork."""
        self.lost = {**self.lost, **{n: op.error or error for n, op in self.pending.items()}}
        self._forget_announced()

    def _forget_announced(self) -> None:
        self.pending = {n: op for n, op in self.pending.items() if op.owner.table is self}
