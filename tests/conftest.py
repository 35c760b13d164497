"""What all tests share: the embedded model's engine, and where outside data lies."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

# Started in the background of a shell, Python inherits an ignored SIGINT: Ctrl-C would do nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


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


def pytest_collection_modifyitems(items):
    """Browser tests last: playwright leaves an event loop running in the main thread."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium. One for the session: playwright starts once in a process."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.fail("Chromium is missing. Run as root: apt-get install -y chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()
