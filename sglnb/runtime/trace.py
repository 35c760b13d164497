"""Traces: what was asked of an engine and when, and the best that any schedule can make of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..events import Event
from .tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a trace."""

    prompt: str | Sequence[int]
    """Token ids, or text (then a tokenizer is needed)."""
    output: int | Sequence[int] = 16
    """The tokens that the model will answer, or only how many: they are like no other then."""
    arrival: float = 0.0
    """Seconds from the start; after the end of the request ``after`` if there is one."""
    after: int | None = None
    """Index in the trace of the request that must be over first: a chat's previous turn."""
    max_new_tokens: int | None = None
    """The caller's limit, which the scheduler knows; default: the output's length."""
    priority: int = 0
    extra_key: str = ""
    forced: frozenset[int] = frozenset()
    """Positions in the output that were not sampled but forced (jump-forward)."""
    run: str = "simulation"
    state: str = ""
    parent: str | None = None
    """The state that ``state`` was forked from."""
    name: str = ""
    purpose: str = "gen"

    @property
    def output_length(self) -> int:
        """Tokens of output."""
        return self.output if isinstance(self.output, int) else len(self.output)


def as_trace(trace: Iterable[Any], tokenizer: Tokenizer | None = None) -> list[TraceRequest]:
    """``trace`` as a list of requests with token ids.

    Args:
        trace: :class:`TraceRequest` objects, dicts with the names of their fields, bare
            prompts, or the events of a recording (an ``EventLog``).
        tokenizer: for prompts that are text.

    Raises:
        ValueError: an item is none of these, or says something impossible.
    """
    items = list(trace)
    if items and all(isinstance(item, Event) for item in items):
        return from_events(items)
    return [_request(item, at, tokenizer) for at, item in enumerate(items)]


def _request(item: Any, at: int, tokenizer: Tokenizer | None) -> TraceRequest:
    known = {field.name for field in fields(TraceRequest)}
    if isinstance(item, TraceRequest):
        values = {name: getattr(item, name) for name in known}
    elif isinstance(item, Mapping):
        values = dict(item)
    else:
        values = {"prompt": item}
    if wrong := sorted(set(values) - known):
        raise ValueError(
            f"trace[{at}]: unknown field {wrong[0]!r}; known: {', '.join(sorted(known))}"
        )
    prompt = values.get("prompt")
    if isinstance(prompt, str):
        if tokenizer is None:
            raise ValueError(
                f"trace[{at}]: its prompt is text; give tokenizer=engine.tokenizer, or token ids"
            )
        prompt = tokenizer.encode(prompt)
    if not isinstance(prompt, Sequence) or not prompt:
        raise ValueError(f"trace[{at}]: prompt must be text or token ids, got {prompt!r}")
    out = TraceRequest(**values | {"prompt": list(prompt)})
    if out.after is not None and not 0 <= out.after < at:
        raise ValueError(f"trace[{at}]: after must be the index of an earlier request")
    if out.output_length < 0 or out.arrival < 0:
        raise ValueError(f"trace[{at}]: output and arrival must not be negative")
    return out


def from_events(events: Iterable[Event]) -> list[TraceRequest]:
    """The requests of a recording, as they came.

    A request depends on its state's previous one (a fork's child: on its parent's) if that was
    over when it came; what the program did in between takes as long as it took. Anything else
    comes at its recorded time.
    """
    arrived: dict[str, Any] = {}
    prompts: dict[str, list[int]] = {}
    outputs: dict[str, list[int]] = {}
    forced: dict[str, set[int]] = {}
    ended: dict[str, float] = {}
    parents: dict[str, str | None] = {}
    latest: dict[str, str] = {}  # by state, the request that was last to come
    before: dict[str, str | None] = {}
    for event in events:
        if event.kind == "state_started":
            parents[event.state] = event.parent
        elif event.kind == "request_arrived":
            arrived[event.rid] = event
            prompts[event.rid] = list(event.ids)
            outputs[event.rid], forced[event.rid] = [], set()
            state: str | None = event.state
            while state and state not in latest:  # a fork's child begins where its parent was
                state = parents.get(state)
            previous = latest[state] if state else None
            before[event.rid] = previous if previous in ended else None
            if event.state:
                latest[event.state] = event.rid
        elif event.kind == "tokens" and event.rid in arrived:
            output = outputs[event.rid]
            if event.replaced:
                healed = event.replaced - len(output)
                if healed > 0:
                    del prompts[event.rid][-healed:]
                del output[-event.replaced :]
                forced[event.rid] = {at for at in forced[event.rid] if at < len(output)}
            if event.how == "forced":
                forced[event.rid].update(range(len(output), len(output) + len(event.ids)))
            output += event.ids
        elif event.kind == "request_finished":
            ended[event.rid] = event.t
    index = {rid: at for at, rid in enumerate(arrived)}
    start = min((event.t for event in arrived.values()), default=0.0)
    return [
        TraceRequest(
            prompt=prompts[rid],
            output=outputs[rid],
            arrival=event.t - ended[before[rid]] if before[rid] else event.t - start,
            after=index[before[rid]] if before[rid] else None,
            max_new_tokens=max(event.max_new_tokens, len(outputs[rid])),
            priority=event.priority,
            extra_key=event.extra_key,
            forced=frozenset(forced[rid]),
            run=event.run,
            state=event.state,
            parent=parents.get(event.state),
            name=event.name,
            purpose=event.purpose,
        )
        for rid, event in arrived.items()
    ]


def optimal_hit_rate(
    trace: Iterable[Any], *, page_size: int = 1, tokenizer: Tokenizer | None = None
) -> float:
    """The share of prompt tokens that the best order finds in the cache.

    Each edge of the trace's radix tree has to be computed once, by the first request that
    needs it, and once is enough if requests are served depth first and the cache holds the
    longest of them (SGLang paper, theorem 3.1). What a request computes besides its lookup
    costs nothing extra: its last prompt token, which is always computed, and its output. No
    schedule does better. A small cache may not reach it where requests depend on one another
    (``after``) or go on from one another's output.

    Args:
        trace: see :func:`as_trace`.
        page_size: as the engine's; lookups match whole pages.
        tokenizer: for prompts that are text.
    """
    number: dict[tuple[Any, ...], int] = {}  # each page of the tree, by its parent and its keys
    looked_up: set[int] = set()
    computed_anyway: set[int] = set()
    total = wanted = 0
    for request in as_trace(trace, tokenizer):
        ids = list(request.prompt)
        total += len(ids)
        reusable = (len(ids) - 1) // page_size
        wanted += reusable
        if not isinstance(request.output, int):
            ids += request.output[:-1]  # the last token's KV is never needed
        page: Any = request.extra_key
        for at in range(len(ids) // page_size):
            key = (page, *ids[at * page_size : (at + 1) * page_size])
            page = number.setdefault(key, len(number))
            (looked_up if at < reusable else computed_anyway).add(page)
    return page_size * (wanted - len(looked_up - computed_anyway)) / max(1, total)
