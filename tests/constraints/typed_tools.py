"""A model made of dice that writes calls and expressions, and type checkers to judge them."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import dice


def walk(constraint, tokenizer, rng: random.Random, limit: int = 45) -> str | None:
    """A text through the masks, of a length that dice tell too. None: none that short was found."""
    ids = dice.write(constraint, tokenizer, rng, rng.choice([limit, rng.randint(3, limit)]))
    return None if ids is None else tokenizer.decode(ids)


def walks(constraint, tokenizer, count: int, seed: int = 0) -> list[str]:
    """About ``count`` different texts; fewer if there are few."""
    rng = random.Random(seed)
    found: set[str] = set()
    for _ in range(3 * count):
        text = walk(constraint, tokenizer, rng)
        if text is not None:
            found.add(text)
        if len(found) == count:
            break
    return sorted(found)


def mypy(source: str, folder: Path) -> dict[int, str]:
    """What mypy says of ``source``, by line."""
    file = folder / "judged.py"
    file.write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context",
         "--no-incremental", "--cache-dir", str(folder / "cache"), str(file)],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(r"judged\.py:(\d+): error: (.*)", done.stdout)
    return {int(line): message for line, message in found}
