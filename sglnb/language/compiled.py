"""``f.compile()``: a program that is executed as its dataflow graph."""

from __future__ import annotations

import inspect
from typing import Any

from .backend import Backend
from .graph_run import GraphRun
from .placeholders import is_plain
from .program import SglFunction
from .state import ProgramState
from .trace_graph import Trace
from .trace_node import Stop, TraceError
from .trace_state import TraceState
from .tracer import trace_program


class CompiledFunction(SglFunction):
    """A program whose independent generations are all sent at once.

    Each run executes the body on the given arguments with placeholders for what the model will
    write, which takes microseconds a step, and then the graph that comes of it: so the body may
    do with its arguments whatever it likes. Only what the model writes must not decide what the
    program does. What goes wrong with a generation is told where its result is read.

    Attributes:
        graph: the trace with open arguments, as ``f.trace()`` gives it.
    """

    def __init__(self, program: SglFunction, backend: Backend | None = None):
        super().__init__(program.func, program.num_api_spec_tokens, program.bind_arguments)
        self.backend = backend
        self.graph: Trace = trace_program(program, backend=backend)
        stopped = self.graph.stopped
        hopeless = self.is_async or not self.graph.arguments
        if stopped is not None and (stopped.on == "variable" or hopeless):
            raise TraceError(self.__name__, stopped)

    def run(self, *args: Any, backend: Backend | None = None, **kwargs: Any) -> ProgramState:
        """As :meth:`SglFunction.run`.

        Raises:
            TraceError: with these arguments, what the program does depends on what the model
                writes.
        """
        return super().run(*args, backend=backend or self.backend, **kwargs)

    async def run_async(
        self, *args: Any, backend: Backend | None = None, **kwargs: Any
    ) -> ProgramState:
        """As :meth:`SglFunction.run_async`."""
        return await super().run_async(*args, backend=backend or self.backend, **kwargs)

    def run_batch(self, *args: Any, backend: Backend | None = None, **kwargs: Any) -> Any:
        """As :meth:`SglFunction.run_batch`."""
        return super().run_batch(*args, backend=backend or self.backend, **kwargs)

    def bind(self, **kwargs: Any) -> CompiledFunction:
        """The same program with some arguments fixed, compiled."""
        return CompiledFunction(super().bind(**kwargs), self.backend)

    def _body(self, state: ProgramState, args: tuple, kwargs: dict[str, Any]) -> None:
        executor = state.stream_executor
        inspect.signature(self.func).bind(state, *args, **kwargs)
        trace = trace_program(self, args, kwargs, backend=executor.run.backend, holes=False)
        if trace.stopped is not None:
            raise TraceError(self.__name__, trace.stopped)
        result = trace.ret_value
        if not (type(result) is TraceState or is_plain(result)):
            why = (
                f"it returns a {type(result).__name__}; a trace follows only a state, "
                "or text, numbers, lists and dicts"
            )
            raise TraceError(self.__name__, Stop(why, None, None, "", ""))
        run = GraphRun(trace, state)
        run.start()
        state.ret_value = run.result()

    def __repr__(self) -> str:
        return f"Compiled{super().__repr__().removeprefix('Sgl')}"
