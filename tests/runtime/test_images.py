"""Checkpoints that see: greedy ids equal transformers', whatever the cache and the batch."""

from __future__ import annotations

import pytest
from vision_checkpoints import Reference, build, picture

from sglnb.errors import EngineError
from sglnb.runtime import Engine, scheduler

KINDS = ["llava", "llava-full", "qwen2-vl", "qwen2.5-vl"]
GREEDY = {"max_new_tokens": 12, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module", params=KINDS)
def seeing(request, tmp_path_factory, model_dir):
    kind = request.param
    folder = build(kind, tmp_path_factory.mktemp(kind), model_dir)
    return folder, Reference(kind, folder)


def greedy(engine, prompts, images):
    params = [GREEDY] * len(prompts)
    return [r["output_ids"] for r in engine.generate(prompts, params, image_data=images)]


def test_greedy_equals_transformers(seeing):
    folder, reference = seeing
    here = reference.placeholder
    wide, tall = picture(1, 48, 24), picture(2, 24, 56)
    prompts = [
        f"Look at {here} and tell me",
        f"Look at {here} and tell me",
        f"One {here} two {here} three",
        "The quick brown fox",
    ]
    images = [[wide], tall, [wide, tall], None]
    lists = [[wide], [tall], [wide, tall], []]
    expected = [reference.generate(p, i) for p, i in zip(prompts, lists, strict=True)]
    assert expected[0] != expected[1], "the images matter"
    with Engine(str(folder), kv_tokens=2000) as engine:
        for prompt, image, ids in zip(prompts, images, expected, strict=True):
            assert engine.generate(prompt, GREEDY, image_data=image)["output_ids"] == ids
        assert engine.metrics()["images_encoded"] == 2
        warm = engine.generate(prompts, GREEDY, image_data=images)
        assert [r["output_ids"] for r in warm] == expected
        for result in warm:
            info = result["meta_info"]
            assert info["cached_tokens"] == info["prompt_tokens"] - 1
        engine.cache.flush()
        assert greedy(engine, prompts, images) == expected, "in one batch"
        assert engine.metrics()["images_encoded"] == 2
        engine.check()


def test_chunks_that_end_inside_an_image(seeing):
    folder, reference = seeing
    here = reference.placeholder
    prompt, images = f"One {here} two {here} three", [picture(1, 48, 24), picture(2, 24, 56)]
    expected = reference.generate(prompt, images)
    with Engine(str(folder), kv_tokens=1024, chunk_tokens=7, page_size=16) as engine:
        assert greedy(engine, [prompt] * 2, [images] * 2) == [expected] * 2
        assert greedy(engine, [prompt], [images]) == [expected]
        engine.release()
        with pytest.raises(EngineError, match="engine is released"):
            engine.generate(prompt, GREEDY, image_data=images)
        engine.resume()
        assert greedy(engine, [prompt], [images]) == [expected]
        engine.check()


def test_retraction(seeing, monkeypatch):
    monkeypatch.setattr(scheduler, "RESERVE", 2)  # admit more than there is room for
    folder, reference = seeing
    here = reference.placeholder
    prompts = [f"{i} {here} and then" for i in "abcd"]
    images = [[picture(i)] for i in range(4)]
    expected = [reference.generate(p, i, 80) for p, i in zip(prompts, images, strict=True)]
    with Engine(str(folder), kv_tokens=150) as engine:
        params = {**GREEDY, "max_new_tokens": 80}
        results = engine.generate(prompts, params, image_data=images)
        assert [r["output_ids"] for r in results] == expected
        assert engine.metrics()["retractions"] > 0
        engine.check()
