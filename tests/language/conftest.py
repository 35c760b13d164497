"""Fixtures of the language tests."""

from __future__ import annotations

import pytest
from scripted import ScriptedBackend


@pytest.fixture
def backend() -> ScriptedBackend:
    """Answers "ok" to everything, at once."""
    return ScriptedBackend()


@pytest.fixture
def held() -> ScriptedBackend:
    """Answers its request's name in angle brackets, when told to."""
    return ScriptedBackend(lambda prompt, call: f"<{call.name}>", mode="manual")
