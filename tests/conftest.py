"""What all tests share: the embedded model's engine, and where outside data lies."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# Started in the background of a shell, Python inherits an ignored SIGINT: Ctrl-C would do nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The embedded checkpoint."""
    return ROOT / "sglnb" / "assets" / "sgl-tiny"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real tokenizers and checkpoints that are not part of the project."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data folder {SHARED.name}/ beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def engine():
    """One engine on the embedded model for the whole session; its books are checked at the
    end."""
    from sglnb.runtime import Engine

    with Engine(kv_tokens=20_000) as engine:
        yield engine
        engine.check()
