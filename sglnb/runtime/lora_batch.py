"""LoRA in a batch: each adapter's part is added to the rows of its requests alone."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from .lora import LoraWeights

if TYPE_CHECKING:
    from .models import Model
    from .scheduler import Work

Rows = slice | torch.Tensor
"""Token numbers in a batch."""


class Target(NamedTuple):
    """A linear layer that an adapter can change."""

    key: Hashable
    """What the model calls the product it is part of; several may be computed as one."""
    start: int
    """First column of the product's result that is its own."""
    inputs: int
    outputs: int


class Delta(NamedTuple):
    """One adapter's addition to one product."""

    a: torch.Tensor
    """[in, rank]."""
    b: torch.Tensor
    """[rank, out], scaled."""
    columns: slice


class Adapter:
    """A loaded adapter, made ready for one model.

    Args:
        name: what the user calls it.
        weights: what its files hold.
        model: the model it changes.

    Raises:
        ValueError: it changes what the model does not have, or has other shapes.
    """

    def __init__(self, name: str, weights: LoraWeights, model: Model):
        self.name = name
        self.rank = max(pair.a.shape[1] for pair in weights.pairs.values())
        self.extra_key = f"lora {name} {weights.digest}"
        """Namespace in the cache: other weights under the same name never find its KV."""
        self.deltas: dict[Hashable, list[Delta]] = {}
        targets = model.lora_targets()
        for module, (a, b) in weights.pairs.items():
            target = targets.get(module)
            if target is None:
                last = sorted({path.rpartition(".")[2] for path in targets})
                raise ValueError(
                    f"lora_path: the adapter changes {module!r}; in this model it can change "
                    f"{', '.join(last) or 'nothing'} of the text decoder's layers"
                )
            if (a.shape[0], b.shape[1]) != (target.inputs, target.outputs):
                raise ValueError(
                    f"lora_path: {module!r} is a layer from {target.inputs} to {target.outputs} "
                    f"values, the adapter's from {a.shape[0]} to {b.shape[1]}; it was trained on "
                    "another model"
                )
            columns = slice(target.start, target.start + target.outputs)
            a, b = (x.to(model.device, model.dtype).contiguous() for x in (a, b))
            self.deltas.setdefault(target.key, []).append(Delta(a, b, columns))

    @property
    def nbytes(self) -> int:
        """Memory of its matrices."""
        return sum(d.a.nbytes + d.b.nbytes for ds in self.deltas.values() for d in ds)

    def __repr__(self) -> str:
        return f"Adapter({self.name!r}, rank {self.rank})"


def group(work: list[Work], device: torch.device) -> list[tuple[Rows, Adapter]]:
    """Which rows of the batch that ``work`` makes each adapter is for."""
    ranges: dict[int, list[tuple[int, int]]] = {}
    adapters: dict[int, Adapter] = {}
    at = 0
    for request, count in work:
        if request.lora is not None:
            adapters[id(request.lora)] = request.lora
            spans = ranges.setdefault(id(request.lora), [])
            if spans and spans[-1][1] == at:
                spans[-1] = (spans[-1][0], at + count)
            else:
                spans.append((at, at + count))
        at += count
    out: list[tuple[Rows, Adapter]] = []
    for number, spans in ranges.items():
        rows: Rows = slice(*spans[0])
        if len(spans) > 1:
            rows = torch.tensor([i for span in spans for i in range(*span)], device=device)
        out.append((rows, adapters[number]))
    return out


def add_lora(
    adapters: Sequence[tuple[Rows, Adapter]], key: Hashable, x: torch.Tensor, y: torch.Tensor
) -> None:
    """Add to y [n, out], the product ``key`` of x [n, in], what the adapters make of it."""
    for rows, adapter in adapters:
        for a, b, columns in adapter.deltas.get(key, ()):
            y[rows, columns] += (x[rows] @ a) @ b
