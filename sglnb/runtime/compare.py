"""Two simulations of one trace beside each other: what another policy would have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .simulate import Simulation


class Comparison:
    """Result of :meth:`.Simulation.compare`.

    Attributes:
        ours, other: the simulations.

    Raises:
        ValueError: they are of different traces.
    """

    def __init__(self, ours: Simulation, other: Simulation):
        if ours.trace != other.trace:
            raise ValueError(
                f"compare: the two simulations are of different traces ({len(ours.trace)} and "
                f"{len(other.trace)} requests); simulate the same trace twice"
            )
        self.ours, self.other = ours, other

    @property
    def seconds(self) -> float:
        """Simulated seconds that ours takes longer; below zero, it is faster."""
        return self.ours.seconds - self.other.seconds

    @property
    def hit_rate(self) -> float:
        """By how much our hit rate is higher, 0.1 = ten points."""
        return self.ours.hit_rate - self.other.hit_rate

    @property
    def words(self) -> list[str]:
        """The difference in plain sentences."""
        ours, other = self.ours, self.other
        a, b = self._names()
        if abs(self.seconds) < 0.0005:
            words = [f"{a} and {b} take the same {ours.seconds:.2f} s."]
        else:
            fast, slow = (ours, other) if self.seconds < 0 else (other, ours)
            names = (a, b) if self.seconds < 0 else (b, a)
            spared = slow.seconds - fast.seconds
            words = [
                f"{names[0]} is {spared:.2f} s faster than {names[1]}: {fast.seconds:.2f} s "
                f"against {slow.seconds:.2f} s, {spared / slow.seconds:.0%} less."
            ]
        computed = ours.computed_tokens - other.computed_tokens
        less = f"{abs(computed):,} tokens {'more' if computed > 0 else 'fewer'}"
        words.append(
            f"{a} finds {ours.hit_rate:.1%} of the prompt tokens in the cache, {b} "
            f"{other.hit_rate:.1%}; at most {ours.optimal_hit_rate:.1%} were possible. "
            f"{a} computes {less if computed else 'as many tokens'}."
        )
        words.append(
            f"Sent back to the queue: {ours.retractions:,} against {other.retractions:,}; tokens "
            f"evicted: {ours.evicted_tokens:,} against {other.evicted_tokens:,}."
        )
        return words

    def to_html(self) -> str:
        """Both schedules on one axis of time, as one self-contained page."""
        from ..viz.schedule_export import comparison_page

        return comparison_page(self.words, self._named())

    def __repr__(self) -> str:
        return "\n".join(self.words)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from ..viz.schedule_export import comparison_html

        return {"text/plain": repr(self), "text/html": comparison_html(self.words, self._named())}

    def _named(self) -> list[tuple[str, Any]]:
        return list(zip(self._names(), (self.ours.events, self.other.events), strict=True))

    def _names(self) -> tuple[str, str]:
        """By what tells them apart: policy, eviction, else the pool's size."""
        both = self.ours, self.other
        names = [
            tuple(s.policy for s in both) if self.ours.eviction == self.other.eviction else (),
            tuple(s.eviction for s in both) if self.ours.policy == self.other.policy else (),
            tuple(s.name for s in both),
            tuple(f"{s.kv_tokens:,} tokens of KV" for s in both),
        ]
        return next((n for n in names if n and n[0] != n[1]), ("this one", "the other"))
