"""Attention over the paged KV pool: one interface, several backends."""

from .base import AttentionBackend, RecordableAttention, Row, Scoring
from .plan import Plan, make_plan
from .torch_backend import TorchAttention

__all__ = [
    "AttentionBackend",
    "Plan",
    "RecordableAttention",
    "Row",
    "Scoring",
    "TorchAttention",
    "make_plan",
]
