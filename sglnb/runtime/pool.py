"""Which KV slots are free: a pure allocator over the slots 0..total-1.

Attention reads a contiguous run of slots as a plain view, without gathering it first. So the
allocator keeps runs long: a request's next slots follow its last one whenever they are free,
and a new request starts in the middle of the largest gap, where there is room to grow.
Slots are given out in whole pages; a page's slots follow one another.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import heapify, heappop, heappush


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
        self._largest: list[tuple[int, int]] = [(-total, 0)]
        """Heap of (-length, start) of the gaps; entries of gaps that have changed are void."""

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
            start, stop = self._largest_gap()
            middle = (start + stop) // 2
            middle -= middle % self.page_size
            # Only a gap with plenty of room is split; otherwise fill it from its start.
            out += self._take(start, middle if stop - middle >= 4 * want else start, want)
        return out

    def _largest_gap(self) -> tuple[int, int]:
        while True:
            length, start = self._largest[0]
            if self._stop.get(start) == start - length:
                return start, start - length
            heappop(self._largest)

    def _set_gap(self, start: int, stop: int) -> None:
        self._stop[start] = stop
        heappush(self._largest, (start - stop, start))
        if len(self._largest) > 64 + 4 * len(self._stop):
            self._largest = [(start - stop, start) for start, stop in self._stop.items()]
            heapify(self._largest)

    def _take(self, start: int, at: int, n: int) -> range:
        """Take up to ``n`` slots from ``at`` on, out of the gap that begins at ``start``."""
        stop = self._stop.pop(start)
        end = min(stop, at + n)
        i = bisect_right(self._starts, start)
        if at > start:
            self._set_gap(start, at)
            if end < stop:
                self._starts.insert(i, end)
        elif end < stop:
            self._starts[i - 1] = end
        else:
            self._starts.pop(i - 1)
        if end < stop:
            self._set_gap(end, stop)
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
            self._set_gap(before, stop)
        else:
            self._set_gap(start, stop)
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
    """``slots`` as half-open runs of consecutive numbers: [4, 5, 9] -> [(4, 6), (9, 10)].

    Runs are long as a rule: their ends are looked for in strides that double while they fit,
    each compared at once."""
    out: list[tuple[int, int]] = []
    at = 0
    while at < len(slots):
        start, length, stride = slots[at], 1, 1
        while stride:
            ahead = slots[at + length : at + length + stride]
            if ahead and ahead == list(range(start + length, start + length + len(ahead))):
                length += len(ahead)
                stride *= 2
            else:
                stride //= 2
        out.append((start, start + length))
        at += length
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

    def rewrite(self, start: int, slots: list[int]) -> None:
        """Replace the slots from position ``start`` on: the tree holds another copy of them."""
        slots = self.slots[:start] + slots + self.slots[start + len(slots) :]
        self.slots, self.runs = [], []
        self.extend(slots)

    def clear(self) -> None:
        """Forget all positions."""
        self.slots, self.runs = [], []
