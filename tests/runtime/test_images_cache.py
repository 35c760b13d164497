"""Images in the cache: keys, what the views show, and what goes wrong."""

from __future__ import annotations

import hashlib
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_images import GREEDY
from vision_checkpoints import Reference, build, picture

from sglnb.errors import EngineError
from sglnb.runtime import Engine
from sglnb.runtime.byte_lru import ByteLRU
from sglnb.runtime.image_keys import ImageKeys
from sglnb.runtime.images import load_image
from sglnb.viz import static_html


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, model_dir):
    return build("qwen2-vl", tmp_path_factory.mktemp("qwen"), model_dir)


@pytest.fixture
def engine(checkpoint):
    with Engine(str(checkpoint), kv_tokens=1000) as engine:
        yield engine
        engine.check()


@pytest.fixture(scope="module")
def here(checkpoint):
    return Reference("qwen2-vl", checkpoint).placeholder


# -- keys ----------------------------------------------------------------------------------


def test_keys_belong_to_one_image_and_offset():
    keys = ImageKeys(tokenizer=None, most=3)
    known = {}
    for name in (b"a" * 32, b"b" * 32, b"a" * 31 + b"b", b"a" * 32, b"c" * 32, b"b" * 32):
        for offset, key in enumerate(keys.keys(name, 5)):
            assert key < 0
            assert known.setdefault(key, (name, offset)) == (name, offset)
    assert len(known) >= 20


def test_forgotten_images_get_new_keys():
    keys = ImageKeys(SimpleNamespace(pieces=[]), most=2)
    first = keys.keys(b"a" * 32, 3)
    assert keys.keys(b"a" * 32, 3) == first
    keys.keys(b"b" * 32, 3), keys.keys(b"c" * 32, 3)
    again = keys.keys(b"a" * 32, 3)
    assert not set(again) & set(first)
    assert keys.pieces([first[0], again[0], again[1]]) == ["<image ?>", "<image 61616161>", "▪"]


def test_keys_from_many_threads():
    keys = ImageKeys(tokenizer=None)
    digests = [bytes([i]) * 32 for i in range(40)]
    found = [[] for _ in range(8)]
    threads = [
        threading.Thread(target=lambda out=out: out.extend(keys.keys(d, 2) for d in digests))
        for out in found
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(out == found[0] for out in found)
    assert len({key for pair in found[0] for key in pair}) == 80


def thirty_bits(pixels: np.ndarray) -> int:
    """A hash as short as the one that SGLang's cache knows an image by."""
    digest = hashlib.sha256(b"RGB 16x8 " + pixels.tobytes()).digest()
    return int.from_bytes(digest[:8]) % 2**30


def test_images_whose_short_hashes_collide_are_kept_apart(engine, here):
    """SGLang issues 2151, 22033, 25462: a 30-bit hash took one image for another."""
    rng = np.random.default_rng(5)
    seen: dict[int, np.ndarray] = {}
    while True:
        one = rng.integers(0, 256, (8, 16, 3), dtype=np.uint8)
        other = seen.setdefault(thirty_bits(one), one)
        if other is not one:
            break
    assert load_image(one).digest[:8] != load_image(other).digest[:8]
    prompt = f"What is {here} in this picture"
    first = engine.generate(prompt, GREEDY, image_data=one)
    second = engine.generate(prompt, GREEDY, image_data=other)
    before = engine.tokenizer.encode(prompt.partition("<|image_pad|>")[0])
    assert second["meta_info"]["cached_tokens"] == len(before)
    assert first["output_ids"] != second["output_ids"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60))
def test_lru_stays_within_its_bytes(puts):
    lru, order = ByteLRU(100), {}
    for key, size in puts:
        if key % 2 and lru.get(key) is not None:
            order[key] = order.pop(key)
        order.pop(key, None)
        lru.put(key, size, size)
        order[key] = size
        while sum(order.values()) > 100:
            del order[next(iter(order))]
        assert lru.nbytes == sum(order.values()) <= 100
        assert len(lru) == len(order)
    assert all(lru.get(key) == size for key, size in order.items())


# -- what is seen --------------------------------------------------------------------------


def test_views_show_an_image_as_one_readable_piece(engine, here):
    image = load_image(picture(7))
    prompt = f"See {here} there"
    request = engine.submit(prompt, GREEDY, image_data=image, run="x").result()
    name = f"<image {image.digest.hex()[:8]}>"
    arrived = next(e for e in engine.events.since(0) if e.kind == "request_arrived")
    assert arrived.pieces.count(name) == 1
    assert arrived.pieces.count("▪") == len([i for i in arrived.ids if i < 0]) - 1 > 0
    nodes = engine.cache.snapshot()
    assert sum(node["text"].count(name) for node in nodes) == 1
    assert sum(node["pieces"].count(name) for node in nodes) == 1
    engine.cache.emit_snapshot()
    assert name.strip("<>") in static_html(engine.events.since(0), "x")
    assert request.images is None, "a request that is done keeps no pixels"


