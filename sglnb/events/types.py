"""The event types.

Every event is a plain record of JSON-able values. ``seq`` and ``t`` are filled in by the
log: ``seq`` counts up by one, ``t`` is in seconds on the log's monotonic clock (0 = the
log's creation).

Names that recur: ``rid`` is a request's id, ``state`` a program state's id, ``run`` the id
of one run of a program (a ``%%sgl`` cell), ``node`` a radix-tree node's id (the root is 0).
``pieces`` are the display texts of ``ids``: what a token looks like on its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(slots=True, kw_only=True)
class Event:
    """Base of all events; ``kind`` is the name used in JSON."""

    kind: ClassVar[str] = "event"
    seq: int = -1
    t: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict: ``kind`` and every field by name."""
        out: dict[str, Any] = {"kind": self.kind}
        for field in fields(self):
            out[field.name] = getattr(self, field.name)
        return out


# -- runs and program states ---------------------------------------------------------------


@dataclass(slots=True)
class RunStarted(Event):
    """A program (a ``%%sgl`` cell, ``f.run()``) begins."""

    kind: ClassVar[str] = "run_started"
    run: str
    title: str = ""


@dataclass(slots=True)
class ProgramRead(Event):
    """What the source of a run's program says that it will do. Comes right after RunStarted."""

    kind: ClassVar[str] = "program_read"
    run: str
    graph: dict[str, Any]
    """``nodes`` in the order of the source (fields of :class:`sglnb.language.plan.PlanNode`, those
    that say something) and ``more``, the number of nodes left out."""


@dataclass(slots=True)
class ProgramReached(Event):
    """A state comes to a gen, a select or a fork. The state's next requests (or its next
    StateForked) are of that."""

    kind: ClassVar[str] = "program_reached"
    run: str
    state: str
    node: int | None
    """In :attr:`ProgramRead.graph`; None: the source did not say so."""
    what: str
    """"gen", "select" or "fork"."""
    name: str = ""
    """Of the variable; "" when unnamed."""


@dataclass(slots=True)
class RunEnded(Event):
    """The program is over; ``error`` is "" or one line of text."""

    kind: ClassVar[str] = "run_ended"
    run: str
    error: str = ""


@dataclass(slots=True)
class StateStarted(Event):
    """A program state comes to be: at the start of a run, or as a fork's child."""

    kind: ClassVar[str] = "state_started"
    state: str
    run: str
    parent: str | None = None
    index: int = 0
    """Position among the fork's children (0 for a root state)."""
    label: str = ""


@dataclass(slots=True)
class StateForked(Event):
    """``parent`` was forked into ``children`` (each has its own StateStarted)."""

    kind: ClassVar[str] = "state_forked"
    run: str
    parent: str
    children: list[str]


@dataclass(slots=True)
class StateJoined(Event):
    """``children`` were joined back into ``parent``; ``mode`` as in ``join(mode)``."""

    kind: ClassVar[str] = "state_joined"
    run: str
    parent: str
    children: list[str]
    mode: str


@dataclass(slots=True)
class StateEnded(Event):
    """All operations of the state are done; ``error`` is "" or one line of text."""

    kind: ClassVar[str] = "state_ended"
    state: str
    run: str
    error: str = ""


@dataclass(slots=True)
class VariableSet(Event):
    """A variable got its value. ``text`` is the whole value as text."""

    kind: ClassVar[str] = "variable_set"
    state: str
    run: str
    name: str
    text: str
    choices: list[list[Any]] | None = None
    """For ``select``: ``[choice, normalised logprob]`` per choice, the winner is ``text``."""


# -- requests ------------------------------------------------------------------------------


@dataclass(slots=True)
class RequestArrived(Event):
    """A request enters the engine's queue."""

    kind: ClassVar[str] = "request_arrived"
    rid: str
    run: str
    state: str
    name: str
    """Name of the variable being generated, "" when unnamed."""
    purpose: str
    """"gen", "select" (scoring one choice) or "prefill" (fork hint, cache warm-up)."""
    ids: list[int]
    """Token ids; the positions of an image have negative numbers of their own."""
    pieces: list[str]
    constraint: str = ""
    """Human-readable source of the constraint ("regex: …"), "" when free."""
    max_new_tokens: int = 0
    priority: int = 0
    extra_key: str = ""


@dataclass(slots=True)
class RequestMatched(Event):
    """The prefix lookup at admission: the first ``cached`` prompt tokens have their KV."""

    kind: ClassVar[str] = "request_matched"
    rid: str
    cached: int
    path: list[int]
    """Radix nodes from the top (the root excluded) that hold the cached prefix."""


@dataclass(slots=True)
class RequestScheduled(Event):
    """A prefill chunk: prompt positions ``start``..``end`` are computed in step ``step``."""

    kind: ClassVar[str] = "request_scheduled"
    rid: str
    step: int
    start: int
    end: int


@dataclass(slots=True)
class TokensGenerated(Event):
    """Output tokens of one request, in order. Lists run in parallel, one item a token."""

    kind: ClassVar[str] = "tokens"
    rid: str
    ids: list[int]
    pieces: list[str]
    how: str
    """"sampled", "forced" (written by jump-forward without being sampled), "closing" (written
    because the budget runs out and the constraint has to be met) or "retokenized" (other tokens
    for text that was there)."""
    logprobs: list[float | None]
    """Natural log of the model's probability before temperature and mask; None = unknown."""
    top: list[list[list[Any]]]
    """Per token: ``[piece, id, logprob, allowed]`` of the likeliest tokens, best first."""
    allowed: list[int | None]
    """Number of tokens that the constraint allowed; None = no constraint."""
    mass: list[float | None]
    """Share of probability (0..1) the mask left standing; None = no constraint."""
    entropy: list[float | None] | None = None
    """How open the choice was: the entropy in nats of the model's distribution before temperature
    and mask; None = unknown."""
    replaced: int = 0
    """So many tokens of the request, its last ones, were taken back before these came. They may
    reach into the prompt."""
    fsm_before: int | None = None
    """State of the constraint's automaton before the first token; None = no automaton."""
    fsm_after: list[int] | None = None
    """Its state after each token."""


