"""Many programs side by side."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from .run import ProgramRun
from .state import ProgramState
from .waiting import SLICE_SECONDS


def run_rows(
    run: ProgramRun,
    states: Sequence[ProgramState],
    bodies: Sequence[Callable[[], Any]],
    num_threads: int,
    progress_title: str | None,
) -> None:
    """Run each body to the end of its state's generations, ``num_threads`` at a time.

    What a body raises is kept in its state. Ctrl-C stops the run and is raised again.

    Args:
        progress_title: text of a progress bar, None for no bar.
    """
    if not bodies:
        return

    def row(state: ProgramState, body: Callable[[], Any]) -> None:
        try:
            body()
        except Exception as problem:  # kept: raised to whoever reads the state
            state.stream_executor.fail_body(problem)
        state.sync()
        state.stream_executor.end()

    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="sglnb-batch")
    with _Progress(progress_title, len(bodies)) as progress:
        try:
            waiting: set[Future] = {
                pool.submit(contextvars.copy_context().run, row, state, body)
                for state, body in zip(states, bodies, strict=True)
            }
            while waiting:
                done, waiting = wait(waiting, SLICE_SECONDS, return_when=FIRST_COMPLETED)
                progress.update(len(done))
                for future in done:
                    future.result()
        except BaseException:
            run.abort()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def rows_of(batch: Iterable[Any], names: list[str]) -> list[dict[str, Any]]:
    """The arguments of each row as a fresh dict; ``names`` are those of the parameters.

    Raises:
        TypeError: no list of rows, or a row is neither a dict nor a list of values.
    """
    if hasattr(batch, "to_dict"):
        raise TypeError("batch_kwargs: must be a list of rows; for a table: df.to_dict('records')")
    if isinstance(batch, (str, dict)) or not isinstance(batch, Iterable):
        raise TypeError(
            f"batch_kwargs: must be a list of rows, got {type(batch).__name__} {batch!r:.60}"
        )
    rows = []
    for i, row in enumerate(batch):
        if isinstance(row, dict):
            rows.append(dict(row))
        elif isinstance(row, (list, tuple)) and len(row) <= len(names):
            rows.append(dict(zip(names, row, strict=False)))
        else:
            raise TypeError(
                f"batch_kwargs: row {i} must be a dict of arguments or a list with at most "
                f"{len(names)} values ({', '.join(names)}), got {row!r:.60}"
            )
    return rows


def thread_count(num_threads: int | str, rows: int) -> int:
    """Threads for so many rows; "auto" is one a row, up to 96."""
    if num_threads == "auto":
        return max(1, min(96, rows))
    if not isinstance(num_threads, int) or isinstance(num_threads, bool) or num_threads < 1:
        raise ValueError(
            f"num_threads: must be 'auto' or a whole number of at least 1, got {num_threads!r}"
        )
    return min(num_threads, max(1, rows))


class _Progress:
    """A tqdm bar, or nothing."""

    def __init__(self, title: str | None, total: int):
        self._bar = None
        if title is not None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, desc=title)

    def update(self, n: int) -> None:
        if self._bar is not None and n:
            self._bar.update(n)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()
