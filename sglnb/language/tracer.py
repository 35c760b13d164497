"""Tracing: the body of a program runs on a state that writes down what it is told to do."""

from __future__ import annotations

import inspect
import linecache
import sys
import threading
from typing import TYPE_CHECKING, Any

from .backend import Backend
from .errors import Where, one_line
from .ir import caller
from .options import split_options
from .placeholders import SglArgument, active_tracer
from .recorder import Recorder
from .trace_graph import Trace
from .trace_node import CONSTANT, Node, Stop, TracedState
from .trace_state import TraceState

if TYPE_CHECKING:
    from .program import SglFunction

MOST_STEPS = 100_000
"""A trace with more ends there: a body that never ends must not fill the memory."""


class TraceStop(BaseException):
    """Ends the body of a program that is traced. Not an ``Exception``: a body that handles
    errors and tries again must not catch it."""


class TraceStopTypeError(TraceStop, TypeError):
    """The first one, where an f-string met a placeholder: SGLang raises a TypeError there."""


class Tracer:
    """One trace in the making.

    Args:
        prefix_only: end at the first step of the program's own state that is not constant.
    """

    def __init__(self, name: str, backend: Backend | None, *, prefix_only: bool = False):
        self.trace = Trace(name, backend)
        self.prefix_only = prefix_only
        self._thread = threading.get_ident()
        self._files: set[str] = set()

    def run(
        self, program: SglFunction, args: tuple, kwargs: dict[str, Any], options: dict[str, Any]
    ) -> TraceState:
        """Trace the body of ``program`` on a new state."""
        self.check()
        code = getattr(program.func, "__code__", None)
        if code is not None:
            self._files.add(code.co_filename)
        if self.prefix_only and self.trace.states:
            self.stop("only the prefix was asked for")
        state = TraceState(self.new_recorder(program.__name__, options=options))
        state.ret_value = program.func(state, *args, **{**program.bind_arguments, **kwargs})
        if hasattr(state.ret_value, "__await__"):
            getattr(state.ret_value, "close", lambda: None)()
            self.stop("the body is async and awaits values that are not known before the run")
        return state

    def call(
        self, program: SglFunction, args: tuple, kwargs: dict[str, Any], backend: Backend | None
    ) -> TraceState:
        """A program is run inside of the one that is traced."""
        if backend is not None and backend is not self.trace.backend:
            self.stop(f"{program.__name__} runs on a backend of its own")
        rest, options = split_options(kwargs, program.arg_names)
        return self.run(program, args, rest, options)

    def new_recorder(
        self, program: str, parent: Recorder | None = None, branch: int = 0, options: Any = None
    ) -> Recorder:
        """A recorder for one more state."""
        index = len(self.trace.states)
        source = None if parent is None else parent.index
        self.trace.states.append(TracedState(index, program, source, branch, options or {}))
        return Recorder(self, index, parent)

    def add(self, recorder: Recorder, kind: str, **more: Any) -> Node:
        """Write down one step of a state."""
        if self.prefix_only and recorder.index == 0 and kind not in CONSTANT:
            self.stop("only the prefix was asked for")
        if len(self.trace.nodes) >= MOST_STEPS:
            self.stop(f"it has more than {MOST_STEPS:,} steps")
        fields = {"name": None, "text": "", "sources": (), "where": None, **more}
        node = Node(len(self.trace.nodes), kind, recorder.index, prev_node=recorder.last, **fields)
        self.trace.nodes.append(node)
        recorder.last = node
        return node

    def check(self) -> None:
        """End a body that goes on after the trace was stopped, or in another thread."""
        if self.trace.stopped is not None:
            raise TraceStop(self.trace.stopped.why)
        if threading.get_ident() != self._thread:
            self.stop("a state is used from another thread")

    def stop(self, why: str, *, on: str = "", as_type_error: bool = False) -> Any:
        """The program cannot be followed further. Only the first reason counts."""
        first = self.trace.stopped is None
        if first:
            self._note(why, self.where(), on)
        raise TraceStopTypeError(why) if first and as_type_error else TraceStop(why)

    def failed(self, error: Exception) -> None:
        """The body raised: as a rule it gave a placeholder to something that needs a str."""
        if self.trace.stopped is not None:
            return
        where, at = None, error.__traceback__
        while at is not None:
            if at.tb_frame.f_code.co_filename in self._files:
                where = (at.tb_frame.f_code.co_filename, at.tb_lineno)
            at = at.tb_next
        why, on = one_line(error), ""
        for kind, what in _STANDS_FOR.items():
            if kind in why:
                why = f"{why} ({kind} stands for {what}, which is not known before the run)"
                on = what.rpartition(" ")[2]
        self._note(why, where, on)

    def _note(self, why: str, where: Where, on: str) -> None:
        file, line = where or (None, None)
        code = linecache.getline(file, line).strip() if file and line else ""
        self.trace.stopped = Stop(why, file, line, code, on)

    def where(self) -> Where:
        """The line of a traced program that is being executed."""
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename not in self._files:
            frame = frame.f_back
        return (frame.f_code.co_filename, frame.f_lineno) if frame is not None else caller()


_STANDS_FOR = {
    "SglArgument": "an argument",
    "TracedValue": "a variable",
    "TracedText": "a text with a variable",
}
"""What errors of other libraries are about."""


def trace_program(
    program: SglFunction,
    args: tuple = (),
    kwargs: dict[str, Any] | None = None,
    *,
    options: dict[str, Any] | None = None,
    backend: Backend | None = None,
    holes: bool = True,
    prefix_only: bool = False,
) -> Trace:
    """Run the body of ``program`` on a state that only takes notes.

    Args:
        options: sampling options of the call.
        holes: put an :class:`SglArgument` for each argument that is neither given nor has a
            default; False leaves that to the call, which then fails as in a run.
        prefix_only: end at the first step that is not constant.
    """
    kwargs = dict(kwargs or {})
    if holes:
        kwargs = {**kwargs, **_open_arguments(program, args, kwargs)}
    tracer = Tracer(program.__name__, backend, prefix_only=prefix_only)
    trace = tracer.trace
    trace.parameters = list(program.arg_names)
    trace.arguments = [name for name, value in kwargs.items() if type(value) is SglArgument]
    token = active_tracer.set(tracer)
    try:
        trace.ret_value = tracer.run(program, args, kwargs, options or {}).ret_value
    except TraceStop:
        pass  # noted where it was raised
    except Exception as error:  # noted in the trace
        tracer.failed(error)
    finally:
        active_tracer.reset(token)
    return trace


def _open_arguments(
    program: SglFunction, args: tuple, kwargs: dict[str, Any]
) -> dict[str, SglArgument]:
    """Placeholders for the parameters that are not given and have no default."""
    known = {*program.arg_names[: len(args)], *kwargs, *program.bind_arguments}
    parameters = inspect.signature(program.func).parameters
    return {
        name: SglArgument(name)
        for name in program.arg_names
        if name not in known and parameters[name].default is inspect.Parameter.empty
    }
