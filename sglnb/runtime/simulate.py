"""``sgl.simulate``: what would have happened under another policy, eviction or pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..events import Event, EventLog
from .arguments import at_least_one, one_of
from .compare import Comparison
from .eviction import EVICTIONS
from .policy import POLICIES
from .replay import Cost, Replay
from .tokenizer import Tokenizer
from .trace import TraceRequest, as_trace, optimal_hit_rate

if TYPE_CHECKING:
    import pandas


def simulate(
    trace: Iterable[Any],
    policy: str = "lpm",
    eviction: str = "lru",
    *,
    kv_tokens: int = 65_536,
    page_size: int = 1,
    max_running: int = 64,
    chunk_tokens: int = 512,
    seed: int = 0,
    cost: Cost | None = None,
    tokenizer: Tokenizer | None = None,
) -> Simulation:
    """What would have happened: ``trace`` under another policy, eviction or pool.

    Time is simulated: a step takes ``cost.step`` seconds and ``cost.token`` for each token it
    computes. What depends on text (stop strings, constraints) is part of the trace.

    Args:
        trace: a list of :class:`TraceRequest`, of dicts with the names of its fields or of
            prompts; or a recording, such as ``engine.events``.
        policy, eviction, kv_tokens, page_size, max_running, chunk_tokens: as the engine's.
        seed: of the "random" policy.
        cost: default: fitted to the recording's own steps, or 5 ms a step and 0.5 ms a token.
        tokenizer: for prompts that are text, and for the display of tokens.

    Raises:
        ValueError: an argument is wrong, or a prompt does not fit in ``kv_tokens``.
    """
    one_of("policy", policy, tuple(POLICIES))
    one_of("eviction", eviction, tuple(EVICTIONS))
    one_of("page_size", page_size, (1, 16))
    for name, value in (
        ("kv_tokens", kv_tokens),
        ("max_running", max_running),
        ("chunk_tokens", chunk_tokens),
    ):
        at_least_one(name, value)
    items = list(trace)
    requests = as_trace(items, tokenizer)
    for at, request in enumerate(requests):
        if len(request.prompt) > kv_tokens:
            raise ValueError(
                f"kv_tokens: {kv_tokens} is too small for trace[{at}], "
                f"whose prompt has {len(request.prompt)} tokens"
            )
    recorded = items if items and isinstance(items[0], Event) else []
    replay = Replay(
        requests,
        policy,
        eviction,
        kv_tokens=kv_tokens + -kv_tokens % page_size,
        page_size=page_size,
        max_running=max_running,
        chunk_tokens=chunk_tokens,
        seed=seed,
        cost=cost or Cost.fit(recorded),
        pieces=_pieces(recorded, tokenizer),
    )
    while replay.step():
        pass
    return Simulation(policy, eviction, page_size, requests, replay)


def _pieces(recorded: list[Event], tokenizer: Tokenizer | None) -> Callable[[list[int]], list[str]]:
    """Display texts: the recording's own, the tokenizer's, or the ids."""
    known: dict[int, str] = {}
    if tokenizer is not None:
        known = dict(enumerate(tokenizer.pieces))
    for event in recorded:
        if event.kind in ("request_arrived", "tokens", "node_inserted"):
            known.update(zip(event.ids, event.pieces, strict=True))
    return lambda ids: [known.get(i) or (str(i) if i >= 0 else "·") for i in ids]


@dataclass(frozen=True, repr=False)
class Simulation:
    """Result of :func:`simulate`."""

    policy: str
    eviction: str
    page_size: int
    trace: list[TraceRequest]
    _replay: Replay

    @property
    def events(self) -> EventLog:
        """What happened, as an engine tells it; every view takes it."""
        return self._replay.events

    @property
    def steps(self) -> int:
        """Forward passes."""
        return self._replay.journal.steps

    @property
    def seconds(self) -> float:
        """Simulated time from the first arrival to the end."""
        return self._replay.now - min((f["arrived"] for f in self._replay.facts), default=0.0)

    @property
    def computed_tokens(self) -> int:
        """Tokens that went through the model, those computed twice counted twice."""
        return self._replay.computed

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(len(request.prompt) for request in self.trace)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens found in the cache at first admission."""
        return sum(facts["cached_tokens"] for facts in self._replay.facts)

    @property
    def hit_rate(self) -> float:
        """Cached share of the prompt tokens."""
        return self.cached_tokens / max(1, self.prompt_tokens)

    @property
    def optimal_hit_rate(self) -> float:
        """What the best order could reach: see :func:`optimal_hit_rate`."""
        return optimal_hit_rate(self.trace, page_size=self.page_size)

    @property
    def retractions(self) -> int:
        """How often a running request was sent back to the queue."""
        return self._replay.journal.totals["retractions"]

    @property
    def evicted_tokens(self) -> int:
        """Tokens that the cache gave up for others."""
        return sum(event.tokens for event in self.events if event.kind == "node_evicted")

    def to_frame(self) -> pandas.DataFrame:
        """One row a request, in the trace's order: times in simulated seconds (``arrived``,
        ``admitted``, ``first_token``, ``finished``), ``wait`` (arrived to admitted),
        ``rounds_waited`` (rounds in which others were admitted), token counts, retractions,
        reason."""
        import pandas

        frame = pandas.DataFrame(self._replay.facts)
        frame.insert(0, "request", [f"t{at}" for at in range(len(frame))])
        if len(frame):
            frame.insert(4, "wait", frame["admitted"].astype(float) - frame["arrived"])
        return frame

    @property
    def kv_tokens(self) -> int:
        """Size of the pool."""
        return self._replay.memory.pool.total

    @property
    def name(self) -> str:
        """Policy and eviction."""
        return f"{self.policy}/{self.eviction}"

    def compare(self, other: Simulation) -> Comparison:
        """This simulation beside another one of the same trace: both schedules on one axis, and
        the difference in seconds and hit rate in words.

        Raises:
            ValueError: the traces differ.
        """
        return Comparison(self, other)

    def to_html(self) -> str:
        """The views of what happened as one self-contained page; needs no network."""
        from ..viz.schedule_export import simulation_page

        return simulation_page(self.name, self.events)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from ..viz.schedule_export import simulation_html

        words = f"hit rate {self.hit_rate:.1%} of at most {self.optimal_hit_rate:.1%}"
        html = simulation_html(self.name, words, self.events)
        return {"text/plain": repr(self), "text/html": html}

    def __repr__(self) -> str:
        return (
            f"Simulation({self.policy}, {self.eviction}: {len(self.trace)} requests, hit rate "
            f"{self.hit_rate:.1%} of at most {self.optimal_hit_rate:.1%}, {self.steps:,} steps, "
            f"{self.computed_tokens:,} tokens computed, {self.retractions} retractions, "
            f"{self.evicted_tokens:,} tokens evicted, {self.seconds:.2f} s)"
        )
