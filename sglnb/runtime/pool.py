"""Which KV slots are free: a pure allocator over the slots 0..total-1.

Attention reads a contiguous run of slots as a plain view, without gathering it first. So the
allocator keeps runs long: a request's next slots follow its last one whenever they are free,
and a new request starts in the middle of the largest gap, where there is room to grow.
Slots are given out in whole pages; a page's slots follow one another.
"""

from __future__ import annotations

from bisect import bisect_right, insort


class SlotPool:
    """Free slots, kept as sorted disjoint intervals.

    Args:
        total: number of slots (KV capacity in tokens), a multiple of ``page_size``.
        page_size: slots that are given out and taken back together.
    """

    def __init__(self, total: int, page_size: int = 1):
        if total < 1 or total % page_size:
            raise ValueError(f"total: must be whole pages of {page_size} slots, got {total}")
        self.total = total
        self.page_size = page_size
        self.free_count = total
        self._starts = [0]
        self._stop = {0: total}

    def alloc(self, n: int, after: int = -1) -> list[int]:
        """Take ``n`` slots, rounded up to whole pages; those right behind slot ``after``, the
        end of a page, first.

        Raises:
            MemoryError: fewer than ``n`` are free; nothing is taken then.
        """
        n += -n % self.page_size
        if n > self.free_count:
            raise MemoryError(f"{n} KV slots asked for, {self.free_count} free")
        out: list[int] = []
        if after >= 0 and after + 1 in self._stop:
            out += self._take(after + 1, after + 1, n)
        while len(out) < n:
            want = n - len(out)
            start, stop = max(self._stop.items(), key=lambda gap: gap[1] - gap[0])
            middle = (start + stop) // 2
            middle -= middle % self.page_size
            # Only a gap with plenty of room is split; otherwise fill it from its start.
            out += self._take(start, middle if stop - middle >= 4 * want else start, want)
        return out

    def _take(self, start: int, at: int, n: int) -> range:
        """Take up to ``n`` slots from ``at`` on, out of the gap that begins at ``start``."""
        stop = self._stop.pop(start)
        end = min(stop, at + n)
        if at > start:
            self._stop[start] = at
        else:
            self._starts.pop(bisect_right(self._starts, start) - 1)
        if end < stop:
            self._stop[end] = stop
            insort(self._starts, end)
        self.free_count -= end - at
        return range(at, end)

    def free(self, slots: list[int]) -> None:
        """Give slots back.

        Raises:
            RuntimeError: a slot is free already or out of range (an engine bug).
        """
        for start, stop in runs_of(sorted(slots)):
            self._give(start, stop)

    def _give(self, start: int, stop: int) -> None:
        i = bisect_right(self._starts, start) - 1
        before = self._starts[i] if i >= 0 else None
        behind = self._starts[i + 1] if i + 1 < len(self._starts) else self.total
        if start < 0 or stop > behind or (before is not None and self._stop[before] > start):
            raise RuntimeError(f"slots {start}..{stop - 1} are free already or out of range")
        self.free_count += stop - start
        if stop in self._stop:  # joins the gap behind it
            stop = self._stop.pop(stop)
            self._starts.pop(i + 1)
        if before is not None and self._stop[before] == start:  # joins the gap before it
            self._stop[before] = stop
        else:
            self._stop[start] = stop
            self._starts.insert(i + 1, start)

    def restart(self, total: int, used: int) -> None:
        """Begin anew with ``total`` slots, of which the first ``used`` are taken."""
        self.__init__(total, self.page_size)
        if used:
            self._take(0, 0, used)

    def free_slots(self) -> set[int]:
        """All free slots; for checks."""
        return {slot for start, stop in self._stop.items() for slot in range(start, stop)}


def runs_of(slots: list[int]) -> list[tuple[int, int]]:
    """``slots`` as half-open runs of consecutive numbers: [4, 5, 9] -> [(4, 6), (9, 10)]."""
    out: list[tuple[int, int]] = []
    for slot in slots:
        if out and out[-1][1] == slot:
            out[-1] = (out[-1][0], slot + 1)
        else:
            out.append((slot, slot + 1))
    return out


class SlotTable:
    """One request's page-table row: the slot of each position, and the same as runs."""

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.runs: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def last(self) -> int:
        """Slot of the newest position, -1 when empty."""
        return self.slots[-1] if self.slots else -1

    def extend(self, slots: list[int]) -> None:
        """Append slots at the next positions."""
        self.slots += slots
        for start, stop in runs_of(slots):
            if self.runs and self.runs[-1][1] == start:
                self.runs[-1] = (self.runs[-1][0], stop)
            else:
                self.runs.append((start, stop))

    def rewrite(self, slots: list[int]) -> None:
        """Replace the first ``len(slots)`` positions: the tree holds another copy of them."""
        rest = self.slots[len(slots) :]
        self.slots, self.runs = [], []
        self.extend(list(slots) + rest)

    def truncate(self, n: int) -> list[int]:
        """Keep the first ``n`` positions; returns the slots that were dropped."""
        dropped = self.slots[n:]
        kept = self.slots[:n]
        self.slots, self.runs = [], []
        self.extend(kept)
        return dropped
