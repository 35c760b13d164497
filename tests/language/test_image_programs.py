"""Programs that show images to a model."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image as Pillow
from vision_checkpoints import build, picture

import sglnb.language as sgl
from sglnb.language import GenerationError
from sglnb.runtime import Engine

HERE = "<image>\n"


@pytest.fixture(scope="module")
def seeing(tmp_path_factory, model_dir):
    folder = build("llava", tmp_path_factory.mktemp("llava"), model_dir)
    with Engine(str(folder), kv_tokens=2000, seed=0) as engine:
        yield engine
        engine.check()


@sgl.function
def ask(s, image, question):
    s += sgl.user(sgl.image(image) + question)
    s += sgl.assistant(sgl.gen("answer", max_tokens=8))


def test_the_program_writes_what_the_engine_does(seeing):
    state = ask.run(picture(1), "What is this?", backend=seeing, temperature=0)
    prompt = f"USER: {HERE}What is this?\nASSISTANT: "
    greedy = {"temperature": 0, "max_new_tokens": 8}
    assert seeing.image_text == HERE
    assert state.text().rstrip("\n") == prompt + state["answer"]
    assert state["answer"] == seeing.generate(prompt, greedy, image_data=picture(1))["text"]
    other = ask.run(picture(2), "What is this?", backend=seeing, temperature=0)
    assert other["answer"] != state["answer"]


def test_messages_are_those_of_the_openai_api(seeing):
    state = ask.run(picture(1), "What is this?", backend=seeing)
    user, assistant = state.messages()
    assert [part["type"] for part in user["content"]] == ["image_url", "text"]
    assert user["content"][1] == {"type": "text", "text": "What is this?"}
    head, _, body = user["content"][0]["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert Pillow.open(io.BytesIO(base64.b64decode(body))).tobytes() == picture(1).tobytes()
    assert assistant == {"role": "assistant", "content": state["answer"].lstrip()}
    again = ask.run(user["content"][0]["image_url"]["url"], "What is this?", backend=seeing)
    assert again.get_meta_info("answer")["cached_tokens"] > 20


def test_several_images_and_forks_share_them(seeing):
    seeing.cache.flush()
    looked = seeing.metrics()["images_encoded"]
    s = sgl.start_state(seeing, defaults={"temperature": 0})
    first, second = picture(21), picture(22)
    s += "One: " + sgl.image(first) + "two: " + sgl.image(second)
    branches = s.fork(3)
    branches += lambda i: f" Question {i}?" + sgl.gen("a", max_tokens=6)
    branches[0] += sgl.image(picture(23)) + sgl.gen("b", max_tokens=6)
    branches.join()
    assert len(s["a"]) == 3
    greedy = {"temperature": 0, "max_new_tokens": 6}
    prompt = f"One: {HERE}two: {HERE} Question 2?"
    assert s["a"][2] == seeing.generate(prompt, greedy, image_data=[first, second])["text"]
    prompt = f"One: {HERE}two: {HERE} Question 0?{s['a'][0]}{HERE}"
    images = [first, second, picture(23)]
    assert s["b"][0] == seeing.generate(prompt, greedy, image_data=images)["text"]
    assert seeing.metrics()["images_encoded"] == looked + 3
    s += sgl.gen("more", max_tokens=4)
    assert s["more"] is not None
    sgl.finish_run(s)


def test_branches_that_show_images_are_joined(seeing):
    s = sgl.start_state(seeing, defaults={"temperature": 0})
    s += "Look: "
    branches = s.fork(2)
    branches += lambda i: f"{i} " + sgl.image(picture(i)) + "seen. "
    branches.join("concate_and_append")
    s += sgl.gen("x", max_tokens=6)
    prompt = f"Look: 0 {HERE}seen. 1 {HERE}seen. "
    greedy = {"temperature": 0, "max_new_tokens": 6}
    expected = seeing.generate(prompt, greedy, image_data=[picture(0), picture(1)])["text"]
    assert s["x"] == expected
    sgl.finish_run(s)


@pytest.mark.parametrize(
    "method", ["token_length_normalized", "unconditional_likelihood_normalized"]
)
def test_select_sees_the_image(seeing, method):
    scores = []
    for image in (picture(1), picture(2)):
        s = sgl.start_state(seeing)
        s += sgl.image(image) + "This is a" + sgl.select("x", [" cat", " dog"], 0, method)
        assert s["x"] in (" cat", " dog")
        scores.append(s.get_meta_info("x")["normalized_prompt_logprobs"])
        sgl.finish_run(s)
    assert scores[0] != scores[1]


def test_an_image_that_is_none_fails_at_its_line(seeing):
    def program(s):
        s += "Look: "
        s += sgl.user(sgl.image("no-such-cat.png"))

    with pytest.raises(ValueError, match=r"image: no file 'no-such-cat\.png'") as caught:
        sgl.function(program).run(backend=seeing)
    lines = [entry.lineno for entry in caught.traceback if entry.path == Path(__file__)]
    assert lines[-1] + 1 == program.__code__.co_firstlineno + 2
    assert ask.run(picture(1), "Still there?", backend=seeing)["answer"] is not None


def test_a_model_without_vision_fails_at_the_line(engine):
    with pytest.raises(ValueError, match="image: sgl-tiny takes no images"):
        ask.run(picture(1), "What is this?", backend=engine)
    s = sgl.start_state(engine)
    with pytest.raises(ValueError, match="takes no images"):
        s += "Look: " + sgl.image(picture(1))
    s += "The state goes on" + sgl.gen("x", max_tokens=2)
    assert isinstance(s["x"], str)
    sgl.finish_run(s)


def test_a_placeholder_in_the_users_text_is_told(seeing):
    state = ask.run(picture(1), "What does <image> mean?", backend=seeing)
    with pytest.raises(GenerationError, match="2 image placeholders"):
        state["answer"]


def test_run_batch(seeing):
    rows = [{"image": picture(i % 2), "question": f"Question {i}?"} for i in range(6)]
    states = ask.run_batch(rows, backend=seeing, temperature=0)
    assert [s.error() for s in states] == [None] * 6
    alone = ask.run(**rows[3], backend=seeing, temperature=0)
    assert states[3]["answer"] == alone["answer"]


def test_expressions_say_what_they_are():
    assert repr(sgl.image(picture(1))).startswith("Image('")
    assert isinstance("a" + sgl.image(picture(1)) + "b", sgl.SglExpr)
    with pytest.raises(ValueError, match="image: must be a file's path"):
        sgl.image(3)


def test_a_video_is_its_frames(seeing):
    frames = [picture(i) for i in range(9)]
    s = sgl.start_state(seeing, defaults={"temperature": 0})
    s += sgl.user(sgl.video(frames, num_frames=3) + "What happens?") + sgl.gen("x", max_tokens=6)
    picked = [frames[0], frames[4], frames[8]]
    prompt = f"USER: {HERE * 3}What happens?\n"
    greedy = {"temperature": 0, "max_new_tokens": 6}
    assert s["x"] == seeing.generate(prompt, greedy, image_data=picked)["text"]
    kinds = [part["type"] for part in s.messages()[0]["content"]]
    assert kinds == ["image_url"] * 3 + ["text"]
    sgl.finish_run(s)
    with pytest.raises(ValueError, match="video: no file"):
        sgl.video("no-such.mp4")
