"""Runs the kernels' tests in Triton's interpreter, in a process of its own: the interpreter is
chosen when Triton is first imported."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("file", sorted(path.name for path in HERE.glob("interpreted/test_*.py")))
def test_kernels(file):
    triton = pytest.importorskip("triton", reason="no triton (the gpu extra brings it)")
    old = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7)
    if old and importlib.metadata.version("numpy") >= "2.4":
        pytest.skip("this triton's interpreter needs numpy before 2.4")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"interpreted/{file}",
    ]
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
