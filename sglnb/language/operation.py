"""One step of a state's queue, and what happens to the queue when a step goes wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import GenerationError, describe, one_line
from .ir import (
    SglAwait,
    SglConstantText,
    SglExpr,
    SglFork,
    SglGen,
    SglRoleBegin,
    SglRoleEnd,
    SglSelect,
    SglSeparateReasoning,
    SglSetVariable,
    SglVariable,
    SglVarScopeBegin,
    SglVarScopeEnd,
)
from .layout import laid_out
from .reasoning import ReasoningMarkers, markers_of, separate
from .sampling import texts_wanted

if TYPE_CHECKING:
    from .checkpoints import Checkpoint
    from .executor import StreamExecutor

MAKES_VARIABLE = frozenset(
    (SglGen, SglSelect, SglSeparateReasoning, SglSetVariable, SglVarScopeEnd, SglAwait)
)
NEEDS_NO_CHECK = frozenset((SglConstantText, SglGen, SglSelect, SglVariable, SglSetVariable))
"""Operations that can be appended anywhere, to a state of any model."""

HEAVY = (SglGen, SglSelect, SglFork)
"""Operations that tokenize or send requests: not for the engine's own thread."""

BOOKKEEPING = (SglSeparateReasoning, SglSetVariable, SglFork, SglRoleEnd, SglVarScopeEnd)
"""Operations that are done even when the state is stopped, so that it can go on later."""


@laid_out(
    *("expr", "variable", "owner", "stamp", "first", "depth", "requests", "mark", "done", "parked"),
    *("wanted", "over", "taken", "value", "meta_info", "error", "halted", "markers", "source"),
)
class Operation:
    """One expression in the queue of one state.

    Attributes:
        variable: name of the variable that it sets.
        stamp: the run's count of stops when it was queued.
        first: it begins a step, see :mod:`.checkpoints`. depth: number of open ``with`` blocks.
        mark: the state as it was before it began; None as long as it waits.
        halted: why it alone is to be stopped, None if it is not.
        parked: the queue waits for its completion.
        error: why it failed or was dropped.
        requests: what it has in flight, one for each text that it makes.
        wanted: how many texts it makes.
        over: all it waits for has come.
        taken: its text is part of the state's by now.
        markers: what to separate its text by, None for no separation.
        source: for a separation: the generation that it separates.
        reasoning: what a generation has separated.
        value, meta_info: what it has made, of its variable and for who waits for it.
    """

    mark: Checkpoint | None = None
    halted: BaseException | None = None
    done = False
    parked = False
    error: GenerationError | None = None
    wanted = 1
    over = taken = False
    markers: ReasoningMarkers | None = None
    source: Operation | None = None
    reasoning: Any = None
    value: Any = None
    meta_info: Any = None

    def __init__(
        self, expr: SglExpr, owner: StreamExecutor, stamp: int, first: bool = False, depth: int = 0
    ):
        self.expr = expr
        self.variable: str | None = expr.name if type(expr) in MAKES_VARIABLE else None
        self.owner = owner
        self.stamp = stamp
        self.first, self.depth = first, depth
        self.requests: list[Any] = []

    def separates(self, source: Operation) -> None:
        """It separates the text of ``source``, and can be read while that is written."""
        source.markers = markers_of(self.expr.model_type)
        self.source, self.requests = source, source.requests

    @property
    def several(self) -> bool:
        """Whether it makes a list of texts."""
        gen = self.source or self
        return isinstance(gen.expr, SglGen) and texts_wanted(gen.expr, gen.owner.defaults) > 1

    @property
    def live_text(self) -> str:
        """Text of its generation that the state does not have yet."""
        return "" if self.taken else self.last_text

    @property
    def last_text(self) -> str:
        """Text so far of its generation (of n texts the one that the state goes on with, if that
        is known) or its separation."""
        gen = self.source or self
        pick = getattr(gen.expr, "pick", None)
        if not isinstance(pick, int) or len(self.requests) <= pick:
            return ""
        request = self.requests[pick]
        if gen.markers is None:
            return request.text
        parts = separate(request.text, gen.markers, final=request.done)
        return parts.text if gen is self else parts.reasoning

    def abort_requests(self) -> None:
        """Abort what is still in flight."""
        for request in list(self.requests):
            if not request.done:
                request.abort()

    def explain(self, problem: BaseException, kind: type[GenerationError]) -> GenerationError:
        """``problem`` with the name and the source line of this operation."""
        if isinstance(problem, GenerationError):
            return problem
        expr, where = self.expr, getattr(self.expr, "where", None)
        if isinstance(expr, (SglGen, SglSelect)):
            what = describe("gen" if isinstance(expr, SglGen) else "select", expr.name, where)
        else:
            what = repr(expr)
        return kind(
            f"{what} {kind.verb}: {one_line(problem)}",
            name=self.variable,
            where=where,
            cause=problem,
            executor=self.owner,
        )


def check_separations(exprs: list[SglExpr]) -> None:
    """ValueError unless each separation follows its generation and knows the markers."""
    for i, expr in enumerate(exprs):
        if isinstance(expr, SglSeparateReasoning):
            markers_of(expr.model_type)
            if i == 0 or exprs[i - 1] is not expr.expr:
                raise ValueError(
                    f"{expr!r}: must follow its gen at once; append what separate_reasoning() "
                    "returns as a whole"
                )


def role_after(exprs: Iterable[SglExpr], role: str | None) -> str | None:
    """The role that is open after ``exprs`` when ``role`` was before.

    Raises:
        ValueError: a role begins inside another, or one ends that is not open.
    """
    for expr in exprs:
        if isinstance(expr, SglRoleBegin):
            if role is not None:
                raise ValueError(
                    f"a {expr.role} message cannot begin inside a {role} message; end that first"
                )
            role = expr.role
        elif isinstance(expr, SglRoleEnd):
            if role != expr.role:
                detail = f"the open message is of {role}" if role else "no message is open"
                raise ValueError(f"cannot end a {expr.role} message: {detail}")
            role = None
    return role


def sort_after_stop(
    queue: Iterable[Operation], stamp: int, role: str | None, scopes: Iterable[str]
) -> tuple[list[Operation], list[Operation]]:
    """(what is still to be done, what is dropped) of ``queue`` when an operation of ``stamp``
    was stopped with ``role`` and ``scopes`` open. Newer operations stay, and bookkeeping
    stays; an end whose beginning was dropped goes with it."""
    kept, dropped, scopes = [], [], set(scopes)
    for op in queue:
        expr = op.expr
        keep = op.stamp > stamp or isinstance(expr, BOOKKEEPING)
        if isinstance(expr, SglRoleEnd):
            keep = expr.role == role
            role = None if keep else role
        elif isinstance(expr, SglVarScopeEnd):
            keep = expr.name in scopes
        elif keep and isinstance(expr, SglRoleBegin):
            role = expr.role
        elif keep and isinstance(expr, SglVarScopeBegin):
            scopes.add(expr.name)
        (kept if keep else dropped).append(op)
    return kept, dropped
