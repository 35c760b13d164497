"""Fixtures of the language tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sglnb.language.run import current_run
from sglnb.testing import ScriptedBackend


@pytest.fixture(autouse=True)
def no_run_is_left_open() -> Iterator[None]:
    """Programs of later tests would belong to it."""
    yield
    assert current_run() is None


@pytest.fixture
def backend() -> ScriptedBackend:
    """Answers "ok" to everything, at once."""
    return ScriptedBackend()


@pytest.fixture
def held() -> ScriptedBackend:
    """Answers its request's name in angle brackets, when told to."""
    return ScriptedBackend(lambda prompt, call: f"<{call.name}>", mode="manual")
