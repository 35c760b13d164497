"""A decode step that the device takes before its tokens are known here.

Between two decode steps the engine's thread has much to do: text, constraints, events, streams.
None of it changes which positions come next, as a rule: each running request goes on with the
token that was just drawn. So the next step is started with tokens that only the device knows yet,
and while it computes, the thread sees to the last one. (NanoFlow, Zhu et al. 2024; SGLang's
zero-overhead scheduler.)

Where the rule does not hold, nothing breaks. A request that ended leaves a row that nobody reads.
One whose constraint forces text behind the token has that token's KV already and goes on with the
rest. One that got another token than was drawn is computed again.
"""

from __future__ import annotations

from .graphs import Replayed
from .request import Request


class Flight:
    """One such step.

    Args:
        requests: those that go on, each with all its tokens computed but the one just drawn.
        step: that the device is at, a row for each of them.
    """

    def __init__(self, requests: list[Request], step: Replayed):
        self.step = step
        self._rows = [(r, r.computed, r.table.slots[r.computed]) for r in requests]

    def land(self, tokens: dict[Request, int]) -> list[tuple[Request, int]]:
        """Count what was computed.

        Args:
            tokens: that were drawn, by request.

        Returns:
            The requests whose next token is to be drawn now, each with its row of the step.
        """
        out = []
        for row, (request, at, slot) in enumerate(self._rows):
            if (
                request.done
                or request.node is None
                or request.computed != at
                or request.ids[at : at + 1] != [tokens.get(request)]
                or request.table.slots[at] != slot
                # Scores of forced tokens are read from the logits before them.
                or (request.report.scores and request.pending > 1)
                or request.budget <= 0
            ):
                continue
            request.computed += 1
            if request.pending == 0:
                out.append((request, row))
        return out
