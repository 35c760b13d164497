"""What each expression does to a state. Generations and selections only start here; their
requests complete them later, on the engine's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import ConstraintError, EngineError, RequestAborted
from ..runtime.generate import sibling_seeds
from .images import parts, placeholder
from .ir import (
    SglAwait,
    SglConstantText,
    SglFork,
    SglGen,
    SglImage,
    SglRoleBegin,
    SglRoleEnd,
    SglSelect,
    SglSeparateReasoning,
    SglSetVariable,
    SglVariable,
    SglVarScopeBegin,
    SglVarScopeEnd,
)
from .loops import TIMERS
from .operation import Operation
from .reasoning import separate
from .sampling import check_pick, resolve, texts_wanted
from .scoring import Scoring
from .values import JsonForm

if TYPE_CHECKING:
    from .choices import ChoicesDecision
    from .executor import StreamExecutor


def perform(ex: StreamExecutor, op: Operation) -> None:
    """Do ``op``, or start it if it takes a request. Raises what goes wrong."""
    timeout = getattr(op.expr, "timeout", None)
    if timeout is not None:
        TIMERS.later(timeout, op, partial(_time_out, timeout=timeout))
    _ACTIONS[type(op.expr)](ex, op)


def _time_out(op: Operation, timeout: float) -> None:
    op.owner.halt_operation(op, TimeoutError(f"it took more than {timeout:g} s"))


# -- text, roles and variables: done at once -----------------------------------------------


def _constant(ex: StreamExecutor, op: Operation) -> None:
    ex.append(op.expr.value)
    ex.complete(op)


def _image(ex: StreamExecutor, op: Operation) -> None:
    ex.append_image(op.expr.image, placeholder(ex.run.backend))
    ex.complete(op)


def _role_begin(ex: StreamExecutor, op: Operation) -> None:
    previous = ex.messages_[-1]["role"] if ex.messages_ else None
    prefix, suffix = ex.run.template.around(op.expr.role, previous)
    with ex.lock:
        ex.text_ += prefix
        ex.cur_role = op.expr.role
        ex.role_start, ex.role_suffix = len(ex.text_), suffix
    ex.complete(op)


def _role_end(ex: StreamExecutor, op: Operation) -> None:
    if ex.cur_role == op.expr.role:  # else a stop has dropped its beginning
        with ex.lock:
            content = parts(ex.text_, ex.images, ex.role_start)
            if all(isinstance(part, str) for part in content):
                content = "".join(content).lstrip()
            ex.messages_.append({"role": op.expr.role, "content": content})
            ex.text_ += ex.role_suffix
            ex.cur_role = None
    ex.complete(op)


def _scope_begin(ex: StreamExecutor, op: Operation) -> None:
    with ex.lock:
        ex.scopes = {**ex.scopes, op.expr.name: len(ex.text_)}
    ex.complete(op)


def _scope_end(ex: StreamExecutor, op: Operation) -> None:
    if op.expr.name not in ex.scopes:
        raise RequestAborted("a stop has dropped the scope's beginning")
    with ex.lock:
        text = ex.text_[ex.scopes[op.expr.name] :]
        ex.scopes = {name: start for name, start in ex.scopes.items() if name != op.expr.name}
    ex.store(op, text)
    ex.complete(op)


def _set_variable(ex: StreamExecutor, op: Operation) -> None:
    ex.store(op, op.expr.value, op.expr.meta_info)
    ex.complete(op)


def _variable(ex: StreamExecutor, op: Operation) -> None:
    """Append another state's variable: at once if it is there, else when it comes."""
    source, name = op.expr.source.stream_executor, op.expr.name

    def append() -> None:
        with source.lock:
            value, known = source.variables.get(name), name in source.variables
            problem = None if known else source.missing(name)
        if problem is not None:
            raise problem
        ex.append(str(value))

    _when(ex, op, [source], lambda: name not in source.table.pending or source is ex, append)


def _await(ex: StreamExecutor, op: Operation) -> None:
    """Act once the operations that it waits for are done."""
    waits = op.expr.waits
    owners = list({id(wait.owner): wait.owner for wait in waits}.values())
    _when(ex, op, owners, lambda: all(w.done for w in waits), lambda: op.expr.act(ex, op))


def _when(
    ex: StreamExecutor,
    op: Operation,
    sources: list[StreamExecutor],
    ready: Callable[[], bool],
    act: Callable[[], None],
) -> None:
    """Complete ``op`` by ``act`` as soon as its sources are ``ready``. When that is later, the
    dispatcher does it: a chain of states that wait for each other must not become a chain of
    calls, least of all on the engine's thread."""
    once = threading.Lock()

    def finish() -> None:
        if op.done:  # stopped meanwhile
            return
        try:
            act()
        except RequestAborted as problem:
            ex.stop(op, problem)
        except Exception as problem:  # recorded: raised where the variable is read
            ex.fail(op, problem)
        ex.complete(op)

    def look() -> None:
        if (op.done or ready()) and once.acquire(blocking=False):
            for source in sources:
                source.unwatch(look)
            ex.run.dispatcher.post(finish)

    if ready():
        finish()
        return
    for source in sources:
        source.watch(look)
    look()


def _fork(ex: StreamExecutor, op: Operation) -> None:
    if op.expr.number > 1:
        _send_hint(ex)
    for child in op.expr.children:
        child.adopt(ex)
    ex.complete(op)


