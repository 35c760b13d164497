"""Run JavaScript from tests with node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

STATIC = Path(__file__).resolve().parents[2] / "sglnb" / "viz" / "static"
INSTALL = "sudo apt-get install -y nodejs   # or: conda install -c conda-forge nodejs"


def node() -> str:
    """The path of node; fails the test with the cure when it is missing."""
    found = shutil.which("node")
    if found is None:
        pytest.fail(f"these tests need Node.js 18 or newer. Install it with: {INSTALL}")
    return found


def run_node(code: str, data: Any = None) -> Any:
    """Run an ES module given as text; ``input`` in it is ``data``; its ``output(x)`` returns x.

    ``static`` in it is the folder of the views' modules, to import from.
    """
    script = (
        "import { readFileSync } from 'node:fs';\n"
        "const input = JSON.parse(readFileSync(0, 'utf8'));\n"
        f"const staticUrl = {json.dumps(STATIC.as_uri())};\n"
        "const output = (x) => process.stdout.write(JSON.stringify(x));\n" + code
    )
    done = subprocess.run(
        [node(), "--input-type=module", "-e", script],
        input=json.dumps(data), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.fail(f"node failed:\n{done.stderr}")
    return json.loads(done.stdout)
