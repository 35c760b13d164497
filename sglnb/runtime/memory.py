"""Who owns which KV slot: the pool, the tree, or a request."""

from __future__ import annotations

from .pool import SlotPool
from .radix import RadixTree
from .request import Request


class MemoryManager:
    """Moves slots between pool, tree and requests; every slot has one owner.

    A request's table row reads, from its first position on::

        |-- shared: slots of the tree, locked --|-- own: computed or about to be --|

    Both parts are whole pages; the tree takes over what is computed up to the last page's end.

    Args:
        pool: the free slots.
        tree: the cached prefixes.
    """

    def __init__(self, pool: SlotPool, tree: RadixTree):
        self.pool, self.tree = pool, tree

    @property
    def available(self) -> int:
        """Slots that are free or can be made free."""
        return self.pool.free_count + self.tree.evictable_size

    def admit(self, request: Request) -> None:
        """Match the request's tokens and lock the path. At least the last token is left to
        compute, and every token whose log-probability is asked for."""
        match = self.tree.find(request.keys, request.reusable, request.extra_key)
        self.tree.lock(match.node, request.rid)
        request.node = match.node
        request.table.extend(match.slots)
        request.shared = request.computed = match.length

    def grow(self, request: Request, n: int) -> None:
        """Give the request slots for its next ``n`` positions, evicting if need be.

        Raises:
            MemoryError: not enough slots even so; the request is unchanged.
        """
        want = request.computed + n - len(request.table)
        if want <= 0:
            return
        if want > self.pool.free_count:
            self.tree.evict(want - self.pool.free_count, rid=request.rid)
        request.table.extend(self.pool.alloc(want, after=request.table.last))

    def share(self, request: Request) -> None:
        """Put the whole pages computed in the tree and use the tree's slots from now on.

        Where the tree has a prefix already (another request was faster), our copy of it is
        freed, and the table is rewritten *before* anyone can be given the freed slots.
        """
        whole = request.computed - request.computed % self.tree.page_size
        if whole <= request.shared:
            return
        keys, slots = request.keys[:whole], request.table.slots[:whole]
        where = {"extra_key": request.extra_key}
        known = self.tree.insert(keys, slots, request.rid, priority=request.priority, **where)
        duplicates = slots[request.shared : known]
        match = self.tree.find(keys, **where)
        if duplicates:
            request.table.rewrite(request.shared, match.slots[request.shared : known])
        self.tree.lock(match.node, request.rid)
        self.tree.unlock(request.node, request.rid)
        request.node, request.shared = match.node, whole
        self.pool.free(duplicates)

    def truncate(self, request: Request, n: int) -> None:
        """Forget what was computed for positions from ``n`` on. Where the tree holds them, it
        keeps them, and the request lets go of that part of its path."""
        if request.node is None or n >= request.computed:
            request.computed = min(request.computed, n)
            return
        page, slots = self.tree.page_size, request.table.slots
        kept = n + -n % page
        if n < request.shared:
            kept = n - n % page
            match = self.tree.find(request.keys[:kept], extra_key=request.extra_key)
            self.tree.lock(match.node, request.rid)
            self.tree.unlock(request.node, request.rid)
            self.pool.free(slots[request.shared :])
            request.node, request.shared = match.node, kept
        else:
            self.pool.free(slots[kept:])
        request.table.clear()
        request.table.extend(slots[:kept])
        request.computed = min(n, kept)

    def release(self, request: Request, keep: bool = True) -> None:
        """The request leaves: its KV goes to the tree (``keep``) or back to the pool."""
        if request.node is None:
            return
        if keep and request.computed:
            self.share(request)
        self.pool.free(request.table.slots[request.shared :])
        self.tree.unlock(request.node, request.rid)
        request.table.clear()
        request.node, request.shared, request.computed = None, 0, 0

    def check(self, holders: list[Request], pins: dict[int, int] | None = None) -> None:
        """Prove that each slot has exactly one owner and each lock a holder.

        Raises:
            RuntimeError: the books are wrong (an engine bug).
        """
        owned: list[int] = list(self.pool.free_slots())
        if len(owned) != self.pool.free_count:
            raise RuntimeError(f"{len(owned)} slots are free, counted {self.pool.free_count}")
        for node in self.tree.nodes():
            owned += node.slots
        users = dict(pins or {})
        for request in holders:
            owned += request.table.slots[request.shared :]
            if request.node.parent is not None:
                users[request.node.id] = users.get(request.node.id, 0) + 1
            path = [slot for node in request.node.path() for slot in node.slots]
            if path[: request.shared] != request.table.slots[: request.shared]:
                raise RuntimeError(f"{request} reads slots that the tree gave up")
        if sorted(owned) != list(range(self.pool.total)):
            raise RuntimeError(
                f"{len(owned)} slots are owned, {len(set(owned))} of them once, "
                f"of {self.pool.total}"
            )
        self.tree.check(users)
