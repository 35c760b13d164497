"""``@function``: a Python function as an LM program."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..runtime.arguments import number
from . import prefix
from .async_run import check_may_block, finished, run_blocking, run_here, run_in_background
from .async_state import AsyncProgramState
from .backend import Backend
from .batch import Batch, Progress
from .errors import BatchInterrupted
from .family import Family, check_timeout
from .job import Job, RowStarter
from .options import batch_options, split_options
from .placeholders import active_tracer
from .plan import Plan
from .rows import rows_at_once
from .run import ProgramRun, close_run, open_run
from .state import ProgramState
from .table import given_rows, is_table, results_table
from .tracer import trace_program

if TYPE_CHECKING:
    from pandas import DataFrame

    from .compiled import CompiledFunction
    from .trace_graph import Trace


class SglFunction:
    """A program: a function whose first parameter ``s`` is the state it works on.

    Attributes:
        arg_names: the names of its other parameters.
        bind_arguments: those that are fixed.
        num_api_spec_tokens: see :func:`function`.

    Made by :func:`function`. The sampling options of :meth:`run`, :meth:`run_batch` and a
    plain call are the base for every ``gen`` that does not say otherwise. A parameter of the
    function with the name of an option takes the keyword for itself.

    Attributes:
        is_async: the function is an ``async def``.
        last_batch: the results of the last ``run_batch``, also when it was interrupted.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        num_api_spec_tokens: int | None = None,
        bind_arguments: dict[str, Any] | None = None,
    ):
        self.func = func
        self.num_api_spec_tokens = num_api_spec_tokens
        self.bind_arguments = dict(bind_arguments or {})
        self.arg_names = _check_program(func)
        self.is_async = inspect.iscoroutinefunction(func)
        self.last_batch: Any = None
        self._pins = prefix.Pins()
        self._plan: Plan | None = None
        functools.update_wrapper(self, func)

    def bind(self, **kwargs: Any) -> SglFunction:
        """The same program with some arguments fixed.

        Raises:
            TypeError: the function has no such parameter.
        """
        self._check_names("bind", kwargs)
        return SglFunction(self.func, self.num_api_spec_tokens, {**self.bind_arguments, **kwargs})

    def run(
        self,
        *args: Any,
        stream: bool = False,
        timeout: float | None = None,
        backend: Backend | None = None,
        run_id: str | None = None,
        use_thread: bool = True,
        **kwargs: Any,
    ) -> ProgramState:
        """Run the program and return its state once the body has ended; generations that it
        did not read may still be going.

        Called from a running program or a ``%%sgl`` cell, the state belongs to that run, with
        its backend and sampling options. The body of an async program runs on an event loop in
        a thread of its own, shared by all of them, while the caller waits.

        Args:
            stream: run the body in the background and return at once; see
                ``state.text_iter()``.
            timeout: seconds for all of the program. After them its generations are stopped
                (what they have written is kept) and whoever waits for them, or appends more,
                gets a GenerationTimeout; its ``state`` is where to go on.
            backend: where to run; default: the enclosing program's, else the default backend.
            run_id: the ``run`` of the events; for callers that show the run themselves.
            use_thread: accepted for SGLang's sake; states have no threads here.
            **kwargs: the function's arguments, and sampling options: max_new_tokens, stop,
                stop_token_ids, temperature, top_p, top_k, min_p, seed, ignore_eos,
                return_logprob, lora (the name of an adapter), and the others of ``gen``.

        Raises:
            ValueError: a sampling option is out of range.
            Exception: whatever the body raises; its requests are then aborted.
        """
        if (tracer := active_tracer.get()) is not None:
            return tracer.call(self, args, kwargs, backend)
        if self.is_async and not stream:
            check_may_block("run")
        job = self._prepare(args, timeout, backend, run_id, kwargs, stream)
        if self.is_async:
            if stream:
                job.executor.body_going = True
                run_in_background(job.do_async())
            else:
                run_blocking(job.do_async(), job.run.abort)
        elif stream:
            job.executor.start_body(job.do_quietly, f"sglnb-{self.__name__}")
        else:
            job.do()
        return job.state

    async def run_async(
        self,
        *args: Any,
        stream: bool = False,
        timeout: float | None = None,
        backend: Backend | None = None,
        run_id: str | None = None,
        **kwargs: Any,
    ) -> ProgramState:
        """:meth:`run` for a running event loop, such as a notebook's: ``state = await
        qa.run_async(question="...")``. The loop is never blocked.

        An async body runs as part of the awaiting task; that of a plain ``def`` program in a
        thread. Returns when the body and its generations are over, so that nothing that is
        read from the state has to wait; with ``stream`` at once. To cancel the awaiting task
        stops the run; what was written is kept.
        """
        job = self._prepare(args, timeout, backend, run_id, kwargs, stream)
        if self.is_async and not stream:
            await job.do_async()
        elif self.is_async:
            job.executor.body_going = True
            run_here(job.do_async())
        else:
            job.executor.start_body(job.do_quietly, f"sglnb-{self.__name__}")
        if not stream:
            await finished(job.executor)
            if job.problem is not None:
                raise job.problem
        return job.state

    def run_batch(
        self,
        batch_kwargs: Iterable[dict[str, Any] | Sequence[Any]] | DataFrame,
        *,
        backend: Backend | None = None,
        num_threads: int | str = "auto",
        progress_bar: bool = False,
        generator_style: bool = False,
        timeout: float | None = None,
        run_id: str | None = None,
        **options: Any,
    ) -> list[ProgramState] | Iterator[ProgramState] | DataFrame:
        """Run the program once for each row, many at a time.

        Where the rows begin with the same text of some dozens of tokens, the backend computes it
        once before they go out. To find it, the body is run once more, on placeholders and up to
        its first use of an argument that differs between rows. Not for an iterator, whose rows
        are not known ahead, nor for an async program.

        Args:
            batch_kwargs: a dict of arguments for each row, or a sequence in the order of the
                parameters: a list of them, or an iterator, from which a row is taken whenever
                there is room for one. Or a pandas DataFrame, whose columns are the arguments
                (others are left alone). Nothing of it is changed.
            num_threads: rows in progress at once at most; "auto" is up to 64. A row holds a
                thread only while its Python body runs, since that may wait; rows of async
                programs hold none, and "auto" is up to 256.
            progress_bar: show one (tqdm).
            generator_style: return an iterator that gives each state as soon as it and those
                before it are over. It runs ahead of its reader by twice ``num_threads`` at most.
            timeout: seconds for each row, from its beginning; see :meth:`run`.
            **options: sampling options as in :meth:`run`.

        Returns:
            One state a row, in order, each with all its generations done. A row that failed
            has its error in ``state.error()``, and reading its variables raises it. For a
            DataFrame: a DataFrame with the same index and a column for each variable, then
            ``error`` (text), ``tokens`` written, prompt tokens ``cached``, tokens ``forced``
            by constraints, ``seconds``, and the ``state``.

        Raises:
            BatchInterrupted: (a KeyboardInterrupt) by Ctrl-C. What is there by then is in its
                ``results`` and, for a notebook, in :attr:`last_batch`.
        """
        rows = given_rows(batch_kwargs, self.arg_names, self._takes_any_keyword)
        if (tracer := active_tracer.get()) is not None:
            return [tracer.call(self, (), {**options, **row}, backend) for row in rows.listed()]
        self.last_batch = None
        if self.is_async:
            check_may_block("run_batch")
        check_timeout(timeout)
        limit = rows_at_once(num_threads, self.is_async)
        defaults = batch_options(options)
        title = self.__name__ if rows.total is None else f"{self.__name__} \u00d7 {rows.total}"
        run, own = open_run(title, backend, run_id, defaults, self._make_plan)
        prefix.cache_for_rows(self, run, rows.known, {**run.defaults, **defaults})
        progress = Progress(title if progress_bar else None, rows.total)
        starter = RowStarter(self, run, own, {**run.defaults, **defaults}, timeout, limit)
        ahead = 2 * limit if generator_style else None
        batch = Batch(rows.each, starter, limit, ahead, progress.update)
        results = self._results(batch, run, own, starter, progress)
        if generator_style:
            return results

        def so_far() -> Any:
            states = [batch.states.get(i) for i in range(rows.total or batch.begun)]
            return results_table(states, batch_kwargs.index) if is_table(batch_kwargs) else states

        try:
            for _ in results:
                pass  # the batch keeps them
        except KeyboardInterrupt:
            results.close()
            raise BatchInterrupted(
                f"run_batch: {batch.done} of {rows.total or batch.begun} rows are done; they are "
                f"in {self.__name__}.last_batch",
                so_far(),
            ) from None
        finally:
            self.last_batch = so_far()
        return self.last_batch

    def _results(
        self, batch: Batch, run: ProgramRun, own: bool, starter: RowStarter, progress: Progress
    ) -> Iterator[ProgramState]:
        """The states of ``batch`` in order, and then the end of its run."""
        try:
            yield from batch
        except BaseException as error:
            batch.stop()
            close_run(run, own, [], error)
            raise
        else:
            close_run(run, own, [])
        finally:
            starter.close()
            progress.close()

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
        kwargs, options = split_options(kwargs, self.arg_names)
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
        returns (an async program: ``await f(s, ...)``); ``f(...)`` without a state is
        :meth:`run`."""
        if not args or not isinstance(args[0], ProgramState):
            return self.run(*args, **kwargs)
        state, *rest = args
        kwargs = {**self.bind_arguments, **kwargs}
        if not self.is_async or isinstance(state, AsyncProgramState):
            return self.func(state, *rest, **kwargs)
        if (tracer := active_tracer.get()) is not None:
            tracer.stop("an async program is called, which a trace cannot follow")
        check_may_block(self.__name__)
        ex = state.stream_executor
        return run_blocking(self.func(AsyncProgramState(ex), *rest, **kwargs), ex.run.abort)

    def __repr__(self) -> str:
        bound = "".join(f", {k}={v!r:.40}" for k, v in self.bind_arguments.items())
        return f"SglFunction({self.__name__}({', '.join(['s', *self.arg_names])}){bound})"

    # -- inside ----------------------------------------------------------------------------

    def _make_plan(self) -> Plan | None:
        """What the source says of the program; None where that is nothing to look at, so that
        short programs, which are run by the thousand, do not pay for it."""
        if self._plan is None or not self._plan.still_true():
            from .plan_reader import plan_of_program  # which knows programs

            self._plan = plan_of_program(self) or Plan()
        return self._plan if self._plan.has_shape else None

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

    def _body(self, state: ProgramState, args: tuple, kwargs: dict[str, Any]) -> None:
        """The body of a plain program; ``kwargs`` has what is bound."""
        state.ret_value = self.func(state, *args, **kwargs)

    def _prepare(
        self,
        args: tuple,
        timeout: float | None,
        backend: Backend | None,
        run_id: str | None,
        kwargs: dict[str, Any],
        stream: bool,
    ) -> Job:
        """A run with its state, not begun."""
        if timeout is not None and "timeout" in self.arg_names:
            kwargs, timeout = {**kwargs, "timeout": timeout}, None
        if timeout is not None:
            check_timeout(timeout)
        kwargs, defaults = split_options(kwargs, self.arg_names)
        run, own = open_run(self.__name__, backend, run_id, defaults, self._make_plan)
        executor = run.new_executor(
            {**run.defaults, **defaults}, label=self.__name__, family=Family(timeout)
        )
        executor.family.stream = stream
        return Job(self, run, own, executor, args, {**self.bind_arguments, **kwargs})


def function(
    func: Callable[..., Any] | None = None,
    num_api_spec_tokens: int | None = None,
    *,
    api_num_spec_tokens: int | None = None,
) -> Any:
    """Make an LM program of a function, plain or async, whose first parameter is ``s``::

        @function
        def qa(s, question):
            s += user(question)
            s += assistant(gen("answer", max_tokens=32))

        state = qa.run(question="What is the capital of Italy?")
        state["answer"]

    In an ``async def`` program what reads is awaited: ``await s["answer"]``, ``await s.text()``,
    ``await group.join()``, ``async for piece in s.text_async_iter()``.

    Args:
        num_api_spec_tokens: for backends that are remote APIs: tokens to ask for at once, so that
            one call can serve several ``gen``. An engine has no use for it.
        api_num_spec_tokens: its name in older releases of SGLang.

    Raises:
        TypeError: the first parameter is not ``s``, or the function is a generator.
        ValueError: no whole number of at least 1.
    """
    tokens = num_api_spec_tokens if num_api_spec_tokens is not None else api_num_spec_tokens
    if tokens is not None:
        number("num_api_spec_tokens", tokens, 1, whole=True)
    if func is None:
        return functools.partial(SglFunction, num_api_spec_tokens=tokens)
    return SglFunction(func, tokens)


def _check_program(func: Callable[..., Any]) -> list[str]:
    """Names of the parameters after ``s``; TypeError if ``func`` cannot be a program."""
    if not callable(func):
        raise TypeError(f"function: needs a function, got {type(func).__name__} {func!r:.60}")
    name = getattr(func, "__name__", repr(func))
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
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
