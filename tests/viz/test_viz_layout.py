"""The pure layout functions in JavaScript, run with ``node --test``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from viz_node import node


def test_node_tests_pass():
    tests = sorted(Path(__file__).parent.glob("*.test.mjs"))
    done = subprocess.run([node(), "--test", *tests], capture_output=True, text=True, timeout=120,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