def _send_hint(ex: StreamExecutor) -> None:
    """Let the engine prefill the text that the branches share, before they ask for it."""
    if len(ex.text_) <= ex.prefilled:
        return
    run = ex.run
    try:
        run.backend.submit(
            ex.text_,
            {"max_new_tokens": 0},
            run=run.id,
            state=ex.sid,
            purpose="prefill",
            **ex.request_options,
        )
    except (ValueError, EngineError):
        return  # only a hint: what is wrong is told by the branches' own requests
    ex.prefilled = len(ex.text_)


# -- generation ----------------------------------------------------------------------------


def _tell(ex: StreamExecutor, what: str, expr: SglGen | SglSelect) -> None:
    """For the views: ``ex`` has come to this place of its program."""
    if ex.run.watch is not None:
        ex.run.watch.reached(ex.sid, what, expr.name, expr.where)


def _gen(ex: StreamExecutor, op: Operation) -> None:
    expr, run = op.expr, ex.run
    _tell(ex, "gen", expr)
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    if ex.cur_role == "assistant":
        stop, stop_token_ids = run.template.stop, run.template.stop_token_ids
    params, options = resolve(expr, ex.defaults, stop=stop, stop_token_ids=stop_token_ids)
    if run.follows and expr.dtype is not None:
        options["dtype"] = expr.dtype
    op.wanted = texts_wanted(expr, ex.defaults)
    if isinstance(expr.pick, int):
        check_pick(expr.pick, op.wanted)
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
            **{**ex.request_options, **options},
        )
        _note(ex, op, i, request)
        if op.done or op.halted is not None or op.stamp < run.stops:
            request.abort()


def _note(ex: StreamExecutor, op: Operation, i: int, request: Any) -> None:
    """Remember the request for text ``i``: news of it can come before ``submit`` returns."""
    with ex.lock:
        if len(op.requests) == i:
            op.requests.append(request)


def _keep(ex: StreamExecutor, op: Operation, request: Any) -> None:
    """Remember a request, unless it was to be stopped while it was sent."""
    if request not in op.requests:
        op.requests.append(request)
    if op.done or op.halted is not None or op.stamp < ex.run.stops:
        request.abort()


def _on_update(ex: StreamExecutor, op: Operation, i: int, request: Any) -> None:
    """On the engine's thread: quick, and nothing is raised."""
    _note(ex, op, i, request)
    if not request.done:
        ex.updated()
        return
    problem = request.error
    broken = problem is not None and not isinstance(problem, RequestAborted)
    with ex.lock:
        complete = len(op.requests) == op.wanted and all(r.done for r in op.requests)
        if op.done or op.over or not (complete or broken):
            return
        op.over = True
    picks = not isinstance(op.expr.pick, int)
    if complete and (picks or any(_must_check(op, request) for request in op.requests)):
        ex.run.dispatcher.post(partial(_finish_gen, ex, op))  # either may take a while
    else:
        _finish_gen(ex, op, problem if broken else None)


def _finish_gen(ex: StreamExecutor, op: Operation, problem: Exception | None = None) -> None:
    """All texts are there, or one request has failed with ``problem``."""
    try:
        _take_texts(ex, op, problem)
    except Exception as failed:  # recorded: the thread must go on
        ex.fail(op, failed)
    ex.complete(op)


def _take_texts(ex: StreamExecutor, op: Operation, problem: Exception | None) -> None:
    requests = list(op.requests)
    if problem is None:
        problem = next((r.error for r in requests if r.error is not None), None)
    if problem is None:
        problem = next(filter(None, (_broken_form(op, request) for request in requests)), None)
    texts = [request.text for request in requests]
    if op.markers is not None:
        parts = [separate(text, op.markers) for text in texts]
        texts, reasoning = [p.text for p in parts], [p.reasoning for p in parts]
        op.reasoning = reasoning if op.wanted > 1 else reasoning[0]
    text = _picked(op.expr.pick, texts, problem)
    with ex.lock:
        if op.done:
            return
        ex.text_ += text
        op.taken = True
    if problem is None and op.markers is None:
        ex.prefilled = len(ex.text_)
    infos = [request.meta_info for request in requests]
    for info in infos:
        ex.family.count(info)
    made = (texts, infos) if op.wanted > 1 else (texts[0], infos[0])
    if problem is None:
        ex.store(op, *made)
    elif isinstance(problem, RequestAborted):
        # The text so far is an error for whoever was waiting for all of it, and from then on
        # a value like any other.
        ex.stop(op, problem)
        ex.store(op, *made)
    else:
        ex.fail(op, problem)


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


def _separate(ex: StreamExecutor, op: Operation) -> None:
    """The generation before it has done the work."""
    gen = op.source
    if gen.reasoning is None:
        raise gen.error or RequestAborted("the run was stopped")
    ex.store(op, gen.reasoning)
    ex.complete(op)


def _select(ex: StreamExecutor, op: Operation) -> None:
    expr, run = op.expr, ex.run
    _tell(ex, "select", expr)
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
        ex.append(decision.decision)
        pairs = [list(pair) for pair in zip(op.expr.choices, decision.scores, strict=False)]
        ex.store(op, decision.decision, decision.meta_info or {}, pairs or None)
    except RequestAborted as stopped:
        ex.stop(op, stopped)
    except Exception as failed:  # recorded: raised where the variable is read
        ex.fail(op, failed)
    ex.complete(op)


_ACTIONS = {
    SglConstantText: _constant,
    SglImage: _image,
    SglGen: _gen,
    SglSeparateReasoning: _separate,
    SglSelect: _select,
    SglVariable: _variable,
    SglAwait: _await,
    SglRoleBegin: _role_begin,
    SglRoleEnd: _role_end,
    SglVarScopeBegin: _scope_begin,
    SglVarScopeEnd: _scope_end,
    SglSetVariable: _set_variable,
    SglFork: _fork,
}
