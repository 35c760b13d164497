"""One execution of a program's body, from its first line to the end of its run."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from .async_run import run_in_background
from .async_state import AsyncProgramState
from .family import Family
from .reading import when
from .run import ProgramRun, close_run
from .state import ProgramState

if TYPE_CHECKING:
    from .executor import StreamExecutor
    from .program import SglFunction


class Job:
    """A program that is to be executed, in whichever way its caller wants.

    Attributes:
        state: for those outside of the body.
        problem: what the body has raised.
    """

    def __init__(
        self,
        program: SglFunction,
        run: ProgramRun,
        own: bool,
        executor: StreamExecutor,
        args: tuple,
        kwargs: dict[str, Any],
    ):
        self.run, self.executor = run, executor
        self.state = ProgramState(executor)
        executor.num_api_spec_tokens = program.num_api_spec_tokens
        executor.arguments = kwargs
        self.problem: BaseException | None = None
        self._program, self._own, self._args, self._kwargs = program, own, args, kwargs

    def do(self) -> None:
        """The body, here and now. Raises what it raises."""
        with self:
            self._program._body(self.state, self._args, self._kwargs)

    async def do_async(self) -> None:
        """The body of an async program, as part of this task. Raises what it raises."""
        with self.executor.body(), self:
            state = AsyncProgramState(self.executor)
            self.state.ret_value = await self._program.func(state, *self._args, **self._kwargs)

    def do_quietly(self) -> None:
        """:meth:`do`; what the body raises is kept for who reads the state."""
        with suppress(BaseException):  # the state has it: fail_body()
            self.do()

    def __enter__(self) -> None:
        """The run begins around the body."""
        if self._own:
            self.run.enter()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self.problem = error
            self.executor.fail_body(error)
        close_run(self.run, self._own, [self.executor], error)


class RowStarter:
    """Begins the rows of a batch: in threads, or on the shared loop if the program is async.

    A thread is taken while the body of a plain program runs; the pool makes one only when none
    is free.
    """

    def __init__(
        self,
        program: SglFunction,
        run: ProgramRun,
        own: bool,
        defaults: dict[str, Any],
        timeout: float | None,
        limit: int,
    ):
        self._program, self._run, self._defaults, self._timeout = program, run, defaults, timeout
        self._pool = ThreadPoolExecutor(limit, thread_name_prefix="sglnb-batch")
        # The rows belong to the run, the caller's code between them does not.
        self._context = contextvars.copy_context()
        if own:
            self._context.run(run.enter)

    def __call__(
        self, i: int, row: dict[str, Any] | TypeError, over: Callable[[], None]
    ) -> ProgramState:
        """Begin row ``i``; ``over`` is called when its body and its generations are over."""
        program, run = self._program, self._run
        executor = run.new_executor(
            self._defaults,
            label=f"{program.__name__} {i}",
            index=i,
            family=Family(self._timeout),
        )

        def ended() -> None:
            executor.end()
            over()

        if isinstance(row, TypeError):
            executor.fail_body(row)
            ended()
            return ProgramState(executor)
        job = Job(program, run, False, executor, (), {**program.bind_arguments, **row})
        executor.body_going = True
        if program.is_async:
            self._context.copy().run(run_in_background, job.do_async())
        else:
            self._pool.submit(self._context.copy().run, _in_thread, job)
        when(executor, partial(_is_over, executor), ended)
        return job.state

    def close(self) -> None:
        """No more rows will come."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _in_thread(job: Job) -> None:
    with job.executor.body():
        job.do_quietly()


def _is_over(executor: StreamExecutor) -> bool:
    return executor.idle and not executor.body_going
