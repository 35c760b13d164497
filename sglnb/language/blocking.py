"""Backends whose methods block, as programs need them: calls go to a few worker threads."""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import RequestAborted
from ..events import EventLog
from .backend import Dispatcher
from .choices import ChoicesDecision, ChoicesSamplingMethod
from .errors import one_line
from .program_view import ProgramView, view_of
from .role_template import Around
from .sgl_params import SglSamplingParams

if TYPE_CHECKING:
    from .executor import StreamExecutor

MAX_THREADS = 32


class BlockingRequest:
    """One call of a backend's method.

    Attributes:
        decision: of a ``select``, once it is done.
    """

    def __init__(self, rid: str, run: str, on_update: Callable[[BlockingRequest], None] | None):
        self.rid, self.run = rid, run
        self.text = ""
        self.done = False
        self.error: Exception | None = None
        self.decision: ChoicesDecision | None = None
        self.meta_info: dict[str, Any] = {"id": rid, "finish_reason": None}
        self._on_update = on_update
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def abort(self) -> None:
        """End it now; what the call still brings is thrown away."""
        self.finish(RequestAborted("the request was aborted"))

    def say(self, piece: str, meta_info: dict[str, Any] | None) -> bool:
        """More text. False: nobody wants it any more."""
        with self._lock:
            if self.done:
                return False
            self.text += piece
            self.meta_info = {**self.meta_info, **(meta_info or {})}
        self._tell()
        return True

    def finish(self, error: Exception | None = None) -> None:
        """The end, once."""
        with self._lock:
            if self.done:
                return
            self.error = error
            seconds = time.monotonic() - self._began
            info = {"e2e_latency": seconds, "seconds": seconds, **self.meta_info}
            if isinstance(error, RequestAborted):
                info["finish_reason"] = {"type": "abort"}
            self.meta_info = info
            self.done = True
        self._tell()

    def _tell(self) -> None:
        if self._on_update is not None:
            self._on_update(self)


class BlockingBackend:
    """A :class:`~sglnb.language.base_backend.BaseBackend` (or a class like it) that takes requests
    as the engine does.

    A request that is stopped ends at once. A call that blocks in ``generate`` cannot be broken off
    and keeps its thread until it returns; a stream is closed at its next piece.
    """

    tokenizer = None
    needs_program = True

    def __init__(self, backend: Any):
        self.backend = backend
        self.events = EventLog()
        chat_template = backend.get_chat_template()
        self.template = Around(chat_template)
        self.image_text = getattr(chat_template, "image_token", "")
        self._chat_template = chat_template
        most = getattr(backend, "max_threads", MAX_THREADS)
        self._workers = Dispatcher(most, name="sglnb-backend")
        self._open: set[BlockingRequest] = set()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    @property
    def model_name(self) -> str:
        """The backend's own name for its model."""
        try:
            return str(self.backend.get_model_name())
        except NotImplementedError:
            return type(self.backend).__name__

    # -- requests ------------------------------------------------------------------------------

    def submit(
        self,
        prompt: str,
        params: dict[str, Any],
        *,
        program: StreamExecutor | None = None,
        dtype: str | None = None,
        run: str = "",
        state: str = "",
        name: str = "",
        purpose: str = "gen",
        on_update: Callable[[BlockingRequest], None] | None = None,
        image_data: Any = None,
        **report: Any,
    ) -> BlockingRequest:
        """Call ``generate``, or for a hint ``commit_lazy_operations`` or ``cache_prefix``."""
        request, view = self._request(run, on_update), self._view(program, prompt)
        if purpose == "prefill":
            backend = self.backend
            if program is None:
                return self._post(request, lambda: backend.cache_prefix(prompt))
            return self._post(request, lambda: backend.commit_lazy_operations(view))
        given = {**params, **report, "dtype": dtype}
        if dtype is not None:  # the backend makes what it can of the type
            given.pop("regex", None)
        sampling_params = SglSamplingParams.of(given)
        return self._post(request, lambda: self._generate(request, view, sampling_params))

    def select(
        self,
        prompt: str,
        choices: list[str],
        temperature: float,
        choices_method: ChoicesSamplingMethod,
        *,
        program: StreamExecutor | None = None,
        run: str = "",
        on_update: Callable[[BlockingRequest], None] | None = None,
    ) -> BlockingRequest:
        """Call ``select``."""
        request, view = self._request(run, on_update), self._view(program, prompt)

        def choose() -> None:
            request.decision = self.backend.select(view, list(choices), temperature, choices_method)

        return self._post(request, choose)

    def abort(self, rid: str | None = None, run: str | None = None) -> None:
        """Abort one request, those of a run, or all."""
        with self._lock:
            requests = list(self._open)
        for request in requests:
            if (rid is None or request.rid == rid) and (run is None or request.run == run):
                request.abort()

    def _request(self, run: str, on_update: Any) -> BlockingRequest:
        request = BlockingRequest(f"b{next(self._numbers)}", run, on_update)
        with self._lock:
            self._open.add(request)
        return request

    def _view(self, program: StreamExecutor | None, prompt: str) -> ProgramView:
        if program is None:
            return ProgramView(
                text_=prompt, chat_template=self._chat_template, backend=self.backend
            )
        return view_of(program, self.backend, self._chat_template)

    def _post(self, request: BlockingRequest, call: Callable[[], None]) -> BlockingRequest:
        def work() -> None:
            error: Exception | None = None
            try:
                if not request.done:
                    call()
            except Exception as problem:  # recorded: raised where the variable is read
                error = problem
            with self._lock:
                self._open.discard(request)
            request.finish(error)

        self._workers.post(work)
        return request

    def _generate(
        self, request: BlockingRequest, view: ProgramView, params: SglSamplingParams
    ) -> None:
        if view.stream and hasattr(self.backend, "generate_stream"):
            try:
                return self._stream(request, self.backend.generate_stream(view, params))
            except NotImplementedError:
                if request.text:
                    raise
        text, meta_info = self.backend.generate(view, params)
        request.say(text[0] if isinstance(text, list) else text, meta_info)

    def _stream(self, request: BlockingRequest, pieces: Any) -> None:
        try:
            for piece, meta_info in pieces:
                if not request.say(piece, meta_info):
                    return
        finally:
            if hasattr(pieces, "close"):  # a generator: give up its connection now
                pieces.close()

    # -- states --------------------------------------------------------------------------------

    def state_began(self, program: StreamExecutor) -> None:
        """Call ``begin_program``, on this thread: requests come after it."""
        if hasattr(self.backend, "begin_program"):
            self.backend.begin_program(self._view(program, ""))

    def state_ended(self, program: StreamExecutor) -> None:
        """Call ``end_program`` soon. Nobody waits for it: what it raises is a warning."""
        view = self._view(program, "")

        def end() -> None:
            try:
                self.backend.end_program(view)
            except Exception as problem:  # told, and the thread goes on
                warnings.warn(f"end_program failed: {one_line(problem)}", stacklevel=1)

        if hasattr(self.backend, "end_program"):
            self._workers.post(end)

    def flush_cache(self) -> Any:
        """The backend's."""
        return self.backend.flush_cache()

    def get_server_info(self) -> Any:
        """The backend's."""
        return self.backend.get_server_info()
