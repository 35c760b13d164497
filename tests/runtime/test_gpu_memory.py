"""What the engine takes of a GPU, and that it gives it back."""

from __future__ import annotations

import gc

import pytest
import torch

from sglnb.runtime import Engine

pytestmark = pytest.mark.gpu
MIB = 2**20


def held() -> float:
    """MiB that this process keeps in torch's allocator."""
    gc.collect()
    return torch.cuda.memory_reserved() / MIB


def test_release_and_shutdown_give_everything_back():
    with Engine(device="cuda", kv_tokens=1000) as first:  # cuBLAS takes what it keeps for good
        first.generate("The cat", {"temperature": 0, "max_new_tokens": 12})
    torch.cuda.empty_cache()
    before = held()
    engine = Engine(device="cuda", kv_tokens=200_000)
    text = engine.generate("The cat", {"temperature": 0, "max_new_tokens": 12})["text"]
    assert held() > before + 200
    engine.release()
    assert held() < before + 16
    engine.resume()
    assert engine.generate("The cat", {"temperature": 0, "max_new_tokens": 12})["text"] == text
    engine.resize(100_000)
    assert engine.generate("The cat", {"temperature": 0, "max_new_tokens": 12})["text"] == text
    engine.check()
    engine.shutdown()
    assert held() < before + 16


def test_the_pool_leaves_room_for_others():
    mine = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    with Engine(device="cuda") as engine:
        engine.generate("The cat", {"max_new_tokens": 4})
        free, total = torch.cuda.mem_get_info()
        assert free > 0.1 * total
        torch.empty(2**30, dtype=torch.uint8, device="cuda")
    assert int(mine[:10].sum()) >= 0


def test_out_of_memory_is_no_end(monkeypatch):
    """A step that does not fit is tried in smaller parts; the text is the same."""
    with Engine(device="cuda", dtype="float32", kv_tokens=20_000) as engine:
        prompts = [f"Number {i}: " + "word " * 100 for i in range(8)]
        params = {"temperature": 0, "max_new_tokens": 8}
        want = [r["output_ids"] for r in engine.generate(prompts, params)]
        engine.cache.flush()
        core = engine._core
        forward = core.runner.model.forward

        def small(batch, kv, attention):
            if len(batch.ids) > 300:
                raise torch.OutOfMemoryError("too large")
            return forward(batch, kv, attention)

        monkeypatch.setattr(core.runner.model, "forward", small)
        assert [r["output_ids"] for r in engine.generate(prompts, params)] == want
        engine.check()
