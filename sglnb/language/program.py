"""``@function``: a Python function as an LM program."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import prefix
from .backend import Backend
from .batch import rows_of, run_rows, thread_count
from .placeholders import active_tracer
from .run import ProgramRun, close_run, open_run
from .sampling import SUBMIT_OPTIONS, check, given
from .state import ProgramState
from .tracer import trace_program

if TYPE_CHECKING:
    from .compiled import CompiledFunction
    from .trace_graph import Trace

OPTIONS = (
    "max_new_tokens",
    "min_new_tokens",
    "n",
    "stop",
    "stop_token_ids",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "custom_logit_processor",
    "seed",
    "stop_regex",
    "no_stop_trim",
    "ignore_eos",
    "skip_special_tokens",
    "on_budget",
    "jump_forward",
    "retokenize",
    *SUBMIT_OPTIONS,
)
"""Sampling options of ``run()`` and ``run_batch()``: the base for every ``gen``."""


class SglFunction:
    """A program: a function whose first parameter ``s`` is the state it works on.

    Made by :func:`function`. The sampling options of :meth:`run`, :meth:`run_batch` and a
    plain call are the base for every ``gen`` that does not say otherwise. A parameter of the
    function with the name of an option takes the keyword for itself.
    """

    def __init__(self, func: Callable[..., Any], bind_arguments: dict[str, Any] | None = None):
        self.func = func
        self.bind_arguments = dict(bind_arguments or {})
        self.arg_names = _check_program(func)
        self._pins = prefix.Pins()
        functools.update_wrapper(self, func)

    def bind(self, **kwargs: Any) -> SglFunction:
        """The same program with some arguments fixed.

        Raises:
            TypeError: the function has no such parameter.
        """
        self._check_names("bind", kwargs)
        return SglFunction(self.func, {**self.bind_arguments, **kwargs})

    def run(
        self,
        *args: Any,
        stream: bool = False,
        backend: Backend | None = None,
        run_id: str | None = None,
        **kwargs: Any,
    ) -> ProgramState:
        """Run the program and return its state once the body has ended; generations that it
        did not read may still be going.

        Called from a running program or a ``%%sgl`` cell, the state belongs to that run, with
        its backend and sampling options.

        Args:
            stream: run the body in a thread and return at once; see ``state.text_iter()``.
            backend: where to run; default: the enclosing program's, else the default backend.
            run_id: the ``run`` of the events; for callers that show the run themselves.
            **kwargs: the function's arguments, and sampling options: max_new_tokens, stop,
                stop_token_ids, temperature, top_p, top_k, min_p, seed, ignore_eos,
                return_logprob, lora (the name of an adapter), and the others of ``gen``.

        Raises:
            ValueError: a sampling option is out of range.
            Exception: whatever the body raises; its requests are then aborted.
        """
        if (tracer := active_tracer.get()) is not None:
            return tracer.call(self, args, kwargs, backend)
        kwargs, defaults = self._split(kwargs)
        run, own = open_run(self.__name__, backend, run_id, defaults)
        executor = run.new_executor({**run.defaults, **defaults}, label=self.__name__)
        state = ProgramState(executor)
        if stream:
            self._start_thread(run, own, state, args, kwargs)
        else:
            self._execute(run, own, state, args, kwargs)
        return state

    def run_batch(
        self,
        batch_kwargs: Iterable[dict[str, Any] | Sequence[Any]],
        *,
        backend: Backend | None = None,
        num_threads: int | str = "auto",
        progress_bar: bool = False,
        run_id: str | None = None,
        **options: Any,
    ) -> list[ProgramState]:
        """Run the program once for each row, many at a time.

        Where the rows begin with the same text of some dozens of tokens, the backend computes it
        once before they go out. To find it, the body is run once more, on placeholders and up to
        its first use of an argument that differs between rows.

        Args:
            batch_kwargs: a dict of arguments for each row, or a sequence in the order of the
                parameters. Nothing of it is changed.
            num_threads: rows in progress at once at most; "auto" is up to 96.
            progress_bar: show one (tqdm).
            **options: sampling options as in :meth:`run`.

        Returns:
            One state a row, in order, each with all its generations done. A row that failed
            has its error in ``state.error()``, and reading its variables raises it.
        """
        rows = rows_of(batch_kwargs, self.arg_names)
        if (tracer := active_tracer.get()) is not None:
            return [tracer.call(self, (), {**options, **row}, backend) for row in rows]
        _, defaults = self._split(options, only_options=True)
        threads = thread_count(num_threads, len(rows))
        title = f"{self.__name__} \u00d7 {len(rows)}"
        run, own = open_run(title, backend, run_id, defaults)
        merged = {**run.defaults, **defaults}
        states = [
            ProgramState(run.new_executor(merged, label=f"{self.__name__} {i}", index=i))
            for i in range(len(rows))
        ]
        jobs = [
            functools.partial(self._body, state, (), row)
            for state, row in zip(states, rows, strict=True)
        ]
        executors = [state.stream_executor for state in states]
        prefix.cache_for_rows(self, run, rows, merged)
        if own:
            run.enter()
        try:
            run_rows(run, states, jobs, threads, title if progress_bar else None)
        except BaseException as error:
            close_run(run, own, executors, error)
            raise
        close_run(run, own, executors)
        return states

    def trace(self, *, backend: Backend | None = None, **kwargs: Any) -> Trace:
        """The dataflow graph of the program before it runs: no model is asked.

        The body is run on a state that only takes notes. Arguments that are not given and have no
        default are open: a placeholder stands for each, as for each variable that the model will
        write. They can be appended and passed on. Where the body needs the value of one (a
        condition, an f-string, ``len()``, a library's function) the trace ends: see
        ``trace.stopped``; it has everything up to there. What cannot be seen is identity
        (``x is None``) and ``type(x)`` of an open argument, which counts as text: give arguments
        that are something else.

        Args:
            backend: whose chat template and tokenizer the trace uses; default: the default one.
            **kwargs: arguments, and sampling options as in :meth:`run`.

        Raises:
            TypeError: the function has no such parameter.
        """
        kwargs, options = self._split(kwargs)
        self._check_names("trace", kwargs)
        return trace_program(self, kwargs=kwargs, options=options, backend=backend)

    def compile(self, *, backend: Backend | None = None) -> CompiledFunction:
        """The program as its dataflow graph: generations that do not need each other's results
        are all sent at once, even where the body reads one before it starts the next. Texts and
        variables are those of the plain run.

        Args:
            backend: where it runs unless told otherwise.

        Raises:
            TraceError: what the program does depends on what the model writes, and where.
        """
        from .compiled import CompiledFunction

        return CompiledFunction(self, backend)

    def cache(self, backend: Backend | None = None) -> int:
        """Have the backend compute the program's longest constant prefix ahead.

        Returns:
            Its number of tokens; 0 when the program begins with an argument.
        """
        return prefix.cache(self, backend)

    def pin(self, backend: Backend | None = None) -> int:
        """Keep the program's longest constant prefix in the engine's cache until :meth:`unpin`.

        Returns:
            Its number of tokens.

        Raises:
            ValueError: the program begins with an argument, or the prefix does not fit in
                ``engine.cache.pin_budget``. TypeError: the backend cannot pin.
        """
        return prefix.pin(self, backend, self._pins)

    def unpin(self, backend: Backend | None = None) -> None:
        """End :meth:`pin`.

        Raises:
            ValueError: nothing is pinned there.
        """
        prefix.unpin(self, backend, self._pins)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``f(s, ...)`` does the program on the caller's state and returns what its body
        returns; ``f(...)`` without a state is :meth:`run`."""
        if args and isinstance(args[0], ProgramState):
            return self.func(*args, **{**self.bind_arguments, **kwargs})
        return self.run(*args, **kwargs)

    def __repr__(self) -> str:
        bound = "".join(f", {k}={v!r:.40}" for k, v in self.bind_arguments.items())
        return f"SglFunction({self.__name__}({', '.join(['s', *self.arg_names])}){bound})"

    # -- inside ----------------------------------------------------------------------------

    @property
    def _takes_any_keyword(self) -> bool:
        kinds = [p.kind for p in inspect.signature(self.func).parameters.values()]
        return inspect.Parameter.VAR_KEYWORD in kinds

    def _check_names(self, where: str, kwargs: dict[str, Any]) -> None:
        for name in kwargs:
            if name not in self.arg_names and not self._takes_any_keyword:
                raise TypeError(
                    f"{where}: {self.__name__}() has no parameter {name!r}; "
                    f"it has: {', '.join(self.arg_names) or 'none'}"
                )

    def _split(
        self, kwargs: dict[str, Any], *, only_options: bool = False
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(the function's arguments, the sampling options) of ``kwargs``, both checked."""
        taken = () if only_options else self.arg_names
        options = given(**{k: v for k, v in kwargs.items() if k in OPTIONS and k not in taken})
        rest = {k: v for k, v in kwargs.items() if k not in OPTIONS or k in taken}
        if only_options and rest:
            raise TypeError(
                f"run_batch: unknown option {next(iter(rest))!r}; known: {', '.join(OPTIONS)}"
            )
        check(options)
        options.pop("n", None)
        return rest, options

    def _body(self, state: ProgramState, args: tuple, kwargs: dict[str, Any]) -> None:
        state.ret_value = self.func(state, *args, **{**self.bind_arguments, **kwargs})

    def _execute(
        self, run: ProgramRun, own: bool, state: ProgramState, args: tuple, kwargs: dict[str, Any]
    ) -> None:
        """The body, and then the end of its run."""
        if own:
            run.enter()
        try:
            self._body(state, args, kwargs)
        except BaseException as error:
            state.stream_executor.fail_body(error)
            close_run(run, own, [state.stream_executor], error)
            raise
        close_run(run, own, [state.stream_executor])

    def _start_thread(self, run: ProgramRun, own: bool, state: ProgramState, *rest: Any) -> None:
        """:meth:`_execute` in a thread; what it raises is kept for who reads the state."""

        def work() -> None:
            with suppress(BaseException):  # the state has it: fail_body()
                self._execute(run, own, state, *rest)

        state.stream_executor.start_body(work, f"sglnb-{self.__name__}")


def function(func: Callable[..., Any] | None = None) -> Any:
    """Make an LM program of a function whose first parameter is ``s``::

        @function
        def qa(s, question):
            s += user(question)
            s += assistant(gen("answer", max_tokens=32))

        state = qa.run(question="What is the capital of Italy?")
        state["answer"]

    Raises:
        TypeError: the first parameter is not ``s``, or the function is async or a generator.
    """
    return SglFunction if func is None else SglFunction(func)


def _check_program(func: Callable[..., Any]) -> list[str]:
    """Names of the parameters after ``s``; TypeError if ``func`` cannot be a program."""
    if not callable(func):
        raise TypeError(f"function: needs a function, got {type(func).__name__} {func!r:.60}")
    name = getattr(func, "__name__", repr(func))
    if inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func):
        raise TypeError(
            f"function: {name} is async; programs are plain functions (def, not async def)"
        )
    if inspect.isgeneratorfunction(func):
        raise TypeError(f"function: {name} contains yield; a program's body must not")
    parameters = list(inspect.signature(func).parameters.values())
    if not parameters or parameters[0].name != "s":
        got = f"got {parameters[0].name!r}" if parameters else "it has none"
        raise TypeError(
            f"function: the first parameter of {name} must be named 's' (the program's state); "
            f"{got}. Write: def {name}(s, ...)"
        )
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters[1:] if p.kind not in kinds]
