"""Fixture logs shared by the tests of the views."""

from __future__ import annotations

import json
from pathlib import Path

from sglnb.events import Event, event_from_dict

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.jsonl"))


def load_dicts(name: str) -> list[dict]:
    text = (FIXTURES / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def load(name: str) -> list[Event]:
    return [event_from_dict(data) for data in load_dicts(name)]
