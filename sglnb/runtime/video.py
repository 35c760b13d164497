"""Videos as frames: some of them, evenly picked, each an image of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from .arguments import number
from .images import BROKEN, Image, load_image

KINDS = "a video file's path, an animated GIF or WebP, or a list of frames"


def load_frames(source: Any, num_frames: int, name: str = "video") -> list[Image]:
    """``num_frames`` frames of a video, from the first to the last at even distances; all of
    them if there are no more.

    Args:
        source: a list of frames (whatever :func:`load_image` takes), a numpy array [frames,
            height, width, channels], or the path of an animated image or a video file. Video
            files need PyAV or OpenCV.
        name: the argument that errors speak of.

    Raises:
        ValueError: there is no such file, it has no frames, or no library to read it.
    """
    number("num_frames", num_frames, 1, whole=True)
    if isinstance(source, (list, tuple)) or (isinstance(source, np.ndarray) and source.ndim == 4):
        if not len(source):
            raise ValueError(f"{name}: the list of frames is empty")
        return [load_image(source[i], f"{name}[{i}]") for i in pick(len(source), num_frames)]
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"{name}: must be {KINDS}, got {type(source).__name__}")
    path = Path(source).expanduser()
    if not path.is_file():
        raise ValueError(f"{name}: no file {str(source)!r}; it must be {KINDS}")
    try:
        with PIL.Image.open(path) as animation:
            frames = _from_animation(animation, num_frames)
    except PIL.UnidentifiedImageError:  # no image: a video, if anything
        return _from_file(path, num_frames, name)
    except BROKEN as error:
        raise ValueError(f"{name}: {str(path)!r} is a broken image: {error}") from error
    return [load_image(frame, name) for frame in frames]


def pick(total: int, wanted: int) -> list[int]:
    """At most ``wanted`` of the numbers 0 to ``total - 1``, both ends among them, evenly spread."""
    if wanted >= total:
        return list(range(total))
    if wanted == 1:
        return [0]
    return [round(i * (total - 1) / (wanted - 1)) for i in range(wanted)]


def _from_animation(animation: PIL.Image.Image, wanted: int) -> list[PIL.Image.Image]:
    out = []
    for i in pick(getattr(animation, "n_frames", 1), wanted):
        animation.seek(i)
        out.append(animation.convert("RGB"))
    return out


def _from_file(path: Path, wanted: int, name: str) -> list[Image]:
    if find_spec("av") is not None:
        frames, broken = _with_av, _av_error()
    elif find_spec("cv2") is not None:
        frames, broken = _with_opencv, OSError
    else:
        raise ValueError(
            f"{name}: {str(path)!r} is no image; to read video files run: pip install av"
        )
    try:
        total = sum(1 for _ in frames(path, set()))  # what files say of their length is often wrong
        picked = set(pick(total, wanted))
        found = [load_image(frame, name) for frame in frames(path, picked) if frame is not None]
    except broken as error:
        raise ValueError(f"{name}: {str(path)!r} cannot be read as a video: {error}") from error
    if not found:
        raise ValueError(f"{name}: {str(path)!r} has no video frames")
    return found


def _av_error() -> type[Exception]:
    import av

    return av.FFmpegError


def _with_av(path: Path, picked: set[int]) -> Iterator[np.ndarray | None]:
    """Each frame [height, width, 3] of a file, None for those not in ``picked``."""
    import av

    with av.open(str(path)) as container:
        if not container.streams.video:
            return
        for i, frame in enumerate(container.decode(video=0)):
            yield frame.to_ndarray(format="rgb24") if i in picked else None


def _with_opencv(path: Path, picked: set[int]) -> Iterator[np.ndarray | None]:
    """:func:`_with_av` with OpenCV."""
    import cv2

    reader = cv2.VideoCapture(str(path))
    try:
        i = 0
        while reader.grab():
            if i in picked:
                _, frame = reader.retrieve()
                yield np.ascontiguousarray(frame[..., ::-1])  # from BGR
            else:
                yield None
            i += 1
    finally:
        reader.release()
