"""The shared fixture logs: what Python and JavaScript must both fold to the same views."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

from sglnb.events import Event, event_from_dict

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.jsonl"))


def load_dicts(name: str) -> list[dict]:
    """A fixture log as JSON has it."""
    return [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_text().splitlines()]


def load(name: str) -> list[Event]:
    """A fixture log as events."""
    return [event_from_dict(data) for data in load_dicts(name)]


def run_of(events: list[Event]) -> str:
    """The id of the log's run."""
    return next(event.run for event in events if event.kind == "run_started")


def log_of(page: str):
    """The log that a self-contained page holds."""
    packed = re.search(r'<script type="application/gzip" id="log">([\w+/=]*)</script>', page)
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))
