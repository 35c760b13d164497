"""Selections: all choices are scored by requests, whose last one decides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import RequestAborted
from .operation import Operation
from .scoring import Scoring

if TYPE_CHECKING:
    from .choices import ChoicesDecision
    from .executor import StreamExecutor


def select(ex: StreamExecutor, op: Operation) -> None:
    """Send the requests that score the choices."""
    expr, run = op.expr, ex.run
    if run.watch is not None:
        run.watch.reached(ex.sid, "select", expr.name, expr.where)
    if run.follows:
        _select_there(ex, op)
        return

    def decided(scoring: Scoring) -> None:
        """On the engine's thread, when the last score or the first failure is in."""
        _finish_select(ex, op, scoring.problem, scoring.decide)

    encode, options = run.backend.tokenizer.encode, ex.request_options
    images = options.pop("image_data", None)
    if images is not None:
        encode = partial(run.backend.prompt_ids, image_data=images)
    scoring = Scoring(expr, ex.text_, run.backend.tokenizer, decided, encode)
    for ids, start, on_update in scoring.jobs():
        request = run.backend.submit(
            ids,
            {"max_new_tokens": 0, "temperature": 0.0},
            run=run.id,
            state=ex.sid,
            name=expr.name or "",
            purpose="select",
            return_logprob=True,
            logprob_start_len=start,
            on_update=on_update,
            **({"image_data": images} if start and images is not None else {}),
            **options,
        )
        _keep(ex, op, request)


def _select_there(ex: StreamExecutor, op: Operation) -> None:
    """Let the backend choose by its own means."""
    expr, run = op.expr, ex.run

    def on_update(request: Any) -> None:
        if request.done:
            _finish_select(ex, op, request.error, lambda: request.decision)

    request = run.backend.select(
        ex.text_,
        expr.choices,
        expr.temperature,
        expr.choices_method,
        program=ex,
        run=run.id,
        on_update=on_update,
    )
    _keep(ex, op, request)


def _finish_select(
    ex: StreamExecutor,
    op: Operation,
    problem: Exception | None,
    decide: Callable[[], ChoicesDecision],
) -> None:
    """On the engine's or a worker's thread: quick, and nothing is raised."""
    try:
        if op.done:
            return
        if problem is not None:
            raise problem
        decision = decide()
        pairs = [list(pair) for pair in zip(op.expr.choices, decision.scores, strict=False)]
        with ex.lock:
            ex.text_ += decision.decision
            ex.store(op, decision.decision, decision.meta_info or {}, pairs or None)
    except RequestAborted as stopped:
        ex.stop(op, stopped)
    except Exception as failed:  # recorded: raised where the variable is read
        ex.fail(op, failed)
    ex.complete(op)


def _keep(ex: StreamExecutor, op: Operation, request: Any) -> None:
    """Remember a request, unless it was to be stopped while it was sent."""
    if request not in op.requests:
        op.requests.append(request)
    if op.done or op.halted is not None or op.stamp < ex.run.stops:
        request.abort()
