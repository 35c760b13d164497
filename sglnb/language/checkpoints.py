"""What a state was like after each of its operations, so that one can go back.

Texts, messages and images of a state only grow, so a checkpoint holds their lengths. It points
to the one before: branches share all that came before them, and a checkpoint costs the same
however long the state is.

A step, which ``undo`` takes back as a whole, is what one statement appended: one ``+=``, one
message, one assignment to a variable, one join, one ``with`` block with all that is in it once it
is closed. A fork changes nothing and is no step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import GenerationError

if TYPE_CHECKING:
    from .values import Form

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Write(NamedTuple):
    """A variable was given a value."""

    name: str
    value: Any
    meta_info: Any = None
    form: Form | None = None


write = partial(tuple.__new__, Write)
"""A :class:`Write` of a tuple of all its fields, see :data:`checkpoint`."""


class Checkpoint(NamedTuple):
    """A state after one operation. Nothing of it ever changes.

    Attributes:
        before: the checkpoint before the operation, None at the very beginning.
        text, messages: their lengths.
        role: the open role, where in the text it began, what ends it.
        scopes: where the open variable scopes began.
        lost: the variables that will not come, and why.
        first, depth: the operation began a step, inside so many ``with`` blocks.
        name: the variable that the operation was to make.
        opened: the variable scope that it opened.
        writes: the variables that it has set.
        error: why it failed or was cut short.
    """

    before: Checkpoint | None = None
    text: int = 0
    messages: int = 0
    role: tuple[str | None, int, str] = (None, 0, "")
    scopes: Mapping[str, int] = NOTHING
    lost: Mapping[str, GenerationError] = NOTHING
    first: bool = False
    depth: int = 0
    name: str | None = None
    opened: str | None = None
    writes: tuple[Write, ...] = ()
    error: GenerationError | None = None

    def __repr__(self) -> str:  # not the whole chain
        return f"Checkpoint({self.text} characters, {self.name or 'no name'})"

    def back(self) -> Iterator[Checkpoint]:
        """This one and those before it; not the one that every state begins with."""
        point = self
        while point.before is not None:
            yield point
            point = point.before

    def of(self, name: str) -> Checkpoint | None:
        """The last operation that made ``name`` or failed to; None if there was none."""
        for point in self.back():
            if point.name == name or any(write.name == name for write in point.writes):
                return point
        return None

    def before_variable(self, name: str) -> Checkpoint:
        """The state before the operation that this checkpoint came after and that made
        ``name``. For a variable scope: before the scope began."""
        closes_scope = name in self.before.scopes and name not in self.scopes
        return (self.opening(name) if closes_scope else None) or self.before

    def opening(self, scope: str) -> Checkpoint | None:
        """The state before the last variable scope of that name began."""
        return next((point.before for point in self.back() if point.opened == scope), None)

    def variables(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Form]]:
        """(the values, the meta_info, the forms) of all variables, in the order of their first
        value."""
        last = {w.name: w for point in reversed(list(self.back())) for w in point.writes}
        return (
            {name: write.value for name, write in last.items()},
            {name: write.meta_info for name, write in last.items() if write.meta_info is not None},
            {name: write.form for name, write in last.items() if write.form is not None},
        )

    def names_since(self, origin: Checkpoint) -> list[str]:
        """Names of the variables set after ``origin``, in order; all, if it does not lie on
        the way back."""
        names: list[str] = []
        for point in self.back():
            if point is origin:
                break
            names += [write.name for write in reversed(point.writes)]
        return list(dict.fromkeys(reversed(names)))

    def undo(self, n: int, depth: int) -> Checkpoint:
        """The state before the last ``n`` steps.

        Args:
            depth: number of ``with`` blocks that are open now: they are not taken back.

        Raises:
            ValueError: there are fewer steps.
        """
        found = 0
        for point in self.back():
            if point.depth < depth:
                raise ValueError(
                    f"n: {n} steps reach back over the beginning of the open with block, in "
                    f"which there are {found}; leave the block first"
                )
            if point.first and point.depth == depth:
                found += 1
                if found == n:
                    return point.before
        raise ValueError(f"n: there are only {found} steps to take back, got {n}")


checkpoint = partial(tuple.__new__, Checkpoint)
"""A :class:`Checkpoint` of a tuple of all its fields, in a third of the time: there is one for
every operation."""

START = Checkpoint()
"""What every state begins with."""
