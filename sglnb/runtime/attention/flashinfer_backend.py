"""Attention by FlashInfer's paged kernels over the pool, in half precision on a GPU.

The tables of a step are built once; a kernel is planned once for each kind of layer (heads, scale,
window, cap) and run in every layer of that kind. Rows that begin with the same KV read it once:
one run over the shared part, one over what each row has of its own, merged by their log-sum-exp.

The library compiles its kernels when they are first asked for, a minute for each head size, and
keeps them on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from ..kv_cache import KVCache
from ..progress import Progress
from ..transfer import send
from .base import RecordableAttention, Row, Scoring
from .cascade import Group, find_groups
from .tables import TableBuilder, Tables, clip

WORKSPACE = 256 * 2**20
"""Bytes for partial results of split rows; the library asks for 128 MB and more for many heads."""

HEAD_SIZES = (64, 128, 256)
DTYPES = (torch.float16, torch.bfloat16)

SAVED = 128 * 2**20
"""Bytes of KV in one layer that make a group (see ``least``). On an H200, 32 rows behind 4,000
tokens: a recorded step of 1.42 ms without cascade and 1.58 with it where that saves 63 MB (2 key
heads of 64), 1.84 and 1.58 at 254 MB (8 of 64), 6.68 and 5.75 at 508 MB (8 of 128). Rows that
share a prefix find it in the L2 cache, so a small one is cheap to read again."""

CAPACITY = 1 << 22
"""Positions of all rows together in a captured step; their page numbers take 16 MB."""


class Kind(NamedTuple):
    """What a kernel is planned for, besides the batch."""

    heads: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    scale: float
    window: int | None
    softcap: float | None


@dataclass(slots=True)
class Reads:
    """The tables of a batch, and the kernels planned for them."""

    own: Tables
    """What each row reads alone."""
    shared: Tables | None = None
    """A row for each group: its queries read the group's common prefix."""
    members: torch.Tensor | None = None
    """Tokens of the batch that are in a group; None = all, in order."""
    planned: dict[Kind, tuple[Any, Any]] = field(default_factory=dict)
    """The kernels for ``own`` and ``shared``."""


@dataclass(slots=True)
class FlashPlan:
    """The attention of one step."""

    rows: list[Row]
    groups: list[Group]
    new_slots: torch.Tensor
    """[N] slot of each new token."""
    longest: int
    """Positions of the longest row: a window as wide hides nothing."""
    decode: bool
    """Each row has one new token."""
    reads: dict[bool, Reads] = field(default_factory=dict)
    """With the groups' prefixes read once, and without."""
    fixed: bool = False
    """Its tables stay where they are; see :meth:`FlashInferAttention.fixed_plan`."""


