"""Videos as frames."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from vision_checkpoints import picture

from sglnb.runtime import video
from sglnb.runtime.images import load_image
from sglnb.runtime.video import load_frames, pick

FRAMES = [Pillow.new("RGB", (32, 16), (25 * i, 255 - 25 * i, 0)) for i in range(10)]


def reds(frames) -> list[int]:
    """Which of :data:`FRAMES` they are; a codec blurs the colours a little."""
    return [round(frame.pil.getpixel((9, 9))[0] / 25) for frame in frames]


@given(st.integers(1, 500), st.integers(1, 50))
def test_picked_frames_are_evenly_spread(total, wanted):
    picked = pick(total, wanted)
    assert len(picked) == len(set(picked)) == min(total, wanted)
    assert picked[0] == 0
    assert len(picked) == 1 or picked[-1] == total - 1
    steps = {b - a for a, b in pairwise(picked)}
    assert not steps or max(steps) - min(steps) <= 1


@pytest.mark.parametrize("form", ["gif", "webp"])
def test_animations(tmp_path, form):
    path = tmp_path / f"cat.{form}"
    options = {"lossless": True} if form == "webp" else {}
    FRAMES[0].save(path, save_all=True, append_images=FRAMES[1:], duration=50, **options)
    assert reds(load_frames(path, 4)) == [0, 3, 6, 9]
    assert reds(load_frames(str(path), 99)) == list(range(10))


def test_lists_and_arrays():
    stacked = np.stack([np.asarray(frame) for frame in FRAMES])
    for source in (FRAMES, tuple(FRAMES), stacked):
        assert [f.digest for f in load_frames(source, 2)] == [
            load_image(FRAMES[0]).digest,
            load_image(FRAMES[9]).digest,
        ]


def write_video(path):
    """A real file: ten frames of ten colours."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame), "rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("library", ["av", "cv2"])
def test_video_files(tmp_path, library, monkeypatch):
    pytest.importorskip(library)
    write_video(tmp_path / "cat.mp4")
    monkeypatch.setattr(video, "find_spec", lambda name: name if name == library else None)
    assert reds(load_frames(tmp_path / "cat.mp4", 4)) == [0, 3, 6, 9]
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"video: .*notes.mp4"):
        load_frames(tmp_path / "notes.mp4", 4)


def test_mistakes(tmp_path, monkeypatch):
    (tmp_path / "notes.mp4").write_text("no video")
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    broken = tmp_path / "half.gif"
    FRAMES[0].save(broken, save_all=True, append_images=[picture(1)] * 3)
    broken.write_bytes(broken.read_bytes()[:300])
    cases = [
        ([], 2, "video: the list of frames is empty"),
        (7, 2, "video: must be a video file's path"),
        (tmp_path / "none.mp4", 2, "video: no file"),
        (tmp_path / "notes.mp4", 2, "pip install av"),
        (broken, 9, "broken image"),
        ([picture(1), "cat.png"], 2, r"video\[1\]: no file 'cat.png'"),
        (FRAMES, 0, "num_frames: must be a whole number"),
        (FRAMES, 2.5, "num_frames: must be a whole number"),
    ]
    for source, wanted, message in cases:
        with pytest.raises(ValueError, match=message):
            load_frames(source, wanted)
