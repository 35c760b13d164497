"""What each expression does to a state. What takes time only starts here and completes later."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import EngineError, RequestAborted
from .dependencies import variable, wait_for
from .generation import gen, separation
from .images import parts, placeholder
from .ir import (
    SglAwait,
    SglConstantText,
    SglExpr,
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
from .operation import Operation
from .selection import select

if TYPE_CHECKING:
    from .executor import StreamExecutor


def _constant(ex: StreamExecutor, op: Operation) -> bool:
    ex.text_ += op.expr.value  # one assignment, and only who does the queue makes it: no lock
    return True


def _image(ex: StreamExecutor, op: Operation) -> bool:
    ex.append_image(op.expr.image, placeholder(ex.run.backend))
    return True


def _role_begin(ex: StreamExecutor, op: Operation) -> bool:
    previous = ex.messages_[-1]["role"] if ex.messages_ else None
    prefix, suffix = ex.run.template.around(op.expr.role, previous)
    with ex.lock:
        ex.text_ += prefix
        ex.cur_role = op.expr.role
        ex.role_start, ex.role_suffix = len(ex.text_), suffix
    return True


def _role_end(ex: StreamExecutor, op: Operation) -> bool:
    if ex.cur_role == op.expr.role:  # else a stop has dropped its beginning
        with ex.lock:
            content = parts(ex.text_, ex.images, ex.role_start)
            if all(isinstance(part, str) for part in content):
                content = "".join(content).lstrip()
            ex.messages_.append({"role": op.expr.role, "content": content})
            ex.text_ += ex.role_suffix
            ex.cur_role = None
    return True


def _scope_begin(ex: StreamExecutor, op: Operation) -> bool:
    with ex.lock:
        ex.scopes = {**ex.scopes, op.expr.name: len(ex.text_)}
    return True


def _scope_end(ex: StreamExecutor, op: Operation) -> bool:
    if op.expr.name not in ex.scopes:
        raise RequestAborted("a stop has dropped the scope's beginning")
    with ex.lock:
        text = ex.text_[ex.scopes[op.expr.name] :]
        ex.scopes = {name: start for name, start in ex.scopes.items() if name != op.expr.name}
        ex.store(op, text)
    return True


def _set_variable(ex: StreamExecutor, op: Operation) -> bool:
    with ex.lock:
        ex.store(op, op.expr.value, op.expr.meta_info)
    return True


def _fork(ex: StreamExecutor, op: Operation) -> bool:
    if op.expr.number > 1:
        _send_hint(ex)
    for child in op.expr.children:
        child.adopt(ex)
    return True


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


PERFORM: dict[type[SglExpr], Callable[[StreamExecutor, Operation], bool | None]] = {
    SglConstantText: _constant,
    SglImage: _image,
    SglGen: gen,
    SglSeparateReasoning: separation,
    SglSelect: select,
    SglVariable: variable,
    SglAwait: wait_for,
    SglRoleBegin: _role_begin,
    SglRoleEnd: _role_end,
    SglVarScopeBegin: _scope_begin,
    SglVarScopeEnd: _scope_end,
    SglSetVariable: _set_variable,
    SglFork: _fork,
}
"""What does an operation, or starts it if it takes a request, by the kind of its expression. It
returns True if that was all; else the operation is completed later (or was meanwhile). What goes
wrong is raised."""
