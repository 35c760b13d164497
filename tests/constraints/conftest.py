"""Five real tokenizers: the embedded model's, and four that lie beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from sglnb.runtime.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ("gpt2", "llama2", "llama3", "qwen")
_loaded: dict[str, Tokenizer] = {}


def load(name: str) -> Tokenizer:
    """A tokenizer by name, loaded once; skips the test where its files are absent."""
    if name not in _loaded:
        if name == "sgl-tiny":
            _loaded[name] = Tokenizer.from_pretrained(ROOT / "sglnb" / "assets" / "sgl-tiny")
        else:
            file = ROOT.parent / "shared" / "tokenizers" / name / "tokenizer.json"
            if not file.exists():
                pytest.skip(f"needs the {name} tokenizer in shared/ beside the checkout")
            eos = {"gpt2": 50256, "llama2": 2, "llama3": 128001, "qwen": 151645}[name]
            _loaded[name] = Tokenizer.from_file(file, eos_ids=(eos,))
    return _loaded[name]


@pytest.fixture(scope="session")
def tiny() -> Tokenizer:
    return load("sgl-tiny")


@pytest.fixture(params=["sgl-tiny", *OTHERS])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load(request.param)
