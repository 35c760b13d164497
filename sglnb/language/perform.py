"""What each expression does to a state. Generations and selections only start here; their
requests complete them later, on the engine's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import ConstraintError, EngineError, RequestAborted
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
    SglSetVariable,
    SglVariable,
    SglVarScopeBegin,
    SglVarScopeEnd,
)
from .loops import TIMERS
from .operation import Operation
from .sampling import resolve
from .scoring import Scoring
from .values import JsonForm

if TYPE_CHECKING:
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


def _gen(ex: StreamExecutor, op: Operation) -> None:
    expr, run = op.expr, ex.run
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    if ex.cur_role == "assistant":
        stop, stop_token_ids = run.template.stop, run.template.stop_token_ids
    params, options = resolve(expr, ex.defaults, stop=stop, stop_token_ids=stop_token_ids)
    request = run.backend.submit(
        ex.text_,
        params,
        run=run.id,
        state=ex.sid,
        name=expr.name or "",
        purpose="gen",
        on_update=partial(_on_update, ex, op),
        **{**ex.request_options, **options},
    )
    _keep(ex, op, request)


def _keep(ex: StreamExecutor, op: Operation, request: Any) -> None:
    """Remember a request, unless it was to be stopped while it was sent."""
    if request not in op.requests:
        op.requests.append(request)
    if op.done or op.halted is not None or op.stamp < ex.run.stops:
        request.abort()


def _on_update(ex: StreamExecutor, op: Operation, request: Any) -> None:
    """On the engine's thread: quick, and nothing is raised."""
    if request.done:
        form = op.expr.form
        if isinstance(form, JsonForm) and form.must_check(request.meta_info):
            ex.run.dispatcher.post(partial(_end_gen, ex, op, request))  # it may take a while
        else:
            _end_gen(ex, op, request)
        return
    if not op.requests:  # the news came before submit() returned
        op.requests.append(request)
    ex.updated()


def _end_gen(ex: StreamExecutor, op: Operation, request: Any) -> None:
    try:
        _finish_gen(ex, op, request)
    except Exception as problem:  # recorded: the thread, the engine's or not, must go on
        ex.fail(op, problem)
        ex.complete(op)


def _finish_gen(ex: StreamExecutor, op: Operation, request: Any) -> None:
    if op.done:
        return
    problem, form = request.error, op.expr.form
    ex.family.count(request.meta_info)
    if isinstance(form, JsonForm) and form.must_check(request.meta_info):
        try:
            form.check(request.text)
        except ConstraintError as broken:
            problem = broken
    with ex.lock:
        ex.text_ += request.text
        op.taken = True
    if problem is None:
        ex.prefilled = len(ex.text_)
        ex.store(op, request.text, request.meta_info)
    elif isinstance(problem, RequestAborted):
        # The text so far is an error for whoever was waiting for all of it, and from then on
        # a value like any other.
        ex.stop(op, problem)
        ex.store(op, request.text, request.meta_info)
    else:
        ex.fail(op, problem)
    ex.complete(op)


def _select(ex: StreamExecutor, op: Operation) -> None:
    expr, run = op.expr, ex.run

    def decided(scoring: Scoring) -> None:
        """On the engine's thread, when the last score or the first failure is in."""
        try:
            if op.done:
                return
            if scoring.problem is not None:
                raise scoring.problem
            decision = scoring.decide()
            ex.append(decision.decision)
            pairs = [[c, s] for c, s in zip(expr.choices, decision.scores, strict=True)]
            ex.store(op, decision.decision, decision.meta_info, pairs)
        except RequestAborted as problem:
            ex.stop(op, problem)
        except Exception as problem:  # recorded: raised where the variable is read
            ex.fail(op, problem)
        ex.complete(op)

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


_ACTIONS = {
    SglConstantText: _constant,
    SglImage: _image,
    SglGen: _gen,
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
