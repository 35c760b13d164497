"""The magics: read the command, find the backend, run."""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import copy_context
from pathlib import Path
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import (
    Magics,
    cell_magic,
    line_magic,
    magics_class,
    no_var_expand,
)
from IPython.display import display
from traitlets import Enum, Float, Int

from ..errors import SglError
from ..language import ProgramState, get_default_backend
from ..language.plan_reader import plan_of_cell
from ..runtime import open_engines
from .cell import await_here, run_behind, run_here
from .command import VIEWS, CellCommand, parse_cell, parse_line, suggestion
from .completion import make_matcher
from .engines import named_engine
from .help import cell_help, help_text, line_help
from .names import lent_names
from .reports import models_table, runs_table, status_table
from .run import Run
from .source import CellCode, compile_body, register
from .table import Note, Table
from .tracebacks import clean

KEPT_RUNS = 100
"""Runs that ``%sgl runs`` remembers; older ones live as long as the user holds them."""


@magics_class
class SglMagics(Magics):
    """LM programs in cells."""

    view = Enum(list(VIEWS), "auto", help="What a cell shows when --view is not given.").tag(
        config=True
    )
    max_tokens = Int(None, allow_none=True, min=0, help="Default of --max-tokens; None = 128.").tag(
        config=True
    )
    temperature = Float(
        None, allow_none=True, min=0, help="Default of --temperature; None = 1."
    ).tag(config=True)

    def __init__(self, shell: InteractiveShell):
        super().__init__(shell=shell)
        self.runs: dict[str, Run] = {}
        self.matcher = make_matcher(lambda: lent_names(ProgramState))

    # -- %%sgl -----------------------------------------------------------------------------

    @no_var_expand
    @cell_magic("sgl")
    def run_cell(self, line: str, cell: str) -> Run | Coroutine[Any, Any, Run | None] | None:
        command = parse_cell(line)
        if command.help:
            display(Note(cell_help()))
            return None
        filename = register(self.shell, line, cell)
        try:
            code = compile_body(self.shell, cell, filename)
            backend = self._backend(command.model)
        except (SyntaxError, SglError) as error:
            raise clean(self.shell, error) from None
        title = _cell_title(self.shell, filename)
        run = Run(backend, title=title, view=command.view or self.view)
        defaults = self._defaults(command)
        plan = plan_of_cell(code.source, filename, self.shell.user_ns, lent_names(None))
        if command.background:
            # In a copy of the cell's context the thread's prints appear under this cell, and
            # only programs called there belong to the run, not those of the cells that come.
            context = copy_context()
            context.run(run.begin, defaults, plan)
            self._remember(run, command.output)
            run_behind(self.shell, run, code, context)
        else:
            run.begin(defaults, plan)
            self._remember(run, command.output)
            if code.is_async:
                return self._await_cell(run, code)  # see await_async_cells
            run_here(self.shell, run, code)
        return _unless_silent(run, code)

    async def _await_cell(self, run: Run, code: CellCode) -> Run | None:
        await await_here(self.shell, run, code)
        return _unless_silent(run, code)

    def _defaults(self, command: CellCommand) -> dict[str, Any]:
        """Sampling parameters of the cell: its options over ``%config SglMagics``."""
        session = {"max_new_tokens": self.max_tokens, "temperature": self.temperature}
        chosen = {name: value for name, value in session.items() if value is not None}
        return {**chosen, **command.sampling}

    def _backend(self, model: str | None) -> Any:
        """The backend of the cell; an engine is loaded once for each ``--model``."""
        if model is None:
            return get_default_backend()
        try:
            return named_engine(model)
        except (ValueError, OSError) as error:
            message = str(error).removeprefix("model: ")
            raise UsageError(f"%%sgl: --model: {message}") from None

    def _remember(self, run: Run, name: str | None) -> None:
        if name is not None:
            self.shell.user_ns[name] = run
        self.runs[run.id] = run
        over = [old.id for old in self.runs.values() if old.done]
        for old in over[: max(0, len(self.runs) - KEPT_RUNS)]:
            del self.runs[old]

    # -- %sgl ------------------------------------------------------------------------------

    @no_var_expand
    @line_magic("sgl")
    def run_line(self, line: str) -> Run | None:
        command = parse_line(line)
        if command.name == "runs" and command.argument is not None:
            return self._run_named(command.argument)
        display(getattr(self, f"_{command.name}")(command.argument))
        return None

    def _help(self, topic: str | None) -> Note:
        return Note(help_text(topic))

    def _status(self, _: None) -> Table:
        return status_table(get_default_backend())

    def _models(self, _: None) -> Table:
        from huggingface_hub.constants import HF_HUB_CACHE

        loaded = {id(run.backend): run.backend for run in self.runs.values()}
        loaded |= {id(engine): engine for engine in open_engines()}
        return models_table("sgl-tiny", loaded.values(), Path(HF_HUB_CACHE))

    def _cache(self, _: None) -> Any:
        return self._cache_of_backend().snapshot()

    def _flush(self, _: None) -> Note:
        return Note(f"{self._cache_of_backend().flush():,} tokens forgotten")

    def _cache_of_backend(self) -> Any:
        backend = get_default_backend()
        if not hasattr(backend, "cache"):
            raise UsageError(f"%sgl: {backend.model_name} runs elsewhere; its cache is not ours")
        return backend.cache

    def _stop(self, name: str | None) -> Note:
        if name is not None and self._stop_request(name):
            return Note(f"stopped: request {name}")
        chosen = list(self.runs.values()) if name is None else [self._run_named(name)]
        running = [run for run in chosen if not run.done]
        for run in running:
            run.stop()
        return Note(f"stopped: {', '.join(run.id for run in running) or 'nothing was running'}")

    def _stop_request(self, rid: str) -> bool:
        """Abort the request ``rid`` of a run that goes on; False when there is none."""
        for run in self.runs.values():
            if not run.done and rid in run.rids():
                run.backend.abort(rid=rid)
                return True
        return False

    def _runs(self, _: None) -> Table | Note:
        return runs_table(self.runs)

    def _run_named(self, name: str) -> Run:
        if name not in self.runs:
            raise UsageError(f"%sgl: no run {name!r}{suggestion(name, self.runs)} See %sgl runs")
        return self.runs[name]


def _unless_silent(run: Run, code: CellCode) -> Run | None:
    """The cell's value: none if its last line ends with a semicolon."""
    return None if DisplayHook.semicolon_at_end_of_expression(code.text) else run


def _cell_title(shell: InteractiveShell, filename: str) -> str:
    label = shell.compile.format_code_name(filename)
    return label[1] if label else "%%sgl"


SglMagics.run_cell.__doc__ = cell_help()
SglMagics.run_line.__doc__ = line_help()
