"""Other versions of ipykernel than the environment's own, which `make test` installs beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

VERSIONS = ("6.31", "7.1")


def environment(version: str) -> dict[str, str]:
    """The variables of a kernel whose ``ipykernel`` is ``version``; "newest" is our own."""
    if version == "newest":
        return dict(os.environ)
    folder = Path(sys.prefix) / "ipykernels" / version
    if not (folder / "ipykernel").is_dir():
        pytest.fail(
            f"ipykernel {version} is missing. Run `make test`, or {sys.executable} -m pip install "
            f"--no-deps --target {folder} 'ipykernel=={version}.*' nest-asyncio"
        )
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}
