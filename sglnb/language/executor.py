"""The executor of one state: its text, messages and variables, its branches and readers."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..events import StateEnded, StateForked, StateStarted, VariableSet
from .checkpoints import START, Checkpoint
from .errors import GenerationError, UnknownVariable, one_line
from .family import Family
from .images import Placed
from .ir import SglFork, caller
from .layout import laid_out
from .operation import Operation
from .opqueue import OperationQueue, again
from .sampling import branch_defaults
from .waiting import wait_until

if TYPE_CHECKING:
    from ..runtime.images import Image
    from .run import ProgramRun


_bodies: contextvars.ContextVar[tuple[StreamExecutor, ...]] = contextvars.ContextVar(
    "sglnb_bodies", default=()
)
"""The states whose bodies the code here belongs to, in threads and tasks that they start, too."""


@laid_out(
    *("run", "lock", "table", "_queue", "_busy", "sid", "defaults", "index", "images"),
    *("messages_", "adopted", "family", "_watchers", "_cond"),
    *("text_", "tip", "cur_role", "role_start", "role_suffix", "scopes", "prefilled"),
    *("error_", "_current", "_declared_role", "_ending", "_ended"),
    *("origin", "fork_start_text_pos"),
)
class StreamExecutor(OperationQueue):
    """What one state has come to, and the queue that changes it.

    Attributes:
        text_, messages_, variables, meta_info: as far as they have come.
        adopted: False for a branch whose parent has not come to the fork.
        body_going: the program's body is going on in another thread or task.
        family: the states that it is timed and counted with.
        origin: the checkpoint that it started from.
    """

    text_ = ""
    role_start = 0
    role_suffix = ""
    fork_start_text_pos = 0
    prefilled = 0
    """Length of the text that the engine is known to have seen."""
    body_going = False
    origin: Checkpoint = START
    _forks = 0

    def __init__(
        self,
        run: ProgramRun,
        sid: str,
        defaults: dict[str, Any],
        *,
        label: str = "",
        index: int = 0,
        parent: StreamExecutor | None = None,
        family: Family | None = None,
    ):
        super().__init__(run, waiting=parent is not None)
        self.sid, self.defaults, self.index = sid, defaults, index
        self.images: list[Placed] = []
        """The images of the text, in order."""
        self.messages_: list[dict[str, Any]] = []
        self.adopted = parent is None
        self.family = family or Family(like=parent and parent.family)
        self.family.add(self)
        parent_id: str | None = None
        if parent is not None:
            self.table.announce(parent.table)
            self._declared_role = parent._declared_role
            parent_id = parent.sid if parent.run is run else None
        run.backend.events.emit(StateStarted(sid, run.id, parent_id, index, label))

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that are there, by name."""
        return self.table.values

    @property
    def meta_info(self) -> dict[str, Any]:
        """What the engine said of each generated variable."""
        return self.table.meta_info

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What the program was called with, by name."""
        return self.family.arguments

    @property
    def num_api_spec_tokens(self) -> int | None:
        """See :func:`~sglnb.function`."""
        return self.family.num_api_spec_tokens

    @property
    def stream(self) -> bool:
        """Whether somebody reads the text as it comes."""
        return self.family.stream

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
        if not (self.run.follows or self.images or self.defaults):
            return {}
        out: dict[str, Any] = {"program": self} if self.run.follows else {}
        if self.images:
            out["image_data"] = [placed.image for placed in self.images]
        if "lora" in self.defaults:
            out["lora"] = self.defaults["lora"]
        return out

    def store(self, op: Operation, value: Any, meta_info: Any = None, scores: Any = None) -> None:
        """Set the variable that ``op`` makes, if it has a name, and tell so before anybody can
        read it (under ``lock``)."""
        self.table.store(op, value, meta_info)
        name, run = op.variable, self.run
        if name is not None:
            run.backend.events.emit(VariableSet(self.sid, run.id, name, str(value), scores))

    # -- branches --------------------------------------------------------------------------

    def fork(self, size: int) -> list[StreamExecutor]:
        """``size`` branches that start where the queue now ends. Does not wait for it."""
        with self.lock:
            self._check_open()
            self._forks += 1
            children = [
                self.run.new_executor(
                    branch_defaults(self.defaults, self._forks, i),
                    index=i,
                    parent=self,
                    family=self.family,
                )
                for i in range(size)
            ]
            _, start = self._enqueue([SglFork(size, children)], step=False)
        if self.run.watch is not None:
            self.run.watch.reached(self.sid, "fork", None, caller())
        self.run.backend.events.emit(
            StateForked(run=self.run.id, parent=self.sid, children=[c.sid for c in children])
        )
        if start:
            self._go_on()
        return children

    def branch(self, point: Checkpoint, run: ProgramRun, label: str) -> StreamExecutor:
        """A state like this one was at ``point``, in ``run``."""
        with self.lock:
            self._forks += 1
            child = run.new_executor(
                branch_defaults(self.defaults, self._forks, 0), label=label, parent=self
            )
        if self.run is run:
            run.backend.events.emit(StateForked(run=run.id, parent=self.sid, children=[child.sid]))
        with self.lock, child.lock:
            child.table.announce(self.table)
            child.go_back(point, self)
            child.origin = point
            child.fork_start_text_pos = point.text
            child.adopted = True
            child.role_is_old = child.cur_role is not None
        child._go_on()
        if not run.active:
            child.end()  # nobody else will
        return child

    def go_back(self, point: Checkpoint, source: StreamExecutor | None = None) -> None:
        """Be as ``source``, or this state, was at ``point`` (under both locks)."""
        source = source or self
        self.text_ = source.text_[: point.text]
        self.images = [placed for placed in source.images if placed.stop <= point.text]
        self.messages_ = source.messages_[: point.messages]
        self.cur_role, self.role_start, self.role_suffix = point.role
        self._declared_role = self.cur_role
        self.scopes = point.scopes
        self.table.go_back(point, self.origin)
        self.tip = point
        self.prefilled = min(source.prefilled, point.text)
        self.error_ = None

    def undo(self, n: int) -> bool:
        """Take back the last ``n`` steps; False when something is still going on.

        Raises:
            ValueError: there are fewer.
        """
        with self.lock:
            if self._busy:
                return False
            self.go_back(self.tip.undo(n, self.depth))
            self.fork_start_text_pos = min(self.fork_start_text_pos, len(self.text_))
        self.updated()
        return True

    def adopt(self, parent: StreamExecutor) -> None:
        """Start as a copy of ``parent``, whose queue has come to the fork."""
        with parent.lock, self.lock:
            self.table.adopt(parent.table)
            self.text_ = parent.text_
            self.images = list(parent.images)
            self.messages_ = list(parent.messages_)
            self.cur_role = parent.cur_role
            self.role_start, self.role_suffix = parent.role_start, parent.role_suffix
            self.scopes = parent.scopes
            self.tip = self.origin = parent.tip
            self.adopted = True
            self.prefilled = parent.prefilled
            self.fork_start_text_pos = len(parent.text_)
            if not self._queue:
                self._declared_role = self.cur_role
            self.tell()
        self._go_on()

    def adopt_failure(self, error: GenerationError) -> None:
        """The parent failed before the fork: this branch never starts."""
        with self.lock:
            self.error_ = error
            self.adopted = True
            dropped = list(self._queue)
            self._queue.clear()
            self.table.adopt_failure(error)
        self._drop(dropped, error)
        self._go_on()

    # -- reading ---------------------------------------------------------------------------

    @property
    def in_body(self) -> bool:
        """Whether the code here is part of this state's program."""
        return self in _bodies.get()

    @property
    def body_elsewhere(self) -> bool:
        """Whether the program's body goes on in another thread or task and may append more."""
        return self.body_going and not self.in_body

    @contextmanager
    def body(self) -> Iterator[None]:
        """The program's body is what is done in this block. Readers elsewhere wait for what it
        may still append."""
        token, self.body_going = _bodies.set((*_bodies.get(), self)), True
        try:
            yield
        finally:
            _bodies.reset(token)
            with self.lock:
                self.body_going = False
                self.tell()
            self.updated()

    def start_body(self, work: Callable[[], None], name: str) -> None:
        """Call ``work``, which holds the body and must not raise, in a thread of its own with
        a copy of this context."""

        def body() -> None:
            with self.body():
                work()

        self.body_going = True
        threading.Thread(
            target=contextvars.copy_context().run, args=(body,), name=name, daemon=True
        ).start()

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for ``ready()``; False after ``timeout`` seconds. Ctrl-C stops the run and is
        raised again."""
        try:
            return wait_until(self.cond, ready, timeout)
        except KeyboardInterrupt:
            self.run.abort()
            raise

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
        self.family.ended_one(self)
        self.run.backend.events.emit(StateEnded(self.sid, self.run.id, error))
        self.run.executor_ended(self, error)