def test_match_knows_images(engine, here):
    prompt = f"See {here} there"
    engine.generate(prompt, GREEDY, image_data=picture(7))
    ids = engine.prompt_ids(prompt, picture(7))
    match = engine.cache.match(prompt, image_data=picture(7))
    assert (match.tokens, match.cached) == (len(ids), len(ids))
    assert f"<image {load_image(picture(7)).digest.hex()[:8]}>" in match.text
    other = engine.cache.match(prompt, image_data=picture(8))
    assert other.cached < len(ids) - 2
    handle = engine.cache.pin(prompt, image_data=picture(7))
    engine.cache.flush()
    assert engine.cache.match(prompt, image_data=picture(7)).cached == len(ids)
    engine.cache.unpin(handle)


# -- requests ------------------------------------------------------------------------------


def test_expanded_ids_are_taken_as_they_are(engine, here):
    prompt = f"See {here} there"
    ids = engine.prompt_ids(prompt, picture(7))
    assert ids.count(engine._core.runner.model.image_token_id) > 1
    text = engine.generate(prompt, GREEDY, image_data=[picture(7)])
    again = engine.generate(ids, GREEDY, image_data=[picture(7)])
    assert text["output_ids"] == again["output_ids"]
    assert again["meta_info"]["cached_tokens"] == len(ids) - 1


def test_logprobs_of_a_prompt_with_an_image(engine, here):
    prompt, options = f"See {here} there", {"return_logprob": True, "logprob_start_len": 0}
    cold = engine.generate(prompt, GREEDY, image_data=picture(7), **options)["meta_info"]
    warm = engine.generate(prompt, GREEDY, image_data=picture(7), **options)["meta_info"]
    assert cold["prompt_tokens"] == len(cold["input_token_logprobs"])
    for one, other in zip(cold["input_token_logprobs"], warm["input_token_logprobs"], strict=True):
        assert one[1:] == other[1:]
        assert one[0] == pytest.approx(other[0], abs=1e-3)


def test_mistakes(engine, here, checkpoint):
    cases = [
        (f"See {here}", None, "1 image placeholders .* for 0 images"),
        ("See", picture(1), "0 image placeholders .* for 1 images"),
        (f"{here}{here}", [picture(1)], "2 image placeholders .* for 1 images"),
        (f"See {here}", "cat.png", "image_data: no file 'cat.png'"),
        (f"See {here}", [picture(1), 3], r"image_data\[1\]: must be"),
    ]
    for prompt, images, message in cases:
        with pytest.raises(ValueError, match=message):
            engine.submit(prompt, GREEDY, image_data=images)
    with pytest.raises(ValueError, match="image_data: for 2 prompts"):
        engine.generate([f"{here}"] * 2, GREEDY, image_data=[picture(1)])
    with pytest.raises(ValueError, match="do not fit in the context"):
        engine.submit(here * 30, GREEDY, image_data=[picture(1)] * 30)
    assert engine.generate("Go on", GREEDY)["text"]


def test_a_model_without_vision_says_so():
    with (
        Engine(kv_tokens=100) as engine,
        pytest.raises(ValueError, match="image_data: sgl-tiny takes no images"),
    ):
        engine.generate("See", GREEDY, image_data=picture(1))


def test_a_failing_tower_fails_only_its_request(engine, here, monkeypatch):
    model = engine._core.runner.model
    encode = model.encode

    def fail(prepared):
        if int(prepared.inputs["image_grid_thw"][0, 1]) > 8:
            raise RuntimeError("out of memory")
        return encode(prepared)

    monkeypatch.setattr(model, "encode", fail)
    prompt = f"See {here} there"
    good = engine.submit(prompt, GREEDY, image_data=picture(1))
    bad = engine.submit(prompt, GREEDY, image_data=picture(1, 24, 60))
    other = engine.submit("The quick", GREEDY)
    with pytest.raises(EngineError, match="an image failed: RuntimeError: out of memory"):
        bad.result(30)
    assert good.result(30).output_ids
    assert other.result(30).output_ids
    engine.check()
    monkeypatch.setattr(model, "encode", encode)
    assert engine.generate(prompt, GREEDY, image_data=picture(1, 24, 60))["text"]


def test_a_small_feature_cache_only_costs_time(engine, here):
    features = engine._core.runner.features
    features._known.most = 0
    prompt = f"{here} and {here}"
    first = engine.generate(prompt, GREEDY, image_data=[picture(1), picture(2)])
    engine.cache.flush()
    assert features.encoded == 2
    second = engine.generate(prompt, GREEDY, image_data=[picture(1), picture(2)])
    assert first["output_ids"] == second["output_ids"]
    assert features.encoded == 4
