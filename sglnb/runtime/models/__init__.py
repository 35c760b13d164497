"""Checkpoints and architectures."""

from .base import Batch, Model
from .load import EMBEDDED, load_model, resolve_model

__all__ = ["EMBEDDED", "Batch", "Model", "load_model", "resolve_model"]
