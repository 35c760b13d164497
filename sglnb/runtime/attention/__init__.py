"""Attention over the paged KV pool: one interface, several backends."""

from .base import AttentionBackend, Row
from .deterministic import DeterministicAttention
from .plan import Plan, make_plan
from .torch_backend import TorchAttention

__all__ = [
    "AttentionBackend",
    "DeterministicAttention",
    "Plan",
    "Row",
    "TorchAttention",
    "make_plan",
]
