"""The ``s`` of a program that is traced, and the branches it forks."""

from __future__ import annotations

from typing import Any

from .group import ProgramStateGroup, check_join
from .recorder import Recorder
from .state import ProgramState


class TraceState(ProgramState):
    """The ``s`` of a program that is traced."""

    stream_executor: Recorder

    def fork(self, size: int = 1) -> TraceGroup:
        """Branches of the trace."""
        group = super().fork(size)
        return TraceGroup([TraceState(branch.stream_executor) for branch in group], self)

    def get_var(self, name: str, timeout: float | None = None) -> Any:
        """The placeholder of a variable, or what it was set to."""
        return self.stream_executor.get_var(name)

    def get_meta_info(self, name: str, timeout: float | None = None) -> Any:
        """A placeholder for what the engine will say."""
        return self.stream_executor.get_meta_info(name)

    def sync(self) -> None:
        """Nothing is under way."""
        self.stream_executor.sync()

    def at(self, name: str) -> Any:
        """Known only in a run, as all that goes back."""
        return self._goes_back()

    def before(self, name: str) -> Any:
        """Known only in a run."""
        return self._goes_back()

    def undo(self, n: int = 1) -> None:
        """Known only in a run."""
        return self._goes_back()

    def _goes_back(self) -> Any:
        return self.stream_executor.tracer.stop("it goes back, which a trace cannot follow")

    def text(self) -> Any:
        """The text so far where it is constant, else a placeholder for it."""
        recorder = self.stream_executor
        chain = recorder.chain()
        known = recorder.tracer.trace.constant_of(chain)
        return known.text if known.nodes == len(chain) else recorder.read("text", str)

    def messages(self) -> Any:
        """A placeholder for the messages so far."""
        return self.stream_executor.read("messages", list)


class TraceGroup(ProgramStateGroup):
    """The branches of a fork in a trace."""

    def join(self, mode: str = "gather_variable", on_error: str = "raise") -> None:
        """Write down the join."""
        check_join(mode, on_error)
        recorder: Recorder = self.src_state.stream_executor
        recorder.join([s.stream_executor for s in self.states], mode, on_error)

    @property
    def errors(self) -> Any:
        """Known only in a run."""
        return self.src_state.stream_executor.tracer.stop(
            "whether a branch fails is not known before the run"
        )

    @errors.setter
    def errors(self, value: Any) -> None:
        pass
