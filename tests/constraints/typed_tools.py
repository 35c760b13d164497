"""A model made of dice that writes calls and expressions, and type checkers to judge them."""

from __future__ import annotations

import functools
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

_CLOSING = {b'"', b")", b"]", b"}", b'")', b"))", b'"]', b'"}', b"}}", b"1", b"0"}


def walk(constraint, tokenizer, rng: random.Random, limit: int = 90) -> str | None:
    """A text through the masks; after a while it looks for the end. None: it found none."""
    cursor, ids = constraint.start(), []
    eager = rng.randint(4, 40)
    closing = _closing(tokenizer)
    while not cursor.done:
        if len(ids) > limit:
            return None
        bits = np.unpackbits(cursor.allowed().view(np.uint8), bitorder="little")
        legal = np.flatnonzero(bits)
        assert len(legal)
        if cursor.is_final and len(ids) >= eager:
            break
        near = closing[bits[closing] == 1]
        inside = len(legal) > tokenizer.vocab_size // 4  # of quotes: there all else is legal too
        wanted = len(near) and (inside or len(ids) >= eager) and rng.random() < 0.7
        token = int(rng.choice(near if wanted else legal))
        if token in tokenizer.eos_ids:
            break
        cursor.advance(token)
        ids.append(token)
    assert cursor.is_final
    return tokenizer.decode(ids)


@functools.cache
def _closing(tokenizer) -> np.ndarray:
    return np.array([i for i, raw in enumerate(tokenizer.token_bytes) if raw in _CLOSING])


def walks(constraint, tokenizer, count: int, seed: int = 0) -> list[str]:
    """About ``count`` different texts."""
    rng = random.Random(seed)
    found = {walk(constraint, tokenizer, rng) for _ in range(count)}
    return sorted(text for text in found if text is not None)


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
