"""The random numbers of sampling: a function of (seed, position, token id) and of nothing else.

There is no generator with a state. The noise of a token is a hash of its id under keys that come
from the request's seed and the position: ``(K * table[id] + A) mod 2**64``, of which the upper 32
bits are used (multiply-shift hashing; Dietzfelbinger et al. 1997). That is integer arithmetic on
tensors, exact on every device, so a row draws the same token alone or in a batch, and whether the
noise is computed for the whole vocabulary or for a few candidates.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

_BLOCK = 1 << 15
"""Entries computed at once on a CPU: what its cache holds."""
_BLOCK_DEVICE = 1 << 24


class Noise:
    """Draws by the exponential race: of the tokens with weights w, the one with the largest
    w / e, e ~ Exp(1) independent, is token i with probability w_i / sum(w).

    Args:
        vocab_size: number of token ids.
    """

    def __init__(self, vocab_size: int, device: torch.device):
        table = torch.from_numpy(_hash(np.arange(1, vocab_size + 1, dtype=np.uint64)))
        self.table = table.to(device)
        """[vocab_size] int64, the hash of each id."""
        self._block = _BLOCK if device.type == "cpu" else _BLOCK_DEVICE

    def keys(self, places: list[tuple[int, int]]) -> np.ndarray:
        """[places, 2] int64: multiplier and offset of each (seed, position)."""
        return np.array([_keys(*place) for place in places], dtype=np.int64)

    def race(
        self, weights: torch.Tensor, places: list[tuple[int, int]], ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw one column of each row.

        Args:
            weights: [rows, columns] float32, not negative, at least one above 0 in each row.
            places: (seed, position) of each row.
            ids: [rows, columns] token ids of the columns; None: column i is token i.

        Returns:
            [rows] column numbers.
        """
        keys = torch.from_numpy(self.keys(places)).to(weights.device)
        rows = max(1, self._block // weights.shape[1])
        out = []
        for at in range(0, len(places), rows):
            part = slice(at, at + rows)
            table = self.table if ids is None else self.table[ids[part]]
            scores = _exponential(_mix(table, keys[part])).reciprocal_().mul_(weights[part])
            out.append(scores.argmax(-1))
        return torch.cat(out)


def _mix(table: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """64 random bits for each of ``table``'s entries under each row's keys [rows, 2]."""
    return (table * keys[:, :1]).add_(keys[:, 1:])


def _exponential(mixed: torch.Tensor) -> torch.Tensor:
    """Exp(1) noise from random bits, which are overwritten; float64, so that the last bit of a
    logarithm decides nothing."""
    upper = mixed.bitwise_right_shift_(32)  # -2**31 .. 2**31 - 1
    uniform = upper.double().add_(2**31 + 0.5).mul_(2.0**-32)  # inside (0, 1)
    return uniform.log_().neg_()


def _keys(seed: int, position: int) -> tuple[int, int]:
    """Multiplier (odd) and offset of one place, unrelated for neighbouring places."""
    digest = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=16).digest()
    multiplier = int.from_bytes(digest[:8], "little", signed=True) | 1
    return multiplier, int.from_bytes(digest[8:], "little", signed=True)


def _hash(x: np.ndarray) -> np.ndarray:
    """64 unrelated bits for each number (the output function of splitmix64), as int64."""
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).view(np.int64)
