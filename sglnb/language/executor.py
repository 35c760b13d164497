"""The executor of one state: its text, messages and variables, its branches and readers."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ConstraintError
from ..events import StateEnded, StateForked, StateStarted, VariableSet
from .errors import GenerationError, UnknownVariable, one_line
from .images import Placed
from .ir import SglFork, SglSetVariable
from .operation import Operation
from .opqueue import OperationQueue, again
from .sampling import branch_defaults
from .waiting import wait_until

if TYPE_CHECKING:
    from ..runtime.images import Image
    from .run import ProgramRun


class StreamExecutor(OperationQueue):
    """What one state has come to, and the queue that changes it.

    Attributes:
        text_, messages_, variables, meta_info: as far as they have come.
        stream: whether somebody reads the text as it comes.
        arguments: those that the program was called with, by name.
        num_api_spec_tokens: see :func:`~sglnb.function`.
    """

    def __init__(
        self,
        run: ProgramRun,
        sid: str,
        defaults: dict[str, Any],
        *,
        label: str = "",
        index: int = 0,
        parent: StreamExecutor | None = None,
    ):
        super().__init__(run, waiting=parent is not None)
        self.sid, self.defaults, self.index = sid, defaults, index
        self.text_ = ""
        self.images: list[Placed] = []
        """The images of the text, in order."""
        self.messages_: list[dict[str, Any]] = []
        self.role_start = 0
        self.role_suffix = ""
        self.fork_start_text_pos = 0
        self._forks = 0
        self.prefilled = 0
        """Length of the text that the engine is known to have seen."""
        self.body_thread: threading.Thread | None = None
        """Where the program's body is going on, if not with who made the state."""
        self.stream = parent is not None and parent.stream
        self.arguments: dict[str, Any] = parent.arguments if parent is not None else {}
        self.num_api_spec_tokens = parent.num_api_spec_tokens if parent is not None else None
        if parent is not None:
            self.table.announce(parent.table)
            self._declared_role = parent._declared_role
        parent_id = parent.sid if parent is not None else None
        run.backend.events.emit(
            StateStarted(state=sid, run=run.id, parent=parent_id, index=index, label=label)
        )

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that are there, by name."""
        return self.table.values

    @property
    def meta_info(self) -> dict[str, Any]:
        """What the engine said of each generated variable."""
        return self.table.meta_info

    # -- what operations do ----------------------------------------------------------------

    def append(self, text: str) -> None:
        """Append text to the state."""
        with self.lock:
            self.text_ += text

    def append_image(self, image: Image, placeholder: str) -> None:
        """Append an image to the state; in the text ``placeholder`` stands for it."""
        with self.lock:
            start = len(self.text_)
            self.text_ += placeholder
            self.images.append(Placed(start, len(self.text_), image))

    @property
    def request_options(self) -> dict[str, Any]:
        """What a request for the text brings besides it: its images, the adapter it runs on, for
        some backends the state itself."""
        out: dict[str, Any] = {"program": self} if self.run.follows else {}
        if self.images:
            out["image_data"] = [placed.image for placed in self.images]
        if "lora" in self.defaults:
            out["lora"] = self.defaults["lora"]
        return out

    def store(self, op: Operation, value: Any, meta_info: Any = None, scores: Any = None) -> None:
        """Set the variable that ``op`` makes, if it has a name, and tell so."""
        self.table.store(op, value, meta_info)
        if op.variable is not None:
            self.run.backend.events.emit(
                VariableSet(
                    state=self.sid,
                    run=self.run.id,
                    name=op.variable,
                    text=str(value),
                    choices=scores,
                )
            )

    # -- branches --------------------------------------------------------------------------

    def fork(self, size: int) -> list[StreamExecutor]:
        """``size`` branches that start where the queue now ends. Does not wait for it."""
        with self.lock:
            self._check_open()
            self._forks += 1
            children = [
                self.run.new_executor(
                    branch_defaults(self.defaults, self._forks, i), index=i, parent=self
                )
                for i in range(size)
            ]
            _, start = self._enqueue([SglFork(size, children)])
        self.run.backend.events.emit(
            StateForked(run=self.run.id, parent=self.sid, children=[c.sid for c in children])
        )
        if start:
            self._pump()
        return children

    def adopt(self, parent: StreamExecutor) -> None:
        """Start as a copy of ``parent``, whose queue has come to the fork."""
        with parent.lock, self.lock:
            self.table.adopt(parent.table)
            self.text_ = parent.text_
            self.images = list(parent.images)
            self.messages_ = list(parent.messages_)
            self.cur_role = parent.cur_role
            self.role_start, self.role_suffix = parent.role_start, parent.role_suffix
            self.scopes = dict(parent.scopes)
            self.prefilled = parent.prefilled
            self.fork_start_text_pos = len(parent.text_)
            if not self._queue:
                self._declared_role = self.cur_role
            self.cond.notify_all()
        self._pump()

    def adopt_failure(self, error: GenerationError) -> None:
        """The parent failed before the fork: this branch never starts."""
        with self.lock:
            self.error_ = error
            dropped = list(self._queue)
            self._queue.clear()
            self.table.adopt_failure(error)
        self._drop(dropped, error)
        self._pump()

    # -- reading ---------------------------------------------------------------------------

    @property
    def body_elsewhere(self) -> bool:
        """Whether the program's body goes on in another thread and may append more."""
        body = self.body_thread
        return body is not None and body is not threading.current_thread()

    def start_body(self, work: Callable[[], None], name: str) -> None:
        """Call ``work``, which holds the body and must not raise, in a thread of its own with
        a copy of this context. Readers elsewhere wait for what it may still append."""

        def body() -> None:
            try:
                work()
            finally:
                with self.cond:
                    self.body_thread = None
                    self.cond.notify_all()
                self.updated()

        self.body_thread = threading.Thread(
            target=contextvars.copy_context().run, args=(body,), name=name, daemon=True
        )
        self.body_thread.start()

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait for ``ready()``; Ctrl-C stops the run and is raised again."""
        try:
            wait_until(self.cond, ready)
        except KeyboardInterrupt:
            self.run.abort()
            raise

    def sync(self) -> None:
        """Wait until everything that was appended, and a body in another thread, is done."""
        self.wait(lambda: not self._busy and not self.body_elsewhere)

    def get_var(self, name: str) -> Any:
        """The value of a variable, waited for.

        Raises:
            GenerationError: it could not be made. UnknownVariable: there is none.
        """
        op = self.table.pending.get(name)
        if op is not None and isinstance(op.expr, SglSetVariable):
            return op.expr.value  # known before its turn comes
        self._await_variable(name)
        with self.lock:
            if name in self.variables:
                return self.variables[name]
            raise self.missing(name)

    def get_value(self, name: str) -> Any:
        """A variable as a Python object: what its ``gen`` was asked for. Raises as
        :meth:`get_var`, and ConstraintError when the text is no such thing."""
        text, meta_info = self.get_var(name), self.get_meta_info(name)
        with self.lock:
            form = self.table.forms.get(name)
        if form is None:
            return text
        try:
            return form.read(text, meta_info)
        except ConstraintError as error:
            raise ConstraintError(f"value of {name!r}: {error}") from None

    def get_meta_info(self, name: str) -> Any:
        """What the engine said of a generated variable, waited for; None for one that was not
        generated. Raises as :meth:`get_var`."""
        self._await_variable(name)
        with self.lock:
            if name not in self.variables:
                raise self.missing(name)
            return self.meta_info.get(name)

    def _await_variable(self, name: str) -> None:
        """Wait for the operation that sets ``name``, and raise its error."""
        self.wait(lambda: self.expects(name) or not self.body_elsewhere)
        op = self.table.pending.get(name)
        if op is None:
            return
        self.wait(lambda: self.table.pending.get(name) is not op)
        if op.error is not None:
            raise op.error.for_variable(name)

    def expects(self, name: str) -> bool:
        """Whether a variable is there, on its way, or known not to come."""
        table = self.table
        return name in table.values or name in table.pending or name in table.lost

    def missing(self, name: str) -> BaseException:
        """The error for the reader of a variable that is not there."""
        if name in self.table.lost:
            return self.table.lost[name].for_variable(name)
        if self.error_ is not None:
            return again(self.error_)
        known = ", ".join(self.variables) or "none yet"
        return UnknownVariable(f"no variable {name!r} in this state; it has: {known}")

    def live_text(self) -> str:
        """All text, with what the generation in flight has so far."""
        with self.lock:
            op = self._current
            return self.text_ + (op.live_text if op is not None and not op.done else "")

    def on_end(self) -> None:
        """Tell the log and the run."""
        error = one_line(self.error_) if self.error_ is not None else ""
        self.run.backend.events.emit(StateEnded(state=self.sid, run=self.run.id, error=error))
        self.run.executor_ended(self, error)
