"""Arithmetic whose bits do not depend on the batch: what ``deterministic=True`` rests on.

A decoder step is made of four kinds of operations, and each keeps its bits in its own way:

* matrix products: oneDNN sums a packed product in the same order for two or more rows, however
  many, and any number of threads; a single row is computed as two (:class:`InvariantLinear`).
  That is no promise of the library, so :func:`prove` tries it, bit by bit, for each shape when a
  model is loaded;
* sums, products and square roots of single numbers are rounded exactly, in any order of work;
* RMSNorm adds up each row by itself; tried by :func:`prove` too;
* exp is computed in one way inside a vector and in another at the ends of a thread's share,
  with different last bits: :func:`silu` sees to it that there are no such ends.

Attention is in :mod:`sglnb.runtime.attention.deterministic`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F

from .linear import Linear

ROWS = (1, 2, 3, 5, 8, 13, 16, 31, 64, 100, 192, 513)
"""Sizes of batches that are tried."""

GRAIN = 32768
"""Elements below which torch does not share an elementwise operation among threads."""

VECTOR = 64
"""A multiple of the elements that any machine's vector loop takes at a time."""


class InvariantLinear(Linear):
    """A layer that computes one row as it computes many. With AVX-512 a product of one row is
    another kernel, which sums a long row (over about 1,000 inputs) in parts."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return super().__call__(x) if len(x) > 1 else super().__call__(x.repeat(2, 1))[:1]

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        if len(x) > 1:
            return super().plus(x, other)
        return super().plus(x.repeat(2, 1), other.repeat(2, 1))[:1]


def silu(x: torch.Tensor) -> torch.Tensor:
    """SiLU of x [n, width]: each element goes through the vector loop, by one thread."""
    width = x.shape[1]
    padded = F.pad(x, (0, -width % VECTOR)).contiguous()
    step = max(1, GRAIN // padded.shape[1])
    parts = [F.silu(part) for part in padded.split(step)]
    return torch.cat(parts)[:, :width]


def prove(
    linears: Iterable[Linear], norm: Callable[[torch.Tensor], torch.Tensor], width: int
) -> None:
    """Try every shape of product, and the norm, with other batches and numbers of threads.

    Args:
        linears: all products of a model; one of each shape is tried.
        norm: x [n, width] -> normalized.

    Raises:
        ValueError: some bit differs.
    """
    threads = torch.get_num_threads()
    shapes = {(linear.inputs, linear.outputs, linear.bias is None): linear for linear in linears}
    generator = torch.Generator().manual_seed(0)
    try:
        for (inputs, outputs, _), linear in shapes.items():
            x = torch.randn(max(ROWS), inputs, generator=generator)
            other = torch.randn(max(ROWS), outputs, generator=generator)
            what = f"the product of {inputs} by {outputs}"
            _try(what, threads, lambda part, f=linear, x=x: f(x[part]))
            _try(what, threads, lambda part, f=linear, x=x, o=other: f.plus(x[part], o[part]))
        x = torch.randn(max(ROWS), width, generator=generator)
        _try("the norm", threads, lambda part: norm(x[part]))
    finally:
        torch.set_num_threads(threads)


def _try(what: str, threads: int, compute: Callable[[slice], torch.Tensor]) -> None:
    want = compute(slice(None))
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        for rows in ROWS:  # the last ones: in another place than in the whole
            if not torch.equal(compute(slice(-rows, None)), want[-rows:]):
                raise ValueError(
                    f"deterministic: on this machine {what} rounds differently in a batch of "
                    f"{rows}; use deterministic=False"
                )
