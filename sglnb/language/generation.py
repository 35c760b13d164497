"""Generations: requests are sent here, and complete them later on the engine's thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import ConstraintError, RequestAborted
from ..runtime.generate import sibling_seeds
from .loops import TIMERS
from .operation import Operation
from .reasoning import separate
from .sampling import check_pick, resolve, texts_wanted
from .values import JsonForm

if TYPE_CHECKING:
    from .executor import StreamExecutor


def gen(ex: StreamExecutor, op: Operation) -> None:
    """Send a request for each text that is wanted."""
    expr, run = op.expr, ex.run
    if run.watch is not None:
        run.watch.reached(ex.sid, "gen", expr.name, expr.where)
    if expr.timeout is not None:
        TIMERS.later(expr.timeout, op, partial(_time_out, timeout=expr.timeout))
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    if ex.cur_role == "assistant":
        stop, stop_token_ids = run.template.stop, run.template.stop_token_ids
    params, options = resolve(expr, ex.defaults, stop=stop, stop_token_ids=stop_token_ids)
    if run.follows and expr.dtype is not None:
        options["dtype"] = expr.dtype
    op.wanted = texts_wanted(expr, ex.defaults)
    if expr.pick and isinstance(expr.pick, int):
        check_pick(expr.pick, op.wanted)
    if shared := ex.request_options:
        options = {**shared, **options}
    seeds = sibling_seeds(params.pop("seed", None), op.wanted)
    for i, seed in enumerate(seeds):
        request = run.backend.submit(
            ex.text_,
            params if seed is None else {**params, "seed": seed},
            run=run.id,
            state=ex.sid,
            name=expr.name or "",
            purpose="gen",
            on_update=partial(_on_update, ex, op, i),
            **options,
        )
        if len(op.requests) == i:
            _note(ex, op, i, request)
        if op.done or op.halted is not None or op.stamp < run.stops:
            request.abort()


def _time_out(op: Operation, timeout: float) -> None:
    op.owner.halt_operation(op, TimeoutError(f"it took more than {timeout:g} s"))


def _note(ex: StreamExecutor, op: Operation, i: int, request: Any) -> None:
    """Remember the request for text ``i``: news of it can come before ``submit`` returns."""
    if len(op.requests) == i:
        with ex.lock:
            if len(op.requests) == i:
                op.requests.append(request)


def _on_update(ex: StreamExecutor, op: Operation, i: int, request: Any) -> None:
    """On the engine's thread: quick, and nothing is raised."""
    if not request.done:
        _note(ex, op, i, request)
        ex.updated()
        return
    problem = request.error
    broken = problem is not None and not isinstance(problem, RequestAborted)
    with ex.lock:
        if len(op.requests) == i:
            op.requests.append(request)
        complete = op.wanted == 1 or (
            len(op.requests) == op.wanted and all(r.done for r in op.requests)
        )
        if op.done or op.over or not (complete or broken):
            return
        op.over = True
    if complete and not op.expr.plain and _takes_long(op):
        ex.run.dispatcher.post(partial(_finish_gen, ex, op))
    else:
        _finish_gen(ex, op, problem if broken else None)


def _finish_gen(ex: StreamExecutor, op: Operation, problem: Exception | None = None) -> None:
    """All texts are there, or one request has failed with ``problem``."""
    request = op.requests[0]
    try:
        if op.wanted == 1 and op.expr.plain and op.markers is None and request.error is None:
            text = request.text  # most are so: nothing to look at
            _put(ex, op, text, text, request.meta_info)
        else:
            _take_texts(ex, op, problem)
    except Exception as failed:  # recorded: the thread must go on
        ex.fail(op, failed)
    ex.complete(op)


def _take_texts(ex: StreamExecutor, op: Operation, problem: Exception | None) -> None:
    requests = list(op.requests)
    texts, infos = [], []
    for request in requests:
        texts.append(request.text)
        infos.append(request.meta_info)
        if problem is None:
            problem = request.error
    if problem is None and not op.expr.plain:
        problem = next(filter(None, (_broken_form(op, request) for request in requests)), None)
    if op.markers is not None:
        parts = [separate(text, op.markers) for text in texts]
        texts, reasoning = [p.text for p in parts], [p.reasoning for p in parts]
        op.reasoning = reasoning if op.wanted > 1 else reasoning[0]
    text = _picked(op.expr.pick, texts, problem)
    if op.wanted > 1:
        _put(ex, op, text, texts, infos, problem)
    else:
        _put(ex, op, text, texts[0], infos[0], problem)


def _put(
    ex: StreamExecutor,
    op: Operation,
    text: str,
    value: Any,
    meta_info: Any,
    problem: Exception | None = None,
) -> None:
    """The state goes on with ``text``; the variable is ``value``, or lost as of ``problem``."""
    with ex.lock:
        if op.done:
            return
        ex.text_ += text
        op.taken = True
        ex.family.count(meta_info if op.wanted > 1 else (meta_info,))
        if problem is None:
            if op.markers is None:
                ex.prefilled = len(ex.text_)
            ex.store(op, value, meta_info)
            return
    if isinstance(problem, RequestAborted):
        # The text so far is an error for whoever was waiting for all of it, and from then on
        # a value like any other.
        ex.stop(op, problem)
        with ex.lock:
            ex.store(op, value, meta_info)
    else:
        ex.fail(op, problem)


def _takes_long(op: Operation) -> bool:
    """Whether to take the texts may be too slow for the engine's thread."""
    return not isinstance(op.expr.pick, int) or any(_must_check(op, r) for r in op.requests)


def _must_check(op: Operation, request: Any) -> bool:
    """Whether the form of a finished text was not fully enforced while it was written."""
    form = op.expr.form
    return isinstance(form, JsonForm) and form.must_check(request.meta_info)


def _broken_form(op: Operation, request: Any) -> ConstraintError | None:
    """What is wrong with the form of a finished text."""
    if _must_check(op, request):
        try:
            op.expr.form.check(request.text)
        except ConstraintError as broken:
            return broken
    return None


def _picked(pick: int | Callable[[list[str]], int], texts: list[str], problem: Any) -> str:
    """The text that the state goes on with. After a ``problem`` the user's function is not asked:
    it was written for whole texts."""
    if isinstance(pick, int):
        return texts[pick] if pick < len(texts) else ""
    if problem is not None:
        return ""
    index = pick(list(texts))
    if not isinstance(index, int) or not 0 <= index < len(texts):
        raise ValueError(f"pick: the function must return 0 to {len(texts) - 1}, got {index!r}")
    return texts[index]


def separation(ex: StreamExecutor, op: Operation) -> bool:
    """Keep the reasoning: the generation before has taken it out of its text."""
    gen = op.source
    if gen.reasoning is None:
        raise gen.error or RequestAborted("the run was stopped")
    with ex.lock:
        ex.store(op, gen.reasoning)
    return True