@dataclass(slots=True)
class RequestFinished(Event):
    """The request left the engine; counts are final."""

    kind: ClassVar[str] = "request_finished"
    rid: str
    reason: str
    """"stop", "length" or "abort"."""
    matched: str = ""
    """The stop string or stop token that ended it."""
    error: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    forced_tokens: int = 0
    closed_by_budget: bool = False
    """Whether the text was brought to its end because ``max_new_tokens`` ran out."""


@dataclass(slots=True)
class RequestRetracted(Event):
    """Memory ran short: the request went back to the queue with its output kept."""

    kind: ClassVar[str] = "request_retracted"
    rid: str


# -- the engine ----------------------------------------------------------------------------


@dataclass(slots=True)
class StepRan(Event):
    """One forward pass: what was in it and how full the pool was after it."""

    kind: ClassVar[str] = "step"
    step: int
    prefill: list[str]
    decode: list[str]
    prefill_tokens: int
    waiting: int
    used_slots: int
    total_slots: int
    seconds: float
    count: int = 1
    """Steps that are told as one here: more in condensed copies of a log. Numbers that are no
    sums are the last step's."""


@dataclass(slots=True)
class Preparing(Event):
    """Something that is done once and takes long begins (``seconds`` is None) or is done:
    kernels are compiled, a step is recorded, a constraint is compiled."""

    kind: ClassVar[str] = "preparing"
    what: str
    seconds: float | None = None
    rid: str = ""
    """The request that waits for it; the others go on. "": all wait. One that is stopped waits
    no more, and no second event says so."""


@dataclass(slots=True)
class ConstraintCompiled(Event):
    """A constraint was built (once per source and tokenizer). ``states`` are those of an
    automaton, None for a grammar or a schema."""

    kind: ClassVar[str] = "constraint_compiled"
    source: str
    states: int | None
    compressed_states: int | None
    seconds: float


@dataclass(slots=True, kw_only=True)
class ConstraintUsed(Event):
    """A run has its first request with this constraint."""

    kind: ClassVar[str] = "constraint_used"
    run: str
    source: str
    """As in :attr:`RequestArrived.constraint`."""
    states: int | None
    """States of the whole automaton; None for a grammar or a schema."""
    graph: dict[str, list[list[Any]]] | None
    """The compressed automaton: ``nodes`` are ``[state, final]``, ``edges`` are ``[source, target,
    label, certain, via]``. The label is a text (``certain`` is 1) or describes a set of characters
    (0); ``via`` are the states drawn into the edge, one after each character but the last. The
    start is state 0. None where there is no automaton, or too large a one."""


# -- the radix tree ------------------------------------------------------------------------


@dataclass(slots=True)
class NodeInserted(Event):
    """A leaf with ``ids`` on its edge was hung under ``parent``."""

    kind: ClassVar[str] = "node_inserted"
    node: int
    parent: int
    ids: list[int]
    pieces: list[str]
    rid: str = ""
    extra_key: str = ""
    """Namespace: texts of different ones share nothing."""


@dataclass(slots=True)
class NodeSplit(Event):
    """``node`` was split at token ``at``: a new node ``upper`` took its place under its
    parent and its first ``at`` tokens; ``node`` keeps the rest, its children and its locks
    (``upper`` starts with the same lock count)."""

    kind: ClassVar[str] = "node_split"
    node: int
    upper: int
    at: int


@dataclass(slots=True)
class NodeHit(Event):
    """A request reused the KV of these nodes (top first)."""

    kind: ClassVar[str] = "node_hit"
    nodes: list[int]
    rid: str


@dataclass(slots=True)
class NodeLocked(Event):
    """The lock count of every node from ``node`` up to the root changed by ``delta``; ``rid``
    is "pin" for a pin."""

    kind: ClassVar[str] = "node_locked"
    node: int
    delta: int
    rid: str


@dataclass(slots=True)
class NodeEvicted(Event):
    """The leaf ``node`` was dropped; ``tokens`` KV slots are free again."""

    kind: ClassVar[str] = "node_evicted"
    node: int
    tokens: int
    why: str = "space"
    """"space" (room for others), "flush", "resize", "release" or "asked" (by cache.evict)."""
    rid: str = ""
    """The request that needed the room."""


@dataclass(slots=True)
class CacheSnapshot(Event):
    """The whole tree at this moment, so that a fold can start here. Parents come first."""

    kind: ClassVar[str] = "cache_snapshot"
    nodes: list[dict[str, Any]]
    """Dicts with node, parent, ids, pieces, locks, pins, hits, last_used (seconds on the
    log's clock) and extra_key."""
    total_slots: int
    used_slots: int


EVENT_TYPES: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, Event) and cls is not Event
}


def event_from_dict(data: dict[str, Any]) -> Event:
    """The event that :meth:`Event.to_dict` made ``data`` from.

    Raises:
        ValueError: ``data["kind"]`` is not an event kind.
    """
    rest = dict(data)
    kind = rest.pop("kind", None)
    if kind not in EVENT_TYPES:
        raise ValueError(f"unknown event kind {kind!r}; known: {sorted(EVENT_TYPES)}")
    return EVENT_TYPES[kind](**rest)
