"""Tests of the Triton kernels. They run on a GPU, or in Triton's interpreter, which must be chosen
before Triton is imported: ``tests/kernels/test_in_interpreter.py`` starts them in a process with
TRITON_INTERPRET=1. Elsewhere nothing here is collected."""

from __future__ import annotations

import os

import pytest
import torch

INTERPRETER = os.environ.get("TRITON_INTERPRET") == "1"

if not INTERPRETER and not torch.cuda.is_available():
    collect_ignore_glob = ["*"]


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the kernels run."""
    return torch.device("cpu" if INTERPRETER else "cuda")
