"""One generation: what the caller holds while the engine works on it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .detokenizer import OutputText
from .pool import SlotTable
from .radix_node import Node
from .report import NOTHING, Report
from .sampling_params import SamplingParams
from .scores import Scores

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .compiling import Ready
    from .constraints import Closer, Constraint, Cursor
    from .image_prompt import PromptImages
    from .lora_batch import Adapter
    from .penalties import TokenCounts

_numbers = itertools.count(1)


class Request:
    """A generation in progress or done.

    The caller reads :attr:`text`, :attr:`output_ids`, :attr:`done`, :attr:`error` and
    :attr:`meta_info` at any time, from any thread. Only the engine's thread writes.
    """

    def __init__(
        self,
        prompt_ids: list[int],
        params: SamplingParams,
        *,
        run: str = "",
        state: str = "",
        name: str = "",
        purpose: str = "gen",
        extra_key: str = "",
        priority: int = 0,
        keys: list[int] | None = None,
        images: PromptImages | None = None,
        lora: Adapter | None = None,
        report: Report = NOTHING,
        pieces: Sequence[str] = (),
        fresh: bool = False,
        on_update: Callable[[Request], None] | None = None,
        abort: Callable[[Request], None] = lambda request: None,
    ):
        self.rid = f"r{next(_numbers)}"
        self.params = params
        self.run, self.state, self.name, self.purpose = run, state, name, purpose
        self.extra_key, self.priority = extra_key, priority
        self.report = report
        self.prompt_len = len(prompt_ids)
        self.arrived = time.monotonic()
        self.error: Exception | None = None
        self._on_update = on_update
        self._abort = abort
        self._finished = threading.Event()
        self._reason: dict[str, Any] | None = None
        self._seconds = 0.0

        # What follows belongs to the engine's thread.
        self.ids = list(prompt_ids)
        """Prompt and output so far."""
        self.keys = self.ids if keys is None else list(keys)
        """What the radix tree knows the tokens by: the ids themselves, unless some positions
        hold more than a token (images)."""
        self.images = images
        """Where the prompt's images are."""
        self.lora = lora
        """The adapter it runs with."""
        self.computed = 0
        """Positions whose KV is in the pool."""
        self.table = SlotTable()
        self.node: Node | None = None
        """The locked tree node; None while waiting."""
        self.shared = 0
        """Leading positions whose slots belong to the tree."""
        self.cached_tokens: int | None = None
        """Prompt tokens found in the cache at first admission."""
        self.constraint: Constraint | None = None
        self.cursor: Cursor | None = None
        """Place in the constraint, None when free."""
        self.closer: Closer | None = None
        """Keeps the constraint's end within the budget; None: the text may be cut."""
        self.closed_by_budget = False
        """Whether the budget took a choice away that the constraint left."""
        self.compiling: Future[Ready] | None = None
        """The constraint, while it is compiled."""
        self.ticket = 0
        """Place among all requests of the scheduler, by arrival."""
        self.level = (0, 0)
        """See :func:`sglnb.runtime.policy.level`."""
        self.forced_tokens = 0
        self.settled = self.prompt_len
        """Tokens that a rewind leaves alone."""
        self.kept = 0
        """Tokens that the last rewind left."""
        self.seed = params.seed
        self.ending: dict[str, Any] | None = None
        """Why the text is complete, while its last forced tokens are still to be scored."""
        self.output = OutputText(
            params.stop_strings, params.stop_regexes, not params.no_stop_trim, fresh
        )
        self.scores = Scores(report, self.prompt_len, pieces)
        self.masses: dict[int, float] = {}
        """Probability that the mask left standing, by the position of the sampled token; kept for
        those who ask for log-probabilities."""
        self.counts: TokenCounts | None = None
        """How often each token occurs; only for penalties."""

    # -- for the caller --------------------------------------------------------------------

    @property
    def text(self) -> str:
        """Text so far: whole characters, the stop string trimmed."""
        return self.output.text

    @property
    def output_ids(self) -> list[int]:
        """Token ids so far, the end-of-text token included."""
        return self.ids[self.prompt_len :]

    @property
    def done(self) -> bool:
        """Whether the generation is over, for whatever reason."""
        return self._finished.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; Ctrl-C gets through. False: ``timeout`` seconds passed first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._finished.wait(0.1 if deadline is None else _slice(deadline)):
            if deadline is not None and time.monotonic() >= deadline:
                return False
        return True

    def result(self, timeout: float | None = None) -> Request:
        """Wait for the end and return the request.

        Raises:
            TimeoutError: not done after ``timeout`` seconds.
            SglError: what made the generation fail. ConstraintError: the text is complete and
                breaks what its constraint could not enforce (``lenient=True``).
        """
        if not self.wait(timeout):
            raise TimeoutError(f"request {self.rid} is not done after {timeout} s")
        if self.error is not None:
            raise self.error
        if self.constraint is not None and self.complete:
            self.constraint.check(self.text)
        return self

    @property
    def complete(self) -> bool:
        """Whether the text ended where its constraint, or the model, let it end: it was not
        cut by its length, a stop string or an abort."""
        reason = self._reason or {}
        if reason.get("type") == "length":
            return self.met
        return reason.get("type") == "stop" and not isinstance(reason.get("matched"), str)

    @property
    def met(self) -> bool:
        """Whether the text may end here by its constraint."""
        return self.cursor is not None and self.cursor.is_final

    def abort(self) -> None:
        """Stop at the next step; the text so far is kept."""
        self._abort(self)

    @property
    def meta_info(self) -> dict[str, Any]:
        """Counts and log-probabilities, with SGLang's names; ``forced_tokens`` and ``seconds``, its
        ``e2e_latency``, are ours. So is ``constraint_met``, of a text with a constraint: False if
        it was cut before it was whole, by its length, a stop string or an abort."""
        seconds = self._seconds or time.monotonic() - self.arrived
        info: dict[str, Any] = {
            "id": self.rid,
            "finish_reason": self._reason,
            "prompt_tokens": self.prompt_len,
            "completion_tokens": len(self.ids) - self.prompt_len,
            "cached_tokens": self.cached_tokens or 0,
            "forced_tokens": self.forced_tokens,
            "closed_by_budget": self.closed_by_budget,
            "e2e_latency": seconds,
            "seconds": seconds,
        }
        if self.cursor is not None:
            info["constraint_met"] = self.met
        if self.report.return_logprob and self.cursor is not None:
            span = range(self.prompt_len, len(self.ids))
            info["output_mask_mass"] = [self.masses.get(at) for at in span]
        return info | self.scores.meta_info(self.ids)

    # -- for the engine --------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Tokens that the next steps have to compute."""
        return len(self.ids) - self.computed

    @property
    def reusable(self) -> int:
        """Leading tokens whose KV is of use when it is cached: not the last one, whose logits
        are needed, nor those from which a log-probability is still to be read."""
        if not self.report.scores:
            return len(self.ids) - 1
        return min(len(self.ids), self.scores.unscored) - 1

    @property
    def in_prompt(self) -> bool:
        """Whether part of the prompt is still to be computed."""
        return self.computed < self.prompt_len

    @property
    def new_tokens(self) -> int:
        """Output tokens so far."""
        return len(self.ids) - self.prompt_len

    @property
    def budget(self) -> int:
        """Output tokens that may still come."""
        if self.ending is not None:
            return 0
        return self.params.max_new_tokens - self.new_tokens

    def constrain(self, constraint: Constraint, closer: Closer | None) -> None:
        """Take a compiled constraint."""
        self.constraint, self.closer, self.cursor = constraint, closer, constraint.start()
        self.compiling = None

    def append(self, token: int) -> None:
        """Add an output token."""
        self.ids.append(token)
        if self.keys is not self.ids:
            self.keys.append(token)

    @property
    def may_heal(self) -> bool:
        """Whether the prompt's last tokens may be replaced by others of the same text."""
        return self.images is None and not self.report.scores and not self.output.fresh

    def take_back(self, keep: int) -> None:
        """Leave only ``keep`` tokens; others will come instead."""
        self.kept = keep
        del self.ids[keep:]
        if self.keys is not self.ids:
            del self.keys[keep:]
        self.prompt_len = min(self.prompt_len, keep)
        self.scores.forget(keep)
        self.masses = {at: mass for at, mass in self.masses.items() if at < keep}
        self.counts = None

    def updated(self) -> None:
        """Tell the caller that there is something new."""
        if self._on_update is not None:
            self._on_update(self)

    def finish(self, reason: dict[str, Any], error: Exception | None = None) -> None:
        """The end. Later calls do nothing."""
        if self.done:
            return
        self._reason, self.error = reason, error
        self._seconds = time.monotonic() - self.arrived
        self.output.finish()
        self.images = self.lora = None  # they are large
        self._finished.set()
        self.updated()

    def __repr__(self) -> str:
        how = "done" if self.done else f"{self.pending} to compute"
        return f"Request({self.rid}, {self.prompt_len}+{self.new_tokens} tokens, {how})"


def _slice(deadline: float) -> float:
    return min(0.1, max(0.0, deadline - time.monotonic()))
