"""The branches of a fork."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import SglError
from ..events import StateJoined
from .errors import BranchError
from .images import as_expression, parts
from .ir import SglExpr, SglExprList, SglSetVariable
from .reading import Steps, everything, wait
from .values import EachForm

if TYPE_CHECKING:
    from .state import ProgramState

MODES = ("gather_variable", "concate_and_append")


class ProgramStateGroup:
    """Branches that started from one state and go on side by side.

    Attributes:
        states: the branches, by index.
        src_state: the state they were forked from.
        errors: after :meth:`join`, one item a branch: what went wrong, or None.
    """

    def __init__(self, states: list[ProgramState], src_state: ProgramState):
        self.states = states
        self.src_state = src_state
        self.errors: list[BaseException | None] = [None] * len(states)

    def __iadd__(self, other: Any) -> ProgramStateGroup:
        """Append to every branch: one expression or text for all, a list with one for each,
        or a function of the branch's index. A branch that has failed keeps its error."""
        if callable(other) and not isinstance(other, SglExpr):
            each = [other(i) for i in range(len(self.states))]
        elif isinstance(other, (str, SglExpr)):
            each = [other] * len(self.states)
        elif isinstance(other, Sequence):
            if len(other) != len(self.states):
                raise ValueError(
                    f"a list for {len(self.states)} branches must have as many items, "
                    f"got {len(other)}"
                )
            each = list(other)
        else:
            raise TypeError(
                "append a string, an expression, a list with one for each branch, or a "
                f"function of the branch's index; got {type(other).__name__}"
            )
        for state, value in zip(self.states, each, strict=True):
            try:
                state += value
            except SglError:
                if not state.stream_executor.failed:
                    raise
        return self

    def join(self, mode: str = "gather_variable", on_error: str = "raise") -> None:
        """Wait for all branches and bring what they made into the state they came from.

        Args:
            mode: "gather_variable": each variable that a branch has set becomes a list on the
                source state, item i from branch i, None where that branch has none.
                "concate_and_append": the texts of the branches are appended one after another.
            on_error: "raise" tells of failed branches after everything was gathered; "keep"
                leaves that to :attr:`errors`.

        Raises:
            BranchError: a branch failed and ``on_error`` is "raise".
            ValueError: an unknown ``mode`` or ``on_error``.
        """
        wait(self._joining(mode, on_error))

    def _joining(self, mode: str, on_error: str) -> Steps[None]:
        check_join(mode, on_error)
        executors = [state.stream_executor for state in self.states]
        for ex in executors:
            yield from everything(ex)
        self.errors = [ex.error_ for ex in executors]
        if mode == "gather_variable":
            self._gather()
        else:
            self.src_state += as_expression(
                part
                for ex, error in zip(executors, self.errors, strict=True)
                if error is None
                for part in parts(ex.text_, ex.images, ex.fork_start_text_pos)
            )
        source = self.src_state.stream_executor
        source.run.backend.events.emit(
            StateJoined(
                run=source.run.id,
                parent=source.sid,
                children=[ex.sid for ex in executors],
                mode=mode,
            )
        )
        self._end()
        if on_error == "raise" and any(error is not None for error in self.errors):
            raise BranchError(self.errors)

    def _gather(self) -> None:
        executors = [state.stream_executor for state in self.states]
        names = dict.fromkeys(name for ex in executors for name in ex.table.own)
        found = []
        for name in names:
            mine = [ex if name in ex.table.own else None for ex in executors]
            values = [ex.variables[name] if ex else None for ex in mine]
            metas = [ex.meta_info.get(name) if ex else None for ex in mine]
            known = metas if any(m is not None for m in metas) else None
            forms = [ex.table.forms.get(name) if ex else None for ex in mine]
            form = EachForm(forms) if any(f is not None for f in forms) else None
            found.append(SglSetVariable(name, values, known, form))
        if found:
            self.src_state.stream_executor.submit(SglExprList(found))

    def _end(self) -> None:
        for state in self.states:
            state.stream_executor.end()

    def __getitem__(self, i: int) -> ProgramState:
        return self.states[i]

    def __setitem__(self, i: int, state: ProgramState) -> None:
        # Python ends ``group[i] += x`` with this assignment.
        if self.states[i] is not state:
            raise TypeError("a branch cannot be replaced; append to it with group[i] += ...")

    def __iter__(self) -> Iterator[ProgramState]:
        return iter(self.states)

    def __len__(self) -> int:
        return len(self.states)

    def __repr__(self) -> str:
        return f"ProgramStateGroup({len(self.states)} branches)"


def check_join(mode: str, on_error: str) -> None:
    """ValueError for arguments of :meth:`ProgramStateGroup.join` that are none."""
    if mode not in MODES:
        raise ValueError(f"mode: must be one of {', '.join(MODES)}, got {mode!r}")
    if on_error not in ("raise", "keep"):
        raise ValueError(f"on_error: must be 'raise' or 'keep', got {on_error!r}")
