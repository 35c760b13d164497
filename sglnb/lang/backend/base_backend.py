"""The base of backends."""

from ...language.base_backend import BaseBackend

__all__ = ["BaseBackend"]