class FlashInferAttention(RecordableAttention):
    """FlashInfer's batch prefill and decode kernels (fa2).

    Args:
        device: a CUDA device.
        page_size: of the pool.
        token_bytes: of one token's KV in one layer.
        progress: told when kernels are compiled.
    """

    name = "flashinfer"
    capacity = CAPACITY

    def __init__(self, device: torch.device, page_size: int, token_bytes: int, progress: Progress):
        import flashinfer

        self._lib = flashinfer
        self.device, self.page_size, self._progress = device, page_size, progress
        self.least = max(1, SAVED // token_bytes)
        self._tables = TableBuilder(device, page_size)
        self._wrappers: dict[tuple[str, Kind], Any] = {}
        self._space: torch.Tensor | None = None
        self._indices: dict[str, torch.Tensor] = {}
        """``kv_indices`` of the fixed plans, of which one is in use at a time."""
        self._compiled: set[tuple[Any, ...]] = set()

    # -- plans -----------------------------------------------------------------------------

    def plan(self, rows: list[Row]) -> FlashPlan:
        return FlashPlan(
            rows,
            find_groups(rows, self.page_size, self.least),
            self._tables.slots(rows),
            max((row.start + row.count for row in rows), default=0),
            all(row.count == 1 for row in rows),
        )

    def fixed_plan(self, size: int, shared: bool) -> FlashPlan:
        slots = torch.zeros(size, dtype=torch.int64, device=self.device)
        plan = FlashPlan([], [], slots, 0, True, fixed=True)
        plan.reads[False] = Reads(self._fixed("whole", size))
        if shared:
            groups = _most_groups(size) + 1  # and one of those that share nothing
            plan.reads[True] = Reads(self._fixed("own", size), self._fixed("shared", groups))
        return plan

    def refill(self, plan: FlashPlan, rows: list[Row], groups: Sequence[Group]) -> None:
        plan.rows, plan.groups = rows, list(groups[: _most_groups(len(rows))])
        plan.longest = max(row.start + 1 for row in rows)
        plan.new_slots.copy_(self._tables.slots(rows))
        for shared, reads in plan.reads.items():
            if not reads.planned:
                continue
            now = self._read(plan, shared)
            for kind, (own, common) in reads.planned.items():
                self._prepare(own, now.own, kind, causal=False, decode=True)
                if common is not None:
                    self._prepare(common, now.shared, kind, causal=False, decode=False)

    def _fixed(self, what: str, rows: int) -> Tables:
        """Tables to be filled later."""
        sizes = rows + 1, rows + 1, rows
        small = (torch.zeros(n, dtype=torch.int32, device=self.device) for n in sizes)
        if what not in self._indices:
            pages = self.capacity // self.page_size
            self._indices[what] = torch.zeros(pages, dtype=torch.int32, device=self.device)
        return Tables(*small, self._indices[what], ())

    def _read(self, plan: FlashPlan, shared: bool) -> Reads:
        """The tables of ``plan``'s rows as they are now."""
        rows = plan.rows
        counts = [row.count for row in rows]
        skip = [0] * len(rows)
        if not shared:
            reads = [clip(row.runs, 0, row.start + row.count) for row in rows]
            return Reads(self._tables.build(reads, counts))
        heads = []
        for group in plan.groups:
            heads.append(clip(rows[group.rows[0]].runs, 0, group.length))
            for i in group.rows:
                skip[i] = group.length
        reads = [
            clip(row.runs, n, row.start + row.count) for row, n in zip(rows, skip, strict=True)
        ]
        own = self._tables.build(reads, counts)
        sizes = [sum(counts[i] for i in group.rows) for group in plan.groups]
        inside = [i for group in plan.groups for i in group.rows]
        if plan.fixed:  # rows come in the groups' order, and those of no group read nothing
            empty = _most_groups(len(rows)) - len(heads)
            sizes += [len(rows) - len(inside)] + [0] * empty
            heads += [[]] * (empty + 1)
            return Reads(own, self._tables.build(heads, sizes))
        members = None
        if inside != list(range(len(rows))):
            starts = [0]
            for count in counts:
                starts.append(starts[-1] + count)
            at = [t for i in inside for t in range(*starts[i : i + 2])]
            members = send(at, self.device, torch.int64)
        return Reads(own, self._tables.build(heads, sizes), members)

    # -- kernels ---------------------------------------------------------------------------

    def attend(
        self,
        plan: FlashPlan,
        layer: int,
        kv: KVCache,
        q: torch.Tensor,
        k: torch.Tensor | None,
        v: torch.Tensor | None,
        scoring: Scoring,
    ) -> torch.Tensor:
        scale, window, softcap, sinks = scoring
        if sinks is not None:
            raise ValueError(
                "attention: 'flashinfer' does not compute this model's attention sinks; use "
                "attention='triton' or 'torch'"
            )
        if k is not None:
            kv.write(layer, plan.new_slots, k, v)
        if window is not None and window >= plan.longest and not plan.fixed:
            window = None
        shared = bool(plan.groups) and window is None and (True in plan.reads or not plan.fixed)
        if shared not in plan.reads:
            plan.reads[shared] = self._read(plan, shared)
        reads = plan.reads[shared]
        kind = Kind(q.shape[1], kv.k.shape[2], q.shape[2], q.dtype, scale, window, softcap)
        if kind not in reads.planned:
            reads.planned[kind] = self._kernels(plan, shared, reads, kind)
        own, common = reads.planned[kind]
        pages = kv.pages(layer, self.page_size)
        if common is None:
            return own.run(q, pages)
        out, lse = own.run(q, pages, return_lse=True)
        if reads.members is None:
            part, part_lse = common.run(q, pages, return_lse=True)
            self._lib.merge_state_in_place(out, lse, part, part_lse)
            return out
        at = reads.members
        part, part_lse = common.run(q[at], pages, return_lse=True)
        merged, _ = self._lib.merge_state(out[at], lse[at], part, part_lse)
        return out.index_copy_(0, at, merged)

    def _kernels(self, plan: FlashPlan, shared: bool, reads: Reads, kind: Kind) -> tuple[Any, Any]:
        """The kernels for ``reads``, planned."""
        now = self._read(plan, shared) if plan.fixed else reads
        if plan.fixed:
            own = self._decoder(reads.own)
        else:
            own = self._kept("decode" if plan.decode else "prefill", kind)
        variant = kind.head_dim, kind.dtype, kind.window is not None, bool(kind.softcap)
        with self._compiling(variant, f"head size {kind.head_dim}"):
            self._prepare(own, now.own, kind, causal=not plan.decode, decode=plan.decode)
        if reads.shared is None:
            return own, None
        common = self._prefiller(reads.shared) if plan.fixed else self._kept("shared", kind)
        self._prepare(common, now.shared, kind, causal=False, decode=False)
        with self._compiling(("merge",), "merging"):
            one = torch.zeros(1, 1, kind.head_dim, dtype=kind.dtype, device=self.device)
            self._lib.merge_state(one, one[..., 0].float(), one, one[..., 0].float())
        return own, common

    @contextmanager
    def _compiling(self, variant: tuple[Any, ...], what: str) -> Iterator[None]:
        """The library compiles a kernel when it is asked for one the first time."""
        if variant in self._compiled:
            yield
            return
        with self._progress.task(f"compiling flashinfer's kernels ({what})"):
            yield
        self._compiled.add(variant)

    def _kept(self, what: str, kind: Kind) -> Any:
        """A wrapper for steps that are not captured, planned anew each time."""
        wrapper = self._wrappers.get((what, kind))
        if wrapper is None:
            wrapper = self._decoder() if what == "decode" else self._prefiller()
            self._wrappers[what, kind] = wrapper
        return wrapper

    def _decoder(self, fixed: Tables | None = None) -> Any:
        # Tensor cores: the queries of a key head's group fill a tile together, and prefill and
        # decode are one module to compile.
        options: dict[str, Any] = {"use_tensor_cores": True, "backend": "fa2"}
        if fixed is not None:
            options |= {
                "use_cuda_graph": True,
                "paged_kv_indptr_buffer": fixed.kv_indptr,
                "paged_kv_indices_buffer": fixed.kv_indices,
                "paged_kv_last_page_len_buffer": fixed.last_page_len,
            }
        make = self._lib.BatchDecodeWithPagedKVCacheWrapper
        return make(self._workspace(), "NHD", **options)

    def _prefiller(self, fixed: Tables | None = None) -> Any:
        options: dict[str, Any] = {"backend": "fa2"}
        if fixed is not None:
            options |= {
                "use_cuda_graph": True,
                "qo_indptr_buf": fixed.qo_indptr,
                "paged_kv_indptr_buf": fixed.kv_indptr,
                "paged_kv_indices_buf": fixed.kv_indices,
                "paged_kv_last_page_len_buf": fixed.last_page_len,
            }
        make = self._lib.BatchPrefillWithPagedKVCacheWrapper
        return make(self._workspace(), "NHD", **options)

    def _prepare(
        self, wrapper: Any, tables: Tables, kind: Kind, *, causal: bool, decode: bool
    ) -> None:
        """Plan ``wrapper`` for ``tables``."""
        qo, kv, last = tables.host
        options = {
            "sm_scale": kind.scale,
            "window_left": -1 if kind.window is None else kind.window - 1,
            "logits_soft_cap": kind.softcap,
            "q_data_type": kind.dtype,
            "kv_data_type": kind.dtype,
        }
        shape = kind.heads, kind.kv_heads, kind.head_dim, self.page_size
        if decode:
            wrapper.plan(kv, tables.kv_indices, last, *shape, **options)
        else:
            wrapper.plan(qo, kv, tables.kv_indices, last, *shape, causal=causal, **options)

    def _workspace(self) -> torch.Tensor:
        """Shared by all kernels: one runs after the other."""
        if self._space is None:
            self._space = torch.zeros(WORKSPACE, dtype=torch.uint8, device=self.device)
        return self._space

    def release(self) -> None:
        self._wrappers.clear()
        self._indices.clear()
        self._space = None


def _most_groups(rows: int) -> int:
    """Groups in a captured step. Few: the kernel's tiles are sized for the longest group there
    can be, and many small tiles would read the prefix many times."""
    return max(1, rows // 8)
